//! `tenure`: a process lives exactly as long as the job that owns it.
//!
//! A declarative store holds what should be, the operating system shows what is, a loop diffs the two and acts. The map,
//! from the ground up; a module imports only from floors below its own (`tests/tidy.rs` checks it):
//!
//! | floor | module | promise |
//! | --- | --- | --- |
//! | 1 | [`model`] | what things are; pure |
//! | 2 | [`manifest`] | text → objects, with positions; pure |
//! | 2 | [`flow`] | the flow language and the job state machine; pure |
//! | 2 | [`plan`] | the diff of what should be and what is; pure |
//! | 2 | [`foreign`] | what others started: agents, their trees, whose they are, and what becomes of them; pure |
//! | 3 | [`os`] | the only home of `unsafe` and of what differs by system |
//! | 4 | [`store`] | objects and events in SQLite; one writer |
//! | 4 | [`observe`] | the eyes: one look at the host |
//! | 4 | [`ledger`] | other programs' job stores, read as desired state; it disturbs no writer |
//! | 4 | [`shim`] | the small parent of one workload, and the files that it shares with the controller |
//! | 5 | [`acp`] | the ACP client over a workload's stdio files |
//! | 5 | [`web`] | the requests of `llm` steps and webhooks, each a workload |
//! | 6 | [`act`] | the hands: every signal, start, and clean-up |
//! | 7 | [`controller`] | the loop |
//! | 8 | [`serve`] | the API on the unix socket |
//! | 9 | [`cli`] | the command line |

pub mod acp;
pub mod act;
pub mod cli;
pub mod controller;
pub mod flow;
pub mod foreign;
pub mod ledger;
pub mod manifest;
pub mod model;
pub mod observe;
pub mod os;
pub mod plan;
pub mod serve;
pub mod shim;
pub mod store;
pub mod web;
