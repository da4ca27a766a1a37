//! Integration tests of the simulator, one binary.

mod fidelity;
mod toy;
mod trial;
mod workbench;
