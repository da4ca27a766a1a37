//! The same script on every world of this package: the ring and RAM.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use trialog_engine::io::ram::Ram;
use trialog_engine::io::{Io, conform, ring};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn ram_conforms() {
    for seed in 0..4 {
        let ram = Ram::new(seed);
        ram.block_on(async {
            let dir = Path::new("/conform");
            ram.make_dir(dir).await.expect("make");
            conform::all(&ram, dir, LOCALHOST).await;
        });
    }
}

#[test]
fn ring_conforms() {
    if let Err(reason) = ring::available() {
        eprintln!("SKIPPED, THE RING WAS NOT TESTED: {reason}");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_owned();
    ring::run(0, |io| async move { conform::all(&io, &path, LOCALHOST).await }).expect("a ring");
}
