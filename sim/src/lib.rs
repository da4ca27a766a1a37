//! A deterministic simulator that runs the real broker under faults.
//!
//! It is the other side of the engine's seam: `io::SimIo` implements `trialog_engine::io::Io` on
//! a simulated [`disk`], network and [`clock`], and takes from madsim only its executor, virtual
//! time and nodes. Everything that happens follows from one [`seed::Seed`]; two runs of a seed end
//! with the same [`trace::Digest`].

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`, which .cargo/config.toml sets for every command. An \
     environment variable RUSTFLAGS (or CARGO_ENCODED_RUSTFLAGS, or `build.rustflags` of another \
     configuration) replaces that setting: unset it, or add `--cfg madsim` to it."
);

pub mod agenda;
pub mod atlas;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod invariant;
pub mod io;
pub mod machine;
pub mod nemesis;
pub mod net;
pub mod plan;
pub mod scenario;
pub mod seed;
pub mod sweep;
pub mod tape;
pub mod trace;
pub mod world;
