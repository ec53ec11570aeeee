//! The diff of what should be and what is. Pure.

/// What would bring what is to what should be.
#[derive(Debug, Clone, Default)]
pub struct Plan {}
