//! How the server reads a text, and which texts depend on it.

/// How the server reads a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// standard_conforming_strings: a backslash in a plain string is only a backslash.
    pub conforming: bool,
    /// client_encoding
    pub encoding: String,
}

/// Another reading may find other strings in it, or other characters.
pub fn depends_on_reading(text: &[u8]) -> bool {
    text.contains(&b'\\') || !text.is_ascii()
}
