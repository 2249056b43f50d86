# $1: first | all
exec node migrate.js "$1"
