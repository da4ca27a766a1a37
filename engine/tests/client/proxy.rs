//! A bad network between a client and a broker: it cuts connections before or after passing on what
//! came, alters it, holds bytes up, and goes silent.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use trialog_engine::io::ram::{Ram, RamConnection};
use trialog_engine::io::{self, Buf, Connection, Flow, Instant, Io, Listener};

/// Where the broker is.
pub const BROKER: &str = "127.0.0.1:9092";
/// Where the bad network begins.
pub const PROXY: &str = "127.0.0.1:19092";

/// For a client's options: the broker's advertised address leads through the proxy.
pub fn through_proxy(_: &str, _: u16) -> Option<SocketAddr> {
    PROXY.parse().ok()
}

/// What the network does.
pub struct Proxy {
    /// One in so many chunks meets a fault; 0 for none.
    pub fault_in: Cell<u64>,
    /// Nothing passes, and nothing is told.
    pub silent: Cell<bool>,
    /// What comes now is held up until then, and arrives even if its sender has hung up.
    pub held_until: Cell<Option<Instant>>,
    /// The next chunk with these bytes in it has the first of them altered.
    pub alter: Cell<Option<&'static str>>,
    /// Connections cut on purpose.
    pub cuts: Cell<u64>,
}

impl Proxy {
    pub async fn start(ram: &Ram, fault_in: u64) -> Rc<Proxy> {
        let proxy = Rc::new(Proxy {
            fault_in: Cell::new(fault_in),
            silent: Cell::new(false),
            held_until: Cell::new(None),
            alter: Cell::new(None),
            cuts: Cell::new(0),
        });
        let listener = ram.listen(PROXY.parse().expect("an address")).await.expect("free");
        let (world, state) = (ram.clone(), proxy.clone());
        ram.spawn(async move {
            while let Ok(client) = listener.accept().await {
                let Ok(broker) = world.connect(BROKER.parse().expect("an address")).await else {
                    client.close();
                    continue;
                };
                for (from, to) in [(&client, &broker), (&broker, &client)] {
                    let pump = state.clone().pump(world.clone(), from.clone(), to.clone());
                    world.spawn(pump);
                }
            }
        });
        proxy
    }

    async fn pump(self: Rc<Self>, ram: Ram, from: RamConnection, to: RamConnection) {
        loop {
            let (read, mut buf) = from.read(Buf::with_capacity(4096)).await;
            let Ok(read) = read else { break };
            if read == 0 {
                break;
            }
            let altered = self.alter.get().and_then(|word| {
                buf.windows(word.len()).position(|bytes| bytes == word.as_bytes())
            });
            if let Some(at) = altered {
                buf[at] ^= 1;
                self.alter.set(None);
            }
            while self.silent.get() {
                ram.sleep(Duration::from_millis(50)).await;
            }
            if let Some(then) = self.held_until.get() {
                ram.sleep(then.since(ram.now())).await;
            }
            let fault_in = self.fault_in.get();
            let fault = if fault_in > 0 && ram.random().is_multiple_of(fault_in) {
                1 + ram.random() % 4
            } else {
                0
            };
            match fault {
                // What came is lost, in whole or in part.
                1 => break,
                2 => buf.truncate(read / 2),
                3 => ram.sleep(Duration::from_millis(ram.random() % 6000)).await,
                _ => {}
            }
            if io::write_all(&to, buf, Flow::Done).await.is_err() {
                break;
            }
            // It arrived, and the sender will not know.
            if fault == 2 || fault == 4 {
                break;
            }
        }
        self.cuts.set(self.cuts.get() + 1);
        from.close();
        to.close();
    }
}
