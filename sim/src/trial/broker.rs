//! The broker of a trial: the real one, on two cores of a machine of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use trialog_engine::broker;
use trialog_engine::config;
use trialog_engine::id::CoreId;
use trialog_engine::io::Io;

use crate::io::SimIo;
use crate::machine::Machine;

const PORT: u16 = 9092;
const CORES: u16 = 2;
/// Its machine's number.
pub const MACHINE: usize = 0;

/// Where it listens.
pub fn address() -> SocketAddr {
    SocketAddr::new(Machine::address(MACHINE), PORT)
}

/// Its program.
pub(crate) async fn serve(io: SimIo) {
    let settings = [
        ("trialog.disk.free.min.bytes", "0"),
        ("group.initial.rebalance.delay.ms", "0"),
        // Each is looked at in every start.
        ("offsets.topic.num.partitions", "4"),
    ];
    let options = broker::Options {
        config: config::Broker::parse(settings).expect("legal"),
        data: PathBuf::from("/data"),
        listen: vec![SocketAddr::new([0, 0, 0, 0].into(), PORT).into()],
        admin: None,
        loggers: None,
        cores: CORES,
    };
    let shared = broker::Shared::new(options);
    for core in (1..CORES).map(CoreId) {
        let (own, shared) = (io.on_core(core), Arc::clone(&shared));
        io.spawn(async move {
            // Core 0 reports why the broker did not start.
            let _ = broker::run(own, core, shared).await;
        });
    }
    if let Err(error) = broker::run(io.clone(), CoreId(0), shared).await {
        io.world().say(&format!("the broker did not start: {error}"));
    }
}
