//! The program of a broker's machine: the real broker on as many cores as this start draws.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use trialog_engine::broker::{self, AdminWish, Listen, Loggers};
use trialog_engine::config;
use trialog_engine::id::CoreId;
use trialog_engine::io::Io;

use super::shape::REQUEST_MEMORY;
use super::stage::{ADMIN_PORT, INSIDE_PORT, PORT, Stage};
use crate::io::SimIo;
use crate::timing::judging_in_turns;

/// Where a broker's data are on its disk.
pub const DATA: &str = "/data";

/// Runs broker number `broker` until it stops or cannot start; after the run, examines its disk.
pub(crate) async fn serve(io: SimIo, stage: Stage, broker: usize) {
    if stage.is_examined() {
        return judging_in_turns(stage.examine(&io, broker)).await;
    }
    let shape = &stage.shape.brokers[broker];
    let mut random = stage.stream("start", (broker as u64) << 32 | io.process().number);
    let cores = random.pick(&shape.cores);
    let mut settings = shape.settings.clone();
    let memory = io.world().machine(broker, |machine| machine.request_memory);
    settings.extend(memory.map(|(_, bytes)| (REQUEST_MEMORY, bytes.to_string())));
    let config = config::Broker::parse(&settings).expect("legal settings are drawn");
    let listen = |(name, port): (&str, u16)| {
        let address = SocketAddr::new([0, 0, 0, 0].into(), port);
        Listen { name: name.into(), address }
    };
    let options = broker::Options {
        config,
        data: PathBuf::from(DATA),
        listen: [("PLAINTEXT", PORT), ("INSIDE", INSIDE_PORT)].map(listen).into(),
        admin: Some(AdminWish {
            address: SocketAddr::new([0, 0, 0, 0].into(), ADMIN_PORT),
            optional: false,
            usage: || None,
        }),
        cores,
        loggers: Some(Arc::new(Loggers::new("info", |_| ()))),
    };
    let shared = broker::Shared::new(options);
    stage.broker_runs(broker, &io, shared.clone());
    for core in (1..cores).map(CoreId) {
        let (own, shared) = (io.on_core(core), Arc::clone(&shared));
        io.spawn(async move {
            // Core 0 reports why the broker did not start.
            let _ = broker::run(own, core, shared).await;
        });
    }
    let (told, stopping) = (io.clone(), Arc::clone(&shared));
    io.spawn(async move {
        told.told_to_stop().await;
        stopping.stop();
    });
    if let Err(error) = broker::run(io.clone(), CoreId(0), shared).await {
        io.world().say(&format!("broker {broker} did not start: {error}"));
    }
}
