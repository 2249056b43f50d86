//! What a statement was bound with, to be sent again with statements of our own.

use super::dialogue::Ask;
use bytes::Bytes;

/// The client's parameters of the statement that is being judged, for what is asked in its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pub types: Bytes,
    pub values: Bytes,
    /// It came over the extended protocol, where the rows have been described already.
    pub extended: bool,
    /// Formats of the rows, as in its Bind.
    pub results: Vec<u8>,
    /// How many rows it wants at a time; 0 = all.
    pub rows_max: i32,
}

impl Parameters {
    pub fn ask(&self, sql: String) -> Ask {
        Ask {
            types: self.types.clone(),
            parameters: self.values.clone(),
            ..Ask::as_client(sql)
        }
    }
}
