//! The record in a file of `--state-dir`, so that it outlasts the process. Written whole and put in place at once.

use super::record::Record;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FILE: &str = "usage.json";
/// A larger one is not ours.
const BYTES_MAX: u64 = 256 << 20;

/// None: there is none yet.
pub fn read(directory: &Path) -> Result<Option<Record>, String> {
    let path = directory.join(FILE);
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(&error)),
        Ok(file) if file.len() > BYTES_MAX => return Err(told(&"it is too large")),
        Ok(_) => {}
    }
    let text = fs::read_to_string(&path).map_err(|error| told(&error))?;
    serde_json::from_str(&text).map(Some).map_err(|error| told(&error))
}

pub(super) fn text_of(record: &Record) -> Result<String, String> {
    serde_json::to_string(record).map_err(|error| error.to_string())
}

/// For its owner alone: names of tables and texts of statements are in it.
pub(super) fn write(directory: &Path, text: &str) -> Result<(), String> {
    let path = directory.join(FILE);
    let fresh = directory.join(format!("{FILE}.new"));
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(told)?;
    file.write_all(text.as_bytes()).map_err(told)?;
    file.sync_data().map_err(told)?;
    fs::rename(&fresh, &path).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).unwrap().is_none());
        let mut record = Record::default();
        record.watched(7);
        write(directory.path(), &text_of(&record).unwrap()).unwrap();
        assert_eq!(read(directory.path()).unwrap().unwrap().since, 7);
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(read(directory.path()).unwrap_err().contains(FILE));
    }
}
