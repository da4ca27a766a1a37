//! Integration tests of the simulator, one binary.

mod fidelity;
mod program;
mod toy;
mod trial;
mod workbench;
