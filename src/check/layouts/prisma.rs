//! Prisma: `prisma/migrations/<time>_<name>/migration.sql`, in the order of the directories' names, and `migration_lock.toml` beside
//! them. Each file is one message.

use super::listed::{Layout, Listed, directories, is_called, text, told};
use std::path::Path;

pub const LOCK: &str = "migration_lock.toml";
pub const FILE: &str = "migration.sql";

/// Without the lock file, which a person may have left out of the repository.
pub fn is_its_place(directory: &Path) -> bool {
    let has_migration = |name: &String| directory.join(name).join(FILE).is_file();
    is_called(directory, "migrations", "prisma")
        && directories(directory).is_ok_and(|all| all.iter().any(has_migration))
}

pub fn read(directory: &Path) -> Result<Layout, String> {
    let lock = directory.join(LOCK);
    let lock_text = text(&lock)?;
    let lock_table: toml::Table = lock_text.parse().map_err(|error| told(&lock, &error))?;
    match lock_table.get("provider").and_then(toml::Value::as_str) {
        Some("postgresql" | "postgres") => {}
        Some(other) => {
            return Err(told(
                &lock,
                &format!("these migrations are for {other}, not PostgreSQL"),
            ));
        }
        None => return Err(told(&lock, &"it has no `provider`")),
    }
    let mut layout = Layout::default();
    for name in directories(directory)? {
        let file = directory.join(&name).join(FILE);
        if !file.is_file() {
            return Err(told(
                &directory.join(name),
                &"there is no migration.sql in it, and Prisma runs none of the migrations then",
            ));
        }
        layout.files.push(Listed::file(file));
    }
    Ok(layout)
}
