//! The statements of a walk as texts that stay the same from batch to batch, to be prepared once: what differs are parameters behind
//! the client's own.
//!
//! A plan that is made once must do for all of them. That is so where the statement reads nothing but its own rows: whatever the values,
//! they are found along the key.

use super::{Batches, Key, Move, Range};
use crate::jobs::{Ends, Moves};

/// A text, and the values of its own parameters, as text.
#[derive(Debug)]
pub struct Lasting {
    pub sql: String,
    pub values: Vec<String>,
}

/// Gives each value a number behind those of the client's parameters.
struct Numbered {
    clients: usize,
    values: Vec<String>,
}

impl Numbered {
    fn put(&mut self, value: impl ToString) -> String {
        self.values.push(value.to_string());
        format!("${}", self.clients + self.values.len())
    }

    fn key(&mut self, key: &Key) -> Vec<String> {
        key.iter().map(|value| self.put(value)).collect()
    }
}

impl Batches {
    /// [`Batches::end_sql`], once there is a key to begin behind.
    pub fn lasting_end(&self, after: Option<&Key>, upper: &Key, keys: u64) -> Option<Lasting> {
        let after = after.filter(|_| self.places.is_none())?;
        let mut numbered = Numbered {
            clients: 0,
            values: Vec::new(),
        };
        let (after, upper) = (numbered.key(after), numbered.key(upper));
        let offset = numbered.put(keys.saturating_sub(1));
        let sql = format!(
            "SELECT {} FROM {}\n WHERE {} ORDER BY {} OFFSET {offset} LIMIT 1",
            self.texts(),
            self.from,
            self.between(Some(&after), &upper),
            self.columns()
        );
        Some(Lasting {
            sql,
            values: numbered.values,
        })
    }

    /// [`Batches::batch_sql`] of a range between two keys. `clients`: how many parameters the client has bound.
    pub fn lasting_batch(&self, range: &Range, job: Option<Move>, clients: usize) -> Option<Lasting> {
        let fits = self.alone && self.places.is_none() && range.only.is_none();
        let after = range.after.as_ref().filter(|_| fits)?;
        let mut numbered = Numbered {
            clients,
            values: Vec::new(),
        };
        let (after, end) = (numbered.key(after), numbered.key(&range.end));
        let moves = job.map(|job| Moves {
            job: job.job,
            batches: format!("{}::pg_catalog.int8", numbered.put(job.batches)),
            last: format!("{}::pg_catalog.text[]", numbered.put(array(&range.end))),
            keys: format!("{}::pg_catalog.int8", numbered.put(range.keys)),
            ends: Ends::If(format!("{}::pg_catalog.bool", numbered.put(job.is_last))),
        });
        let sql = self.changes(&self.between(Some(&after), &end), None, moves.as_ref(), false);
        Some(Lasting {
            sql,
            values: numbered.values,
        })
    }
}

/// As text of type text[].
fn array(items: &[String]) -> String {
    let item = |item: &String| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
}
