//! Integration tests of the engine, one binary.

mod broker;
mod client;
mod compact;
mod crash;
mod crash_model;
mod load;
mod model;
mod worlds;

// The files that `model` compiles a second time find it under this name.
use trialog_engine::limit;

mod first_run;
mod program;
mod refused;
