//! What a layout is, and what all of them read directories with.

use std::path::{Path, PathBuf};

/// The files of a directory as its tool runs them.
#[derive(Debug, Default)]
pub struct Layout {
    pub files: Vec<Listed>,
    /// What is left out of it, and why.
    pub notes: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub path: PathBuf,
    /// The script for the way back, where the tool has one.
    pub back: Option<PathBuf>,
    /// By what the tool's own table knows it, where that is not the file's name.
    pub recorded: Option<String>,
}

impl Listed {
    pub fn file(path: PathBuf) -> Listed {
        Listed {
            path,
            ..Listed::default()
        }
    }
}

/// `1 file is`, `3 files are`
pub fn are(count: usize) -> String {
    match count {
        1 => "1 file is".to_string(),
        count => format!("{count} files are"),
    }
}

pub fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| told(path, &error))
}

pub fn told(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot read {}: {error}", path.display())
}

/// The names in a directory, in the order of their bytes.
pub fn names(directory: &Path, wanted: impl Fn(&std::fs::DirEntry) -> bool) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(directory).map_err(|error| told(directory, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| told(directory, &error))?;
        if wanted(&entry) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

pub fn sql_files(directory: &Path) -> Result<Vec<String>, String> {
    names(directory, |entry| {
        entry.path().is_file() && entry.path().extension().is_some_and(|extension| extension == "sql")
    })
}

pub fn directories(directory: &Path) -> Result<Vec<String>, String> {
    names(directory, |entry| entry.path().is_dir())
}

/// The directory is called so, and so is the one that it is in.
pub fn is_called(directory: &Path, name: &str, parent: &str) -> bool {
    let Ok(full) = std::fs::canonicalize(directory) else {
        return false;
    };
    full.ends_with(Path::new(parent).join(name))
}
