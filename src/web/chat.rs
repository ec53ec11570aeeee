//! `tenure llm-request`: asks once, and again while the server only says "not now".

use super::answer::{self, Complaint, complaint, with_words};
use super::http::{NoReply, Reply, Target, post, random, status_text};
use super::report::Report;
use super::request::{self, ChatRequest, is_openrouter};
use super::retry::pause;
use std::path::Path;
use std::time::{Duration, Instant};

const OPENROUTER: &str = "https://openrouter.ai/api/v1";

/// No answer is longer, in bytes.
const ANSWER_MAX: u64 = 8 << 20;

/// A shorter key would be in every second word of a message.
const MASKED_CHARS: usize = 6;

/// A key, and where it is from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The environment variable.
    pub name: &'static str,
    /// The secret.
    pub value: String,
}

/// What an attempt means.
#[derive(Debug, PartialEq)]
pub(super) enum Judgement {
    /// That was it.
    Done(Report),
    /// It may be better later; this is the report if it is not. The server may have said how much later.
    Again(Report, Option<Duration>),
}

/// Puts the request of a file to its endpoint. What goes wrong is in the report, too.
pub fn chat(path: &Path) -> Report {
    let invalid = |message: String| Report::failed("LlmRequestInvalid", message);
    let request: ChatRequest = match request::read(path) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    if request.model.trim().is_empty() {
        return invalid("no model is named; set `model`".into());
    }
    let environment = |name: &str| std::env::var(name).ok();
    match endpoint(&request, environment) {
        Ok(target) => {
            let key = key(&target.host, environment);
            masked(ask(&request, &target, key.as_ref()), key.as_ref())
        }
        Err(message) => invalid(message),
    }
}

fn ask(request: &ChatRequest, target: &Target, key: Option<&Key>) -> Report {
    let body = request.body(&target.host).to_string();
    let timeout = Duration::from_millis(request.timeout_ms);
    let budget = Duration::from_millis(request.retry_for_ms);
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        let reply = post(target, key.map(|key| key.value.as_str()), body.as_bytes(), timeout, ANSWER_MAX);
        tries += 1;
        let (mut report, asked) = match judge(request, target, key, reply) {
            Judgement::Done(report) => return report,
            Judgement::Again(report, asked) => (report, asked),
        };
        match pause(tries, begun.elapsed(), budget, asked, random()) {
            Some(pause) => std::thread::sleep(pause),
            None => {
                if let (Some(failure), 2..) = (&mut report.failure, tries) {
                    let seconds = begun.elapsed().as_secs();
                    failure.message.push_str(&format!(" (tried {tries} times in {seconds} s)"));
                }
                return report;
            }
        }
    }
}

/// Where a request goes: what the file says, else the environment, else OpenRouter.
pub(super) fn endpoint(request: &ChatRequest, environment: impl Fn(&str) -> Option<String>) -> Result<Target, String> {
    let set = |text: &String| !text.trim().is_empty();
    let (source, base) = match (&request.base_url, environment("TENURE_LLM_BASE_URL").filter(set)) {
        (Some(base), _) => ("baseUrl", base.clone()),
        (None, Some(base)) => ("$TENURE_LLM_BASE_URL", base),
        (None, None) => ("the base URL", OPENROUTER.to_owned()),
    };
    let url = format!("{}/chat/completions", base.trim().trim_end_matches('/'));
    Target::parse(&url).map_err(|flaw| format!("{source} {flaw}"))
}

/// The key for a host. OpenAI's is never sent to OpenRouter, which is asked when nobody says whom to ask; who names another
/// host wants it to have the key that there is.
pub(super) fn key(host: &str, environment: impl Fn(&str) -> Option<String>) -> Option<Key> {
    let names: &[&'static str] = if is_openrouter(host) {
        &["TENURE_LLM_API_KEY", "OPENROUTER_API_KEY"]
    } else {
        &["TENURE_LLM_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"]
    };
    names.iter().find_map(|name| {
        let value = environment(name)?.trim().to_owned();
        (!value.is_empty()).then_some(Key { name, value })
    })
}

/// What an attempt means.
pub(super) fn judge(
    request: &ChatRequest,
    target: &Target,
    key: Option<&Key>,
    reply: Result<Reply, NoReply>,
) -> Judgement {
    let host = &target.shown;
    let unavailable = |message: String| Report::failed("LlmUnavailable", message);
    let reply = match reply {
        Ok(reply) => reply,
        Err(NoReply::Unreachable(why)) => {
            let message = format!("failed to reach {host}: {why}; is the base URL right ($TENURE_LLM_BASE_URL)?");
            return Judgement::Again(unavailable(message), None);
        }
        Err(NoReply::TimedOut) => {
            let limit = Duration::from_millis(request.timeout_ms);
            let limit = humantime::format_duration(limit);
            return Judgement::Done(Report::failed(
                "LlmTimedOut",
                format!("{host} gave no whole answer within {limit}"),
            ));
        }
        Err(NoReply::Hopeless(why)) => {
            return Judgement::Done(unavailable(format!("failed to ask {host}: {why}")));
        }
    };
    let (status, words) = match reply.status {
        200..=299 => match answer::read(request, &reply.body) {
            Ok(report) => return Judgement::Done(report),
            Err(Complaint { status, message }) => (status.unwrap_or(reply.status), message),
        },
        status => (status, complaint(&reply.body)),
    };
    let what = with_words(&format!("{host} answered {}", status_text(status)), &words);
    let to_do = match (status, key) {
        (401 | 403, Some(key)) => format!("check the key in ${}", key.name),
        (401 | 403, None) => "set TENURE_LLM_API_KEY in the controller's environment".to_owned(),
        (402, _) => "the account needs credit".to_owned(),
        (404, _) => "check the model's name and the base URL ($TENURE_LLM_BASE_URL)".to_owned(),
        (300..=399, _) => "it is somewhere else: correct the base URL ($TENURE_LLM_BASE_URL)".to_owned(),
        (429 | 500..=599, _) => "try again later".to_owned(),
        _ => "correct the request".to_owned(),
    };
    let message = format!("{what}; {to_do}");
    match status {
        429 | 500..=599 => Judgement::Again(unavailable(message), reply.retry_after),
        401 | 403 => Judgement::Done(Report::failed("LlmUnauthorized", message)),
        _ => Judgement::Done(Report::failed("LlmRejected", message)),
    }
}

/// The same without the key, should the server have repeated it.
pub(super) fn masked(mut report: Report, key: Option<&Key>) -> Report {
    if let (Some(failure), Some(key)) = (&mut report.failure, key)
        && key.value.chars().count() >= MASKED_CHARS
    {
        failure.message = failure.message.replace(&key.value, "***");
    }
    report
}
