//! An UPDATE or DELETE that was left unfinished goes on from its job's row.

use super::dialogue::Closing;
use super::end::End;
use super::parameters::Parameters;
use super::session::Session;
use super::step_context::StepContext;
use super::verdict::Verdict;
use crate::plan::batches::Batches;
use crate::plan::facts::Facts;
use crate::plan::jobs::{self, Access, Job, Kind};
use crate::plan::lock::LockMode;
use crate::plan::policy::Policy;
use crate::plan::reading::read;
use crate::plan::request::Request;
use crate::plan::statement::Statement;
use crate::plan::{Mode, Place, Run, Step};
use lockkeeper_wire::messages::Report;

impl Session {
    /// A job that is carried out in batches.
    pub(super) async fn resume_write(&mut self, id: i64, call: &Statement, policy: &Policy) -> Result<Verdict, End> {
        let (batches, parameters, facts) = self.job_to_resume(id, call).await?;
        self.judged += 1;
        let relation = batches.relation.clone();
        let statement = batches.statement.clone();
        let run = Run {
            rehearsal: None,
            deferral: None,
            findings: Vec::new(),
            notices: Vec::new(),
            steps: vec![Step {
                label: format!("go on with job {id}"),
                sql: statement.clone(),
                mode: Mode::Batches(Box::new(batches)),
                guard: None,
                lock: LockMode::RowExclusive,
                relation,
                done_when: None,
                cleanup: None,
                null_message: None,
                rollback: None,
                contract: None,
            }],
            tag: String::new(),
            why: Vec::new(),
        };
        let entry = self.entry(call, &facts, &[]).planned(&run);
        self.announce(&entry, policy).await?;
        let setting = StepContext {
            policy,
            place: Place::Alone,
            parameters: &parameters,
            statement: &statement,
            position_shift: 0,
            is_held: false,
        };
        Ok(self.carry_out(&run, &facts.relations, setting, entry).await?)
    }

    /// The statement of a job that can go on here, judged anew.
    pub(super) async fn job_to_resume(
        &mut self,
        id: i64,
        call: &Statement,
    ) -> Result<(Batches, Parameters, Facts), End> {
        let wrong = |sqlstate, message: String, hint: &str| {
            let report = Report::error(sqlstate, &format!("lockkeeper: {message}"));
            let report = if hint.is_empty() { report } else { report.hint(hint) };
            Err(report.into())
        };
        let facts = self.facts(Request::of(call), Closing::Sync).await?;
        match facts.job_access() {
            Access::Ready => {}
            Access::Create => {
                return wrong(
                    "42704",
                    "there is no table lockkeeper.job here".into(),
                    "Is this the right database?",
                );
            }
            Access::None(why) => return wrong("55000", why, "Jobs are kept by database."),
        }
        let job = match self.value(&jobs::read(id)).await? {
            Some(json) => Job::decode(&json),
            None => {
                let hint = "A job is resumed by the role that began it: log in as that one.";
                return wrong("42704", format!("the role {} has no job {id}", facts.role), hint);
            }
        };
        let job = match job {
            Ok(job) => job,
            Err(error) => return wrong("XX000", error, ""),
        };
        if matches!(job.state.as_str(), "done" | "cancelled") {
            let rows = match job.kind.as_str() {
                "deferred" => String::new(),
                _ => format!(": {} rows", job.rows_done),
            };
            return wrong(
                "55000",
                format!("job {id} is {}{rows}", job.state),
                "Send its statement itself if it is to be done once more.",
            );
        }
        if self.is_lost(&job.statement) {
            return Err(self.encoding_lacks_names_of(id).into());
        }
        let conforming = job
            .settings
            .get("standard_conforming_strings")
            .is_none_or(|value| value == "on");
        let statements = read(job.statement.as_bytes(), conforming).unwrap_or_default();
        let (Some(kind), Some((types, values)), [statement]) =
            (Kind::of(&job.kind), job.parameters(), statements.as_slice())
        else {
            return wrong(
                "0A000",
                format!("job {id} is of a kind that cannot be resumed here"),
                "",
            );
        };
        let mut facts = self.facts(Request::of(statement), Closing::Sync).await?;
        let parameters = Parameters {
            types: types.into(),
            values: values.into(),
            ..Parameters::default()
        };
        if kind == Kind::Write {
            facts.surroundings = self.surroundings(statement, &facts, Place::Alone, &parameters).await?;
        }
        let Some(relation) = facts.target(statement).filter(|relation| relation.oid == job.relation) else {
            let path = job.settings.get("search_path").cloned().unwrap_or_default();
            return wrong(
                "42P01",
                format!("the table of job {id} is not found under its name any more, or another one is"),
                &format!("It was begun with search_path = {path}."),
            );
        };
        let batches = match Batches::resumed(statement, relation, &facts, (id, kind)) {
            Ok(batches) => batches,
            Err(why) => {
                return wrong(
                    "55000",
                    format!("job {id} cannot go on: {why}"),
                    "Its rows up to the last key stay as they are.",
                );
            }
        };
        let identity = jobs::identity(
            &batches.statement,
            batches.relation_oid,
            &parameters.types,
            &parameters.values,
            &batches.seen_by,
        );
        if identity != job.identity {
            let settings: Vec<&str> = batches.seen_by.keys().map(String::as_str).collect();
            return wrong(
                "55000",
                format!(
                    "job {id} was begun with other values of {}, by which row-level security shows other rows",
                    settings.join(", ")
                ),
                "Set them as they were, or send the statement again in a session that has them.",
            );
        }
        Ok((batches, parameters, facts))
    }
}
