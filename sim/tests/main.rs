//! Integration tests of the simulator, one binary.

mod toy;
mod trial;
mod workbench;
