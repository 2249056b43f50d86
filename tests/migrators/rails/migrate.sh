# $1: first | all
exec ruby migrate.rb "$1"
