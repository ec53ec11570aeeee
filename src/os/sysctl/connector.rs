//! There is no news of everybody's forks and ends here: a kqueue tells of processes that are asked for one by one.

use crate::os::Heard;
use std::io;

/// A subscription to the events of all processes: a type of which there is no value.
#[derive(Debug)]
pub enum Connector {}

impl Connector {
    /// Subscribes.
    ///
    /// # Errors
    /// Always: there is nothing to subscribe to.
    pub fn open() -> io::Result<Connector> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Says whose events ring from now on.
    ///
    /// # Errors
    /// None.
    pub fn hear(&self, _heard: &Heard) -> io::Result<()> {
        match *self {}
    }

    /// Completes when something has rung since the last call.
    ///
    /// # Errors
    /// None.
    pub async fn rung(&self) -> io::Result<()> {
        match *self {}
    }
}
