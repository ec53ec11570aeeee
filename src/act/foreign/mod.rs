//! Ends what we did not start, and leaks.
//!
//! What it promises:
//! - Nobody is signalled but by a verdict `Reap` of a look that began after whatever was done before; the verdict is asked again
//!   before each signal. *Unknown* sends nothing.
//! - A tree is its root's identity and the identities of all that belonged to it. What is left when the root has ended is ended
//!   too, unless a tree of its own says that somebody needs it.
//! - Every signal leaves through [`Held`](crate::os::Held): no process 1, no thread of the kernel, neither ourselves nor one above
//!   us, nobody with a mark of any tenure, nobody that the policy protects, and nobody of another user's unless we are root.
//! - It is over when two looks in a row have found nothing.

mod deserted;
mod look;
mod stop;
mod targets;

pub use look::{Look, Lookout, Rules};
pub use stop::{Outcome, Stopping, kill, never, stop, terminate};
pub use targets::{Aimed, Condemned};
