//! The controller: the loop, what wakes it, and the watched directory.

mod handle;

pub use handle::*;
