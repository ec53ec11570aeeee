//! x
mod argv;
mod catalogue;
pub use catalogue::Catalogue;
