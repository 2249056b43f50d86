# $1: first | all
home=$NODE_PATH/liquibase/dist
run() {
    exec java -XX:TieredStopAtLevel=1 -XX:-UsePerfData -cp "$home/liquibase/liquibase.jar:$home/liquibase/lib/*:/usr/share/java/postgresql.jar" \
        liquibase.integration.commandline.LiquibaseCommandLine --log-level=warning --changelog-file=changelog.yaml \
        --url="jdbc:postgresql://127.0.0.1:$PGPORT/$PGDATABASE" --username=postgres --password= "$@"
}
case $1 in first) run update-count --count=1 ;; all) run update ;; esac
