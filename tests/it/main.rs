//! What only the outside can prove: real controllers, real trees of processes, the real adapter.

mod cases;
mod directory;
mod manners;
mod support;
