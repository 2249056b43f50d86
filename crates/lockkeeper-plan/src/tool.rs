//! Migration tools, told apart by what they call themselves and by the tables in which they keep their own books, so that a hint
//! can say what to write in that tool's files. Never more than a hint's wording and a look at what is unfinished depends on it.

use memchr::memmem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Alembic,
    Dbmate,
    Diesel,
    Django,
    Drizzle,
    Flyway,
    GolangMigrate,
    Goose,
    Knex,
    Liquibase,
    NodePgMigrate,
    Rails,
    Refinery,
    Sequelize,
    Sqlx,
    TypeOrm,
}

/// What is looked for in a statement: each tool's own table. Rails, dbmate and golang-migrate share a name and are told apart by
/// their columns and by what the connection calls itself.
const TABLES: &[(&[u8], Tool)] = &[
    (b"alembic_version", Tool::Alembic),
    (b"django_migrations", Tool::Django),
    (b"knex_migrations", Tool::Knex),
    (b"SequelizeMeta", Tool::Sequelize),
    (b"__drizzle_migrations", Tool::Drizzle),
    (b"pgmigrations", Tool::NodePgMigrate),
    (b"_sqlx_migrations", Tool::Sqlx),
    (b"refinery_schema_history", Tool::Refinery),
    (b"flyway_schema_history", Tool::Flyway),
    (b"databasechangeloglock", Tool::Liquibase),
    (b"DATABASECHANGELOGLOCK", Tool::Liquibase),
    (b"__diesel_schema_migrations", Tool::Diesel),
    (b"goose_db_version", Tool::Goose),
    (b"ar_internal_metadata", Tool::Rails),
];

/// A table in which a tool keeps its books.
pub fn is_book(table: &str) -> bool {
    table == "schema_migrations" || TABLES.iter().any(|(name, _)| *name == table.as_bytes())
}

impl Tool {
    /// By a statement's text. Only the start of a session's statements is asked about.
    pub fn of_text(text: &[u8]) -> Option<Tool> {
        // All of these names have one.
        if memchr::memchr(b'_', text).is_none()
            && memmem::find(text, b"igrat").is_none()
            && memmem::find(text, b"equelize").is_none()
            && memmem::find(text, b"hangelog").is_none()
            && memmem::find(text, b"HANGELOG").is_none()
        {
            return None;
        }
        if let Some((_, tool)) = TABLES.iter().find(|(name, _)| memmem::find(text, name).is_some()) {
            return Some(*tool);
        }
        if memmem::find(text, b"schema_migrations").is_some() {
            return Some(match () {
                () if memmem::find(text, b"dirty").is_some() => Tool::GolangMigrate,
                () if memmem::find(text, b"\"schema_migrations\"").is_some() => Tool::Rails,
                () => Tool::Dbmate,
            });
        }
        let is_typeorm =
            memmem::find(text, b"\"migrations\"").is_some() && memmem::find(text, b"\"timestamp\"").is_some();
        is_typeorm.then_some(Tool::TypeOrm)
    }

    /// By application_name.
    pub fn of_application(name: &str) -> Option<Tool> {
        let name = name.to_ascii_lowercase();
        let known = [
            ("alembic", Tool::Alembic),
            ("django", Tool::Django),
            ("rails", Tool::Rails),
            ("flyway", Tool::Flyway),
            ("liquibase", Tool::Liquibase),
            ("knex", Tool::Knex),
            ("sequelize", Tool::Sequelize),
            ("drizzle", Tool::Drizzle),
            ("dbmate", Tool::Dbmate),
            ("sqlx", Tool::Sqlx),
            ("goose", Tool::Goose),
        ];
        known
            .iter()
            .find(|(part, _)| name.contains(part))
            .map(|(_, tool)| *tool)
    }

    /// How a migration of that tool is told to open no transaction.
    pub fn outside(self) -> &'static str {
        match self {
            Tool::Alembic => "Alembic: put it in `with op.get_context().autocommit_block():`",
            Tool::Dbmate => "dbmate: begin the migration with `-- migrate:up transaction:false`",
            Tool::Diesel => "diesel: write `run_in_transaction = false` into the migration's metadata.toml",
            Tool::Django => "Django: set `atomic = False` on the Migration class",
            Tool::Drizzle => {
                "Drizzle runs all pending migrations in one transaction: take the statement out, and run it by psql"
            }
            Tool::Flyway => "Flyway: write `executeInTransaction=false` into the migration's .conf file",
            Tool::GolangMigrate => "golang-migrate: put the statement into a migration file of its own",
            Tool::Goose => "goose: begin the migration with `-- +goose NO TRANSACTION`",
            Tool::Knex => "Knex: `exports.config = { transaction: false }` in the migration",
            Tool::Liquibase => "Liquibase: `runInTransaction: false` on the changeSet",
            Tool::NodePgMigrate => "node-pg-migrate: call `pgm.noTransaction()` in the migration",
            Tool::Rails => "Rails: `disable_ddl_transaction!` in the migration",
            Tool::Refinery => {
                "refinery: write `no_transaction` into the migration, or put the statement into a file of its own"
            }
            Tool::Sequelize => "Sequelize: do not pass `{ transaction }` to this statement",
            Tool::Sqlx => "sqlx: begin the migration with `-- no-transaction`",
            Tool::TypeOrm => "TypeORM: `transaction = false` on the migration class",
        }
    }
}

/// How long a setting is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// The migration has opened one.
    Transaction,
    /// Until it is reset.
    Session,
}

impl Tool {
    /// How a migration of that tool says that one statement is to run as it is. `setting`: `lockkeeper.override = '…'`. `comment`: of the
    /// same meaning, for a tool whose migrations are files of SQL.
    pub fn overriding(self, setting: &str, comment: &str, lasts: Lasts) -> String {
        let (set, reset) = match lasts {
            Lasts::Transaction => (format!("SET LOCAL {setting}"), None),
            Lasts::Session => (format!("SET {setting}"), Some("RESET lockkeeper.override")),
        };
        let call = |name: &str, call: &dyn Fn(&str) -> String| {
            let before = format!("{name}: put {} in front of it", call(&set));
            match reset {
                Some(reset) => format!("{before}, and {} behind it", call(reset)),
                None => before,
            }
        };
        match self {
            Tool::Alembic => call("Alembic", &|sql| format!("op.execute(\"{sql}\")")),
            Tool::Django => call("Django", &|sql| format!("migrations.RunSQL(\"{sql}\")")),
            Tool::Knex => call("Knex", &|sql| format!("await knex.raw(\"{sql}\")")),
            Tool::Liquibase => call("Liquibase", &|sql| format!("<sql>{}</sql>", escaped(sql))),
            Tool::NodePgMigrate => call("node-pg-migrate", &|sql| format!("pgm.sql(\"{sql}\")")),
            Tool::Rails => call("Rails", &|sql| format!("execute \"{sql}\"")),
            Tool::Sequelize => call("Sequelize, with the migration's transaction", &|sql| {
                format!("queryInterface.sequelize.query(\"{sql}\")")
            }),
            Tool::TypeOrm => call("TypeORM", &|sql| format!("await queryRunner.query(\"{sql}\")")),
            Tool::Dbmate
            | Tool::Diesel
            | Tool::Drizzle
            | Tool::Flyway
            | Tool::GolangMigrate
            | Tool::Goose
            | Tool::Refinery
            | Tool::Sqlx => format!("in the migration's file, in front of it {comment}"),
        }
    }
}

/// As XML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_written_in_the_tool_s_own_way() {
        let check = |tool: Tool, lasts: Lasts, expect: &str| {
            let made = tool.overriding(
                "lockkeeper.override = 'r: <why>'",
                "/* lockkeeper: allow=r reason=\"<why>\" */",
                lasts,
            );
            assert_eq!(made, expect);
        };
        check(
            Tool::Django,
            Lasts::Transaction,
            "Django: put migrations.RunSQL(\"SET LOCAL lockkeeper.override = 'r: <why>'\") in front of it",
        );
        check(
            Tool::Rails,
            Lasts::Session,
            "Rails: put execute \"SET lockkeeper.override = 'r: <why>'\" in front of it, and execute \"RESET lockkeeper.override\" behind it",
        );
        check(
            Tool::Liquibase,
            Lasts::Transaction,
            "Liquibase: put <sql>SET LOCAL lockkeeper.override = 'r: &lt;why&gt;'</sql> in front of it",
        );
        check(
            Tool::Flyway,
            Lasts::Transaction,
            "in the migration's file, in front of it /* lockkeeper: allow=r reason=\"<why>\" */",
        );
    }

    #[test]
    fn tools_are_known_by_their_books() {
        let check = |text: &str, expect: Option<Tool>| assert_eq!(Tool::of_text(text.as_bytes()), expect, "{text:?}");
        check(
            "SELECT alembic_version.version_num FROM alembic_version",
            Some(Tool::Alembic),
        );
        check(
            "SELECT \"schema_migrations\".\"version\" FROM \"schema_migrations\"",
            Some(Tool::Rails),
        );
        check(
            "select version from schema_migrations order by version",
            Some(Tool::Dbmate),
        );
        check(
            "SELECT version, dirty FROM \"public\".\"schema_migrations\" LIMIT 1",
            Some(Tool::GolangMigrate),
        );
        check(
            "SELECT name FROM \"public\".\"pgmigrations\" ORDER BY run_on, id",
            Some(Tool::NodePgMigrate),
        );
        check(
            "SELECT LOCKED FROM public.databasechangeloglock WHERE ID=1",
            Some(Tool::Liquibase),
        );
        check("SELECT name FROM users WHERE user_id = 1", None);
        check("SELECT 1", None);
    }

    #[test]
    fn every_hint_names_its_tool_s_own_words() {
        assert!(Tool::Django.outside().contains("atomic = False"));
        assert!(Tool::Rails.outside().contains("disable_ddl_transaction!"));
    }
}
