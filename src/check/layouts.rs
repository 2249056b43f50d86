//! Directories that a migration tool keeps a file of its own about, or that have a shape of their own: told by that, and read in
//! the tool's order. What such a file names must be there; nothing is guessed. Start at [`of`].

pub mod atlas;
pub mod cut;
pub mod drizzle;
pub mod liquibase;
mod listed;
pub mod prisma;
pub mod sqitch;
pub mod supabase;

use super::tool::Tool;
pub use listed::{Layout, Listed, are};
use std::path::Path;

/// Whose directory this is. None: no tool's that has such a file.
pub fn of(directory: &Path) -> Option<Tool> {
    let has = |name: &str| directory.join(name).is_file();
    if has("sqitch.plan") {
        Some(Tool::Sqitch)
    } else if has(drizzle::JOURNAL) || drizzle::is_of_folders(directory) {
        Some(Tool::Drizzle)
    } else if has(prisma::LOCK) || prisma::is_its_place(directory) {
        Some(Tool::Prisma)
    } else if has(atlas::SUM) && atlas::is_own_format(directory) {
        Some(Tool::Atlas)
    } else if supabase::is_its_place(directory) {
        Some(Tool::Supabase)
    } else {
        None
    }
}

/// It is below a directory of that tool's, such as that of one migration.
pub fn is_within(tool: Tool, directory: &Path) -> bool {
    let Ok(full) = std::fs::canonicalize(directory) else {
        return false;
    };
    full.ancestors().skip(1).take(2).any(|above| of(above) == Some(tool))
}

/// None: the tool has no such layout. The error says what is wrong with which file.
pub fn read(tool: Tool, directory: &Path) -> Option<Result<Layout, String>> {
    match tool {
        Tool::Sqitch => Some(sqitch::read(directory)),
        Tool::Drizzle => Some(drizzle::read(directory)),
        Tool::Prisma => Some(prisma::read(directory)),
        Tool::Atlas => Some(atlas::read(directory)),
        Tool::Supabase => Some(supabase::read(directory)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
