//! What every ledger has to stand: the host that was frozen, a writer beside us, and whatever else may be where a ledger was.

mod acpx;
mod desk;
mod files;
mod large;
mod stepwise;
mod support;
mod trust;
