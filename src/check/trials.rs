//! What the proxy has tried on empty copies, tried for `check --dsn`: in a transaction of its own that is rolled back, since a copy is a
//! temporary table. Where that is not allowed (a replica, a role without TEMPORARY) nothing is known, as without it.

use super::live::Live;
use crate::plan::Place;
use crate::plan::bounds::{self, Bounds};
use crate::plan::facts::Facts;
use crate::plan::path;
use crate::plan::policy::Policy;
use crate::plan::rules::{attach_partition, tried};
use crate::plan::statement::Statement;
use crate::plan::trial;

impl Live {
    pub fn try_out(
        &mut self,
        statement: &Statement,
        facts: &mut Facts,
        policy: &Policy,
        place: Place,
    ) -> Result<(), String> {
        match attach_partition::question(statement, facts, policy) {
            Some(Ok(question)) => {
                let answer = self.undone(&question.sql(), bounds::ANSWER)?;
                facts.bounds = Some(match answer {
                    Ok(answer) => question.decode(answer.as_deref()),
                    Err(why) => question.failed(&why),
                });
            }
            Some(Err(why)) => facts.bounds = Some(Bounds::failed(why)),
            None => {}
        }
        if let Some(question) = tried::question(statement, facts, policy)
            && !(place == Place::Block && facts.may_prepare)
            && let Ok(answer) = self.undone(&question.sql(), trial::ANSWER)?
        {
            facts.tried = question.decode(answer.as_deref()).ok();
        }
        Ok(())
    }

    /// The answer, or what the server says instead.
    fn undone(&mut self, question: &str, answer: &str) -> Result<Result<Option<String>, String>, String> {
        self.apart(&[path::to_ours(&[], path::CATALOG), question.to_owned()], answer)
    }
}
