# $1: first | all
export DATABASE_URL="postgres://postgres@127.0.0.1:$PGPORT/$PGDATABASE"
case $1 in
first) exec node "$NODE_PATH/.bin/node-pg-migrate" up 1 ;;
all) exec node "$NODE_PATH/.bin/node-pg-migrate" up ;;
esac
