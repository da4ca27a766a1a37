//! Integration tests of the engine, one binary.

mod broker;
mod client;
mod crash;
mod crash_model;
mod ring;

mod program;
