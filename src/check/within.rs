//! What the proxy asks besides of writes, asked for `check --dsn`: what the statements of a DO block change, and what goes with a write's rows
//! by foreign keys. These rows are counted up to `rows_max`, for two seconds at most; nothing else of a table is read.

use super::live::{Failed, Live};
use crate::plan::batches::bound::{self, Bound, Ground};
use crate::plan::batches::cascade;
use crate::plan::batches::count;
use crate::plan::batches::guess;
use crate::plan::body::unvalued::{self, Unvalued};
use crate::plan::facts::Facts;
use crate::plan::facts::{Cascaded, Told};
use crate::plan::mixed::{self, alone};
use crate::plan::path;
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement};

const COUNT_TIMEOUT: &str = "SET LOCAL statement_timeout = '2s'";
/// Nothing is prepared under it.
const UNVALUED: &str = "lockkeeper_check_unvalued";

/// What goes with a statement's rows.
#[derive(Default)]
struct Along {
    many: Option<Cascaded>,
    /// Few are expected, but some values have many.
    unsure: bool,
}

fn is_write(statement: &Statement) -> bool {
    matches!(statement.kind, Kind::Write | Kind::MixedWrite)
}

impl Live {
    /// Of each statement of the block.
    pub fn judge_within(&mut self, block: &Statement, facts: &mut Facts, rows_max: f64) -> Result<(), String> {
        let Some(body) = block.body() else { return Ok(()) };
        let of = |inner: &Statement| is_write(inner).then(|| unvalued::of(inner, body, false)).flatten();
        let made: Vec<Option<Unvalued>> = body.statements.iter().map(|inner| of(inner)).collect();
        let asked: Vec<&Unvalued> = made.iter().flatten().collect();
        let mut told = self.rows_of_unvalued(&asked, rows_max)?.into_iter();
        for (inner, made) in body.statements.iter().zip(&made) {
            let (mut rows, mut many) = (None, None);
            if is_write(inner) {
                rows = match made {
                    Some(_) => told.next().flatten(),
                    None => self.explain(inner)?.as_deref().and_then(mixed::changed_rows),
                };
                rows = rows.filter(|rows| {
                    !made
                        .as_ref()
                        .is_some_and(|made| guess::may_be_many_unvalued(&made.whole, facts, *rows, rows_max))
                });
                rows = rows.or_else(|| facts.all_rows(&inner.node));
                if rows.is_some_and(|rows| rows <= rows_max) {
                    let along = self.along(inner, None, (rows, made.is_none()), rows_max)?;
                    rows = rows.filter(|_| !along.unsure);
                    many = along.many;
                }
            }
            facts.rows_within.push(rows);
            facts.cascaded_within.push(many);
        }
        Ok(())
    }

    fn rows_of_unvalued(&mut self, asked: &[&Unvalued], rows_max: f64) -> Result<Vec<Option<f64>>, String> {
        if asked.is_empty() || !unvalued::is_quotable(asked) {
            return Ok(vec![None; asked.len()]);
        }
        let ahead = [path::to_ours(&[], path::CATALOG), unvalued::question(asked, UNVALUED)];
        let row = self.tried(&ahead, unvalued::ANSWER)?.unwrap_or_default();
        let answer = row.first().and_then(Option::as_deref);
        Ok(unvalued::decode(asked, rows_max, answer))
    }

    /// What goes with the rows of an UPDATE or DELETE, or of what a MERGE or WITH consists of. `rows`: its own, by the planner.
    pub fn cascaded(
        &mut self,
        statement: &Statement,
        facts: &Facts,
        rows: Option<f64>,
        rows_max: f64,
    ) -> Result<Option<Cascaded>, String> {
        let of_its_own = matches!(statement.kind, Kind::Write);
        let facts = of_its_own.then_some(facts);
        Ok(self.along(statement, facts, (rows, true), rows_max)?.many)
    }

    fn along(
        &mut self,
        statement: &Statement,
        facts: Option<&Facts>,
        (rows, counts): (Option<f64>, bool),
        rows_max: f64,
    ) -> Result<Along, String> {
        let mut all = Along::default();
        let parts = match statement.kind {
            Kind::Write => vec![statement.clone()],
            _ => alone::alone(statement),
        };
        for part in &parts {
            let Some(ground) = self.ground(part)? else { continue };
            let hops = cascade::hops(part, &ground);
            if hops.is_empty() {
                continue;
            }
            let found = if counts {
                let known = match facts {
                    Some(_) => None,
                    None => Some(self.facts_as_before(part)?),
                };
                self.counted(part, &ground, facts.or(known.as_ref()), rows, rows_max)?
            } else {
                let unknown = cascade::unfollowed(&hops, None);
                unknown.or_else(|| cascade::expected(&hops, &ground, rows))
            };
            let many = found.filter(|found| found.rows > rows_max);
            if many.is_some() {
                return Ok(Along { many, unsure: false });
            }
            let most = cascade::at_most(&hops, rows.map(Bound::about));
            all.unsure |= !counts && most.is_none_or(|most| most.rows > rows_max);
        }
        Ok(all)
    }

    fn counted(
        &mut self,
        statement: &Statement,
        ground: &Ground,
        facts: Option<&Facts>,
        rows: Option<f64>,
        rows_max: f64,
    ) -> Result<Option<Cascaded>, String> {
        let hops = cascade::hops(statement, ground);
        let own = bound::bound(statement, ground);
        let sql = cascade::count_sql(statement, &hops, rows_max as u64, |name| {
            facts.is_some_and(|facts| count::asks_nothing_else(facts, name))
        });
        let unknown = || cascade::unfollowed(&hops, None);
        if let Some(sql) = sql {
            match self.tried(&[COUNT_TIMEOUT.to_owned()], &sql)? {
                Ok(row) => {
                    let counts: Vec<f64> = row.iter().flatten().flat_map(|count| count.parse()).collect();
                    let unknown = cascade::unfollowed(&hops, Some(&counts));
                    return Ok(unknown.or_else(|| cascade::cascaded(&hops, &counts, Told::Counted)));
                }
                Err(Failed::InTime) => return Ok(unknown().or_else(|| cascade::feared(&hops, own))),
                Err(Failed::Otherwise) => {}
            }
        }
        let rows = own.map(|own| own.of_message(statement.sql.len())).or(rows);
        Ok(unknown().or_else(|| cascade::expected(&hops, ground, rows)))
    }

    /// None: there is no such relation.
    fn ground(&mut self, statement: &Statement) -> Result<Option<Ground>, String> {
        let Some(ground) = self.ground_of(&Request::target(statement))? else {
            return Ok(None);
        };
        match ground.relation.kind {
            'v' => self.look_through(ground, statement).map(Some),
            _ => Ok(Some(ground)),
        }
    }

    fn ground_of(&mut self, target: &Request) -> Result<Option<Ground>, String> {
        let Some(sql) = target.ground_sql() else {
            return Ok(None);
        };
        let ahead = [path::to_ours(&target.ahead(), path::CATALOG)];
        match self.tried(&ahead, &sql)? {
            Ok(row) => Ground::decode(row.first().and_then(Option::as_deref)),
            Err(_) => Ok(None),
        }
    }

    /// What foreign keys take along is the base table's, by the view's names.
    fn look_through(&mut self, mut ground: Ground, statement: &Statement) -> Result<Ground, String> {
        let facts = self.facts_as_before(statement)?;
        let Some((views, table)) = cascade::behind(&facts, &ground, statement) else {
            return Ok(ground);
        };
        if let Some(base) = self.ground_of(&Request::of_table(table))? {
            cascade::through(&mut ground, base, &views);
        }
        Ok(ground)
    }
}
