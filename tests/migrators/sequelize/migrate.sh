# $1: first | all
case $1 in
first) exec node "$NODE_PATH/.bin/sequelize-cli" db:migrate --to 1-tables.js ;;
all) exec node "$NODE_PATH/.bin/sequelize-cli" db:migrate ;;
esac
