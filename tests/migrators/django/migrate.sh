# $1: first | all
case $1 in
first) exec "$PYTHON" manage.py migrate -v 0 library 0001 ;;
all) exec "$PYTHON" manage.py migrate -v 0 ;;
esac
