//! What a statement was bound with, to be sent again with statements of our own.

use super::dialogue::Ask;
use crate::plan::splice::parameters_of;
use bytes::Bytes;
use lockkeeper_wire::messages as wire;
use std::cell::OnceCell;

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
    /// A text that is made of the statement's, and may have only some of its parameters.
    pub fn ask(&self, sql: String) -> Ask {
        let found = OnceCell::new();
        let taken = |at: usize| {
            let found = found.get_or_init(|| parameters_of(&sql));
            sql.is_empty() || found.as_ref().is_none_or(|found| found.contains(&(at + 1)))
        };
        let (types, parameters) = match wire::only_taken(&self.types, &self.values, taken) {
            Some((types, values)) => (types.into(), values.into()),
            None => (self.types.clone(), self.values.clone()),
        };
        Ask {
            types,
            parameters,
            ..Ask::as_client(sql)
        }
    }
}
