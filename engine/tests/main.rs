//! Integration tests of the engine, one binary.

mod broker;
mod client;
mod compact;
mod crash;
mod crash_model;
mod load;
// What is allocated is counted here as it is in the tests beside the source.
#[path = "../src/wire/api/meter.rs"]
mod meter;
mod model;
mod worlds;

// The files that `model` compiles a second time find it under this name.
use trialog_engine::limit;

mod first_run;
mod program;
mod refused;
