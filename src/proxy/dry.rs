//! Dry runs (`SET lockkeeper.dry_run = on`): a judged statement answers with its plan as rows, and of all others only what changes nothing runs.
//!
//! The setting is the server's own, so that SET LOCAL, ROLLBACK and RESET mean what they mean for any other; a session that has named it is
//! asked for its value before each statement. The rows are the server's too: it is sent a SELECT of them in the statement's place, and so
//! describes, formats and encodes them. Start at `may_run_dry`.

mod ask;
pub mod looked;
mod prepared;
pub mod rates;
mod rights;
pub mod rows;
mod told;
