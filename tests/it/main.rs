//! What only the outside can prove.

mod cases;
mod support;
