//! The server's last word to a session, a FATAL error, in the middle of work of which a part is committed: the client hears of that part too.

use super::end::Broken;
use super::relay::Relay;
use crate::plan::batches::Batches;
use bytes::BytesMut;
use lockkeeper_wire::messages::Report;

impl Relay {
    pub(super) async fn tell_last(&mut self, frame: &[u8]) -> Result<(), Broken> {
        if self.stands.is_empty() {
            return self.tell(frame).await;
        }
        let mut report = Report::of_frame(frame);
        for what in &self.stands {
            report.append(b'D', what);
        }
        let mut out = BytesMut::new();
        report.put(&mut out, b'E', self.encoding());
        self.tell(&out).await
    }
}

pub(super) fn of_batches(batches: &Batches, job: Option<i64>) -> String {
    let go_on = job.map(|id| {
        format!("; send the same statement again to go on with what is left, or: lockkeeper jobs --dsn … resume {id}")
    });
    format!(
        "lockkeeper: what earlier batches have changed in {} stays{}.",
        batches.relation,
        go_on.unwrap_or_default()
    )
}

pub(super) const OF_JOBS: &str = "lockkeeper: the transaction IS committed; see what is left of the work behind it, and go on with it: lockkeeper jobs --dsn … list";
