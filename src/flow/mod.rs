//! The flow language: what an author wrote gets its meaning, and a job goes through its life. Pure: no clock, no file, no
//! process. It imports `model` only.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod expr;
mod types;

pub use types::*;
