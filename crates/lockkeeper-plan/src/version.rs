//! `SHOW lockkeeper.version`: which text asks for it.

/// The text asks for the version. Short, and nothing else in it.
pub fn asks_version(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 2] = [b"show", b"lockkeeper.version"];
    if !matches!(text.first(), Some(b's' | b'S')) || text.len() > 64 {
        return false;
    }
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    WORDS
        .iter()
        .all(|known| words.next().is_some_and(|word| word.eq_ignore_ascii_case(known)))
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::asks_version;

    #[test]
    fn the_question_for_the_version_is_known() {
        assert!(asks_version(b"SHOW lockkeeper.version"));
        assert!(asks_version(b"show  Lockkeeper.Version ; "));
        assert!(!asks_version(b"SHOW lockkeeper.override"));
        assert!(!asks_version(b"SHOW lockkeeper.version; DROP TABLE t"));
        assert!(!asks_version(b"SELECT 1"));
    }
}
