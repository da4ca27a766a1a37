//! Integration tests of the engine, one binary.

mod broker;
mod client;
mod ring;

mod program;
