//! Integration tests of the engine, one binary.

mod broker;
mod ring;

mod program;
