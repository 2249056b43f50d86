//! A table rewritten by copy and swap over the client's session: it serves what the rewrite asks for, and is itself again afterwards.
//!
//! Start at [`Session::rewrite`]. What is done, and in which order, is [`crate::rewrite`]'s, which runs on a thread of its own meanwhile: it
//! has no other way to the server than this session, and so no other rights.

use super::clearing::Clearing;
use super::conduct::{CANCEL_TIME, Done};
use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End};
use super::session::Session;
use super::step_context::StepContext;
use super::throttle::Throttle;
use super::time_limits::cancelled;
use super::tries::Tries;
use crate::plan::jobs::Access;
use crate::plan::rewrite::job::SETTINGS;
use crate::plan::rewrite::online::Online;
use crate::plan::{Place, Step};
use crate::rewrite::link::{Answer, CHANGED, Fault, Request};
use crate::rewrite::phases::{OldSnapshots, Pace};
use crate::rewrite::through::{self, Left};
use lockkeeper_wire::messages::Report;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What the session was before.
struct Before {
    role: String,
    /// Each setting, its value, and whether the client has set it.
    settings: Vec<(String, String, bool)>,
}

/// What goes on between two steps.
struct Course {
    throttle: Throttle,
    clearing: Clearing,
    /// What is done now.
    now: String,
    rows: u64,
    told: Instant,
}

impl Session {
    pub(super) async fn rewrite(
        &mut self,
        online: &Online,
        step: &Step,
        setting: StepContext<'_>,
        tries: &mut Tries,
    ) -> Result<Done, End> {
        let encoding = self.relay.reported.client_encoding.as_str();
        if !matches!(encoding, "UTF8" | "UNICODE") {
            let text = format!(
                "lockkeeper: a rewrite reads definitions in UTF8, and client_encoding is {encoding}; SET client_encoding = 'UTF8' and send it again"
            );
            return Err(Report::error("0A000", &text).into());
        }
        if let Access::Create = &online.access {
            self.create_job_table().await.map_err(|end| {
                end.reworded(|report| {
                    report.hint("lockkeeper: a rewrite is a job, and the table lockkeeper.job could not be created; an administrator runs once: lockkeeper init --dsn …")
                })
            })?;
        }
        let before = self.before_rewrite().await?;
        let (session, mut asked) = unbounded_channel();
        let pace = Pace {
            pause_ms: setting.policy.backfill.pause_ms,
            give_up_after_s: setting.policy.lock.give_up_after_ms.div_ceil(1000),
            old_snapshots: OldSnapshots::Wait,
        };
        let runtime = tokio::runtime::Handle::current();
        let order = online.clone();
        let running = tokio::task::spawn_blocking(move || runtime.block_on(through::run(session, &order, pace)));
        let served = self.serve_rewrite(&mut asked, step, setting, tries).await;
        drop(asked);
        let ended = running.await;
        served?;
        // Other tables stand under the old names.
        self.relay.shapes.much_has_changed();
        self.after_rewrite(before).await?;
        match ended {
            Ok(Ok(())) => Ok(Done { tag: None }),
            Ok(Err(left)) => Err(report(online, left).into()),
            Err(error) => Err(Report::error("XX000", &format!("lockkeeper: the rewrite has failed: {error}")).into()),
        }
    }

    /// What a rewrite changes in the session.
    async fn before_rewrite(&mut self) -> Result<Before, End> {
        let asks = [
            Ask::new("SELECT current_setting('role'), current_setting('transaction_read_only')"),
            Ask::as_client(format!(
                "SELECT s.name, s.setting, s.source OPERATOR(pg_catalog.=) 'session'::pg_catalog.text FROM pg_catalog.pg_settings s \
                 WHERE s.name OPERATOR(pg_catalog.=) ANY (ARRAY[{CHANGED}, {SETTINGS}]::pg_catalog.text[])"
            )),
        ];
        let mut answers = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await?.into_iter();
        let mut next = || answers.next().map(|answer| answer.rows).unwrap_or_default();
        let first = next().pop().unwrap_or_default();
        let value = |at: usize| first.get(at).cloned().flatten().unwrap_or_default();
        if value(1) == "on" {
            let text = "lockkeeper: a table cannot be rewritten in a read-only transaction";
            return Err(Report::error("25006", text).into());
        }
        let setting = |row: Vec<Option<String>>| match row.as_slice() {
            [Some(name), Some(value), own] => Some((name.clone(), value.clone(), own.as_deref() == Some("t"))),
            _ => None,
        };
        Ok(Before {
            role: value(0),
            settings: next().into_iter().filter_map(setting).collect(),
        })
    }

    /// A session that is not what it was is nobody's: it ends.
    async fn after_rewrite(&mut self, before: Before) -> Result<(), Broken> {
        let mut asks = vec![Ask::set_session("role", &before.role)];
        if self.relay.status != b'I' {
            asks.insert(0, Ask::as_client("ROLLBACK"));
        }
        for (name, value, is_own) in &before.settings {
            asks.push(match is_own {
                true => Ask::set_session(name, value),
                false => Ask::as_client(format!("RESET {name}")),
            });
        }
        match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
            Ok(_) => Ok(()),
            Err(End::Broken(broken)) => Err(broken),
            Err(End::Refused(report)) => {
                tracing::warn!(
                    session = self.who.session,
                    error = report.message(),
                    "role and settings could not be set back"
                );
                Err(Broken::Server(io::Error::other(report.message())))
            }
        }
    }

    async fn serve_rewrite(
        &mut self,
        asked: &mut UnboundedReceiver<Request>,
        step: &Step,
        setting: StepContext<'_>,
        tries: &mut Tries,
    ) -> Result<(), Broken> {
        let mut course = Course {
            throttle: Throttle::default(),
            clearing: Clearing::new(),
            now: step.label.clone(),
            rows: 0,
            told: Instant::now(),
        };
        while let Some(request) = asked.recv().await {
            let (done, reply) = match request {
                Request::Run(statements, reply) => (self.run_for_rewrite(&statements, &course).await, reply),
                Request::Rest(time, reply) => (self.rest_for_rewrite(time, setting, &mut course).await, reply),
                Request::Wait(time, is_try, why, reply) => {
                    tries.count += u32::from(is_try);
                    tries.waited += time;
                    (
                        self.wait_for_rewrite((time, &why), step, setting, &mut course).await,
                        reply,
                    )
                }
                Request::Now(what) => {
                    // What was held back for the swap goes on.
                    course.clearing = Clearing::new();
                    self.relay.notice(&what).await?;
                    self.seat.change(|plan| plan.phase = Some(what.clone()));
                    course.now = what;
                    continue;
                }
                Request::Moved(rows, of) => {
                    course.rows += rows;
                    tries.rows = Some(course.rows);
                    let told = course.told.elapsed().as_millis() as u64 >= setting.policy.backfill.notice_ms;
                    self.seat.change(|plan| {
                        plan.rows = Some(course.rows);
                        plan.done = (of > 0).then(|| (course.rows as f64 / of as f64).min(1.0));
                    });
                    if told {
                        course.told = Instant::now();
                        let text = format!("{} rows copied in this run, of about {of}", course.rows);
                        self.relay.notice(&text).await?;
                    }
                    continue;
                }
            };
            let done = match done {
                Ok(answer) => Ok(answer),
                Err(End::Broken(broken)) => return Err(broken),
                Err(End::Refused(report)) => Err(fault(&report)),
            };
            // Nobody waits for it where the rewrite has panicked: its thread says so.
            let _ = reply.send(done);
        }
        Ok(())
    }

    async fn run_for_rewrite(&mut self, statements: &[String], course: &Course) -> Result<Answer, End> {
        if self.cancel.take() {
            // The request itself is still on its way to the server.
            self.sleep_on_server(CANCEL_TIME, Place::Alone).await?;
            return Err(cancelled().into());
        }
        let is_over = self.relay.status == b'I' && statements.iter().all(|sql| sql == "ROLLBACK");
        if statements.is_empty() || is_over {
            return Ok(Answer::default());
        }
        let asks: Vec<Ask> = statements.iter().map(Ask::as_client).collect();
        let hears = Hears::Progress {
            what: &course.now,
            waits: None,
            every: Duration::from_millis(self.shared.policy().backfill.notice_ms),
        };
        let answered = self.relay.ask(&asks, Closing::Sync, hears).await;
        if let Err(End::Refused(_)) = answered {
            self.cancel.clear();
        }
        let mut all = Answer::default();
        for answer in answered? {
            let count = answer.tag.rsplit(' ').next().and_then(|count| count.parse().ok());
            all.count = count.unwrap_or_default();
            all.rows.extend(answer.rows);
        }
        Ok(all)
    }

    async fn rest_for_rewrite(
        &mut self,
        time: Duration,
        setting: StepContext<'_>,
        course: &mut Course,
    ) -> Result<Answer, End> {
        self.wait_while_throttled(&setting.policy.backfill, &mut course.throttle, None)
            .await?;
        self.pause(time, Place::Alone).await?;
        Ok(Answer::default())
    }

    /// The table's holders are looked at, and statements that would keep it busy are held back, as for every other step.
    async fn wait_for_rewrite(
        &mut self,
        (time, why): (Duration, &str),
        step: &Step,
        setting: StepContext<'_>,
        course: &mut Course,
    ) -> Result<Answer, End> {
        self.clear_for_rewrite(step, setting, &mut course.clearing).await?;
        if course.told.elapsed().as_millis() as u64 >= setting.policy.backfill.notice_ms {
            course.told = Instant::now();
            let text = format!("{}: {why}{}", course.now, course.clearing.doing());
            self.relay.notice(&text).await?;
        }
        self.pause(time, Place::Alone).await?;
        Ok(Answer::default())
    }
}

fn fault(report: &Report) -> Fault {
    let part = |name: &str, text: Option<String>| text.map(|text| format!("\n{name}: {text}")).unwrap_or_default();
    let text = |tag: u8| report.get(tag).map(|text| String::from_utf8_lossy(text).into_owned());
    Fault {
        code: Some(report.sqlstate()),
        text: format!(
            "{}{}{}",
            report.message(),
            part("DETAIL", text(b'D')),
            part("HINT", text(b'H'))
        ),
    }
}

/// What the client hears.
fn report(online: &Online, left: Left) -> Report {
    let Left { fault, state, hint } = left;
    let (message, more) = fault.text.split_once('\n').unwrap_or((&fault.text, ""));
    let code = fault.code.as_deref().unwrap_or("55000");
    let message = match code {
        "57014" => message.to_owned(),
        _ => format!("lockkeeper: {message}"),
    };
    let mut report = Report::error(code, &message);
    if !more.is_empty() {
        report = report.detail(more.trim_end());
    }
    if hint.is_empty() && !online.instead_of.is_empty() {
        report.append(b'D', &format!("lockkeeper: {}", online.instead_of));
    }
    report.append(b'D', &format!("lockkeeper: {state}"));
    let past = format!(
        "Where the policy lets you, SET lockkeeper.override = '{}: <why>' has the statement run as it is.",
        online.rule
    );
    let hint = if hint.is_empty() { past } else { hint };
    report.append(b'H', &hint);
    report
}
