# $1: first | all; DRIVER names SQLAlchemy's driver.
case $1 in first) to=0001 ;; all) to=head ;; esac
exec "$PYTHON" -m alembic upgrade "$to"
