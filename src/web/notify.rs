//! `tenure notify`: posts to a webhook, and again while it only says "not now".

use super::http::{NoReply, Reply, Target, post, random, status_text};
use super::request::{self, NotifyRequest};
use super::retry::pause;
use std::path::Path;
use std::time::{Duration, Instant};

/// Delivers the notification of a file; or why it could not be.
pub fn notify(path: &Path) -> Result<(), String> {
    let request: NotifyRequest = request::read(path)?;
    let target = Target::parse(&request.url).map_err(|flaw| format!("the webhook's URL {flaw}"))?;
    let body = request.body.to_string();
    let budget = Duration::from_millis(request.timeout_ms);
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        let reply = post(&target, None, body.as_bytes(), budget.saturating_sub(begun.elapsed()), 0);
        tries += 1;
        let (again, message) = judge(&target, &reply);
        let asked = reply.ok().and_then(|reply| reply.retry_after);
        match (message, pause(tries, begun.elapsed(), budget, asked, random()).filter(|_| again)) {
            (None, _) => return Ok(()),
            (Some(_), Some(pause)) => std::thread::sleep(pause),
            (Some(message), None) => return Err(message),
        }
    }
}

/// Whether it may be better later; and what is wrong, if something is.
pub(super) fn judge(target: &Target, reply: &Result<Reply, NoReply>) -> (bool, Option<String>) {
    let host = &target.shown;
    match reply {
        Ok(Reply { status: 200..=299, .. }) => (false, None),
        Ok(Reply { status, .. }) => {
            let to_do = match status {
                429 | 500..=599 => "it is not well, or busy",
                300..=399 => "it is somewhere else: correct `webhook_url`",
                _ => "check `webhook_url`",
            };
            let message = format!("{host} answered {}; {to_do}", status_text(*status));
            (matches!(status, 429 | 500..=599), Some(message))
        }
        Err(NoReply::Unreachable(why)) => (true, Some(format!("failed to reach {host}: {why}"))),
        Err(NoReply::TimedOut) => (false, Some(format!("{host} did not answer in time"))),
        Err(NoReply::Hopeless(why)) => (false, Some(format!("failed to ask {host}: {why}"))),
    }
}
