//! A deterministic simulator that runs the real broker under faults.
//!
//! It is the other side of the engine's seam: `io::SimIo` implements `trialog_engine::io::Io` on
//! a simulated [`disk`], network and [`clock`], and takes from madsim only its executor, virtual
//! time and nodes. Everything that happens follows from one [`seed::Seed`]; two runs of a seed end
//! with the same [`trace::Digest`].
//!
//! Around the runs stands the workbench, `cargo sim`: a [`crew`] of worker processes carries runs
//! out and compares the second of two in a fresh process; [`sweep`] adds up, [`coverage`] says what
//! was reached, [`timing`] how fast; a [`tally`] holds it for machines that share a sweep; [`shrink`] makes a failing run small, and [`report`] shows it on
//! one page, drawn from its [`tape`]. What arrived on the wire is heard by a [`tap`].
//! `cargo sim --help` explains the commands and the exit codes.
//!
//! Your own programs can stand trial, too: see [`trial`], and this tutorial.
//!
#![doc = include_str!("tutorial.md")]

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`, which .cargo/config.toml sets for every command. An \
     environment variable RUSTFLAGS (or CARGO_ENCODED_RUSTFLAGS, or `build.rustflags` of another \
     configuration) replaces that setting: unset it, or add `--cfg madsim` to it."
);

pub mod agenda;
pub mod atlas;
pub mod cause;
pub mod clock;
pub mod cluster;
pub mod contents;
pub mod coverage;
pub mod crew;
pub mod disk;
mod fate;
pub mod fault;
pub mod invariant;
pub mod io;
pub mod machine;
pub mod nemesis;
pub mod net;
pub mod outcome;
pub mod panicked;
pub mod plan;
pub mod report;
pub mod scenario;
pub mod seed;
pub mod seeds;
pub mod shrink;
mod sum;
pub mod sweep;
pub mod tally;
pub mod tap;
pub mod tape;
pub mod timing;
pub mod trace;
pub mod trial;
pub mod world;
