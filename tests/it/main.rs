//! What only the outside can prove: real controllers, real trees of processes, the real adapter.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod acpx;
mod babble;
mod cases;
mod chaos;
mod conversation;
mod corpus;
mod directory;
mod docs;
mod executors;
mod foreign;
mod garbage;
mod large;
mod letting_go;
mod llm;
mod manners;
mod never;
#[path = "../support/pump.rs"]
mod pump;
mod reaping;
mod scan;
mod subjobs;
mod support;
