//! What the server would say of the rights to a statement, before a dry run tells that it would run.

use crate::plan::Place;
use crate::plan::dry::rights;
use crate::plan::facts::Facts;
use crate::plan::mixed::alone::executed_name;
use crate::plan::statement::Statement;
use crate::proxy::dialogue::{Answer, Ask};
use crate::proxy::dry::rows::planning_writes;
use crate::proxy::end::End;
use crate::proxy::inquire::explain;
use crate::proxy::parameters::Parameters;
use crate::proxy::session::Session;

/// undefined_table, undefined_column, undefined_object, undefined_function, and a prepared statement that is not there.
const UNDEFINED: [&str; 5] = ["42P01", "42703", "42704", "42883", "26000"];

impl Session {
    /// None: nothing that is known here is against it.
    pub(in crate::proxy) async fn refused_by_server(
        &mut self,
        statement: &Statement,
        facts: &Facts,
        place: Place,
        parameters: &Parameters,
    ) -> Result<Option<String>, End> {
        // In a pipeline a question that fails would be the end of the transaction.
        let explained = explain(statement, parameters)
            .filter(|_| rights::is_explained(statement) && executed_name(&statement.sql).is_none());
        if let Some(explain) = explained.filter(|_| place != Place::Pipeline) {
            return match self.ask_harmlessly(explain, place).await {
                // An earlier statement of the dry run may make it.
                Err(End::Refused(report)) if UNDEFINED.contains(&report.sqlstate().as_str()) => Ok(None),
                Err(End::Refused(report)) => match planning_writes(&report) {
                    Some(unknown) => Err(unknown.into()),
                    None => Ok(Some(report.message())),
                },
                Err(broken) => Err(broken),
                Ok(_) => Ok(None),
            };
        }
        let Some(sql) = rights::owners_sql(statement, facts) else {
            return Ok(None);
        };
        match self.ask_harmlessly(Ask::new(sql), place).await {
            Ok(answer) => Ok(Answer::value(&answer).map(rights::must_own)),
            Err(End::Refused(_)) => Ok(None),
            Err(broken) => Err(broken),
        }
    }
}
