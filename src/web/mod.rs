//! Requests to web servers: the chat completion of an `llm` step, and the webhook of a `notification`.
//!
//! What it promises: the controller makes no request itself. Each is a workload like any other, a hidden subcommand of this
//! program under a shim (`tenure llm-request FILE`, `tenure notify FILE`), so it survives the controller and ends with its job.
//! Everything is bounded: how long an answer takes, how large it is, how long it is tried again. The key comes from the
//! environment only, is in no file and no argument, and is never printed; of a URL only the host is shown, for webhooks carry
//! their secret in the path. A redirect is not followed: the key would go along.
//!
//! What is asked ([`ChatRequest`], [`NotifyRequest`]) and what an answer means ([`outcome`]) are pure; `http` is the edge. It
//! imports the model, the flow language's types, and nothing else of this crate.

mod answer;
mod chat;
mod http;
mod notify;
mod report;
mod request;
mod retry;
#[cfg(test)]
mod tests;

pub use chat::chat;
pub use notify::notify;
pub use report::{REPORT_MAX, Report, outcome};
pub use request::{ChatRequest, FORMAT, NotifyRequest, OutputSchema, OutputType};
