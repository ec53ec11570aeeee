//! What only the outside can prove: real controllers, real trees of processes, the real adapter.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod babble;
mod cases;
mod chaos;
mod directory;
mod garbage;
mod large;
mod letting_go;
mod manners;
mod never;
mod reaping;
mod subjobs;
mod support;
