//! The flow language: what an author wrote gets its meaning, and a job goes through its life. Pure: no clock, no file, no
//! process. It imports `model` only.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod compile;
pub mod expr;
mod machine;
pub mod schema;
mod secrets;
mod text;
mod types;

pub use compile::{Compiled, compile};
pub use machine::*;
pub use secrets::{Secrets, Sensitive};
pub use text::{substitute, variables};
pub use types::*;

/// Whether an expression can be understood; if not: why, and how many characters into it.
fn parses(text: &str) -> Result<(), (String, usize)> {
    expr::parse(text).map(drop).map_err(|error| (error.message, error.offset))
}
