# $1: first | all
export DATABASE_URL="postgres://postgres@127.0.0.1:$PGPORT/$PGDATABASE?sslmode=disable"
mkdir -p first
cp migrations/0001_tables.sql first/
case $1 in first) dir=first ;; all) dir=migrations ;; esac
exec "$NODE_PATH/@dbmate/linux-x64/bin/dbmate" --migrations-dir "$dir" --no-dump-schema migrate
