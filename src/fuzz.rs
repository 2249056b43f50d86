//! What the fuzz targets in `fuzz/` check. It is here so that it sees the inside and so that `cargo test` plays the kept
//! inputs without libFuzzer; a build that is neither a test nor fuzzed has none of it.
//!
//! A target is a function of bytes that panics where something that must always hold does not. [`statement`] is about
//! text; those about messages are in [`crate::proxy::fuzz`].

mod statement;

pub fn statement(data: &[u8]) {
    statement::check(data);
}

/// Decisions taken from the fuzzer's bytes, one after the other; zeros when they are used up.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// At most `len` bytes as they are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Every kept input, the minimised corpus and what once failed alike.
    fn play(target: &str, check: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        assert!(files.len() > 20, "{} inputs in {}", files.len(), dir.display());
        for file in files {
            let data = std::fs::read(&file).expect("an input");
            if std::panic::catch_unwind(|| check(&data)).is_err() {
                panic!("{} fails as above", file.display());
            }
        }
    }

    #[test]
    fn startup() {
        play("startup", crate::proxy::fuzz::startup);
    }

    #[test]
    fn framing() {
        play("framing", crate::proxy::fuzz::framing);
    }

    #[test]
    fn responses() {
        play("responses", crate::proxy::fuzz::responses);
    }

    #[test]
    fn statement() {
        play("statement", super::statement);
    }
}
