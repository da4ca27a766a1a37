//! Integration tests of the simulator, one binary.

mod first_light;
mod toy;
