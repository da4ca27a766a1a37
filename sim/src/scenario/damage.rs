//! Which damage a reader may meet: what has really struck, where it reads.
//!
//! A run may plan damage that never strikes, that strikes another log, or that is mended by now. A batch
//! that a reader finds damaged all the same is somebody's mistake, and the reader complains of it.

use std::path::Path;

use trialog_engine::id::PartitionIndex;

use super::stage::Stage;
use crate::io::SimIo;

impl Stage {
    /// Whether a batch of this partition may be damaged when it reaches `reader`: a segment of its log
    /// was struck, or some batch on the way from its broker.
    #[must_use]
    pub fn may_be_damaged(&self, reader: &SimIo, at: usize, partition: PartitionIndex) -> bool {
        let (topic, reader) = (&self.shape.topics[at], reader.process().machine);
        // The last readers come when everything is mended. Others may have in hand what was sent before.
        if reader >= self.shape.machine(self.shape.clients.len()) {
            return false;
        }
        let world = self.recorder.world();
        world.net(|net| net.has_altered(topic.broker, reader))
            || world.machine(topic.broker, |machine| {
                machine.disk.struck().any(|file| is_segment_of(file, &topic.name, partition))
            })
    }
}

/// Whether a file may be a segment of a partition; one that had no name may be anything.
fn is_segment_of(file: &Path, topic: &str, PartitionIndex(partition): PartitionIndex) -> bool {
    let Some(folder) = file.parent() else { return true };
    let last = |path: &Path| path.file_name()?.to_str().map(str::to_owned);
    let index = last(folder).and_then(|name| {
        let name = name.strip_suffix("-delete").unwrap_or(&name);
        name.rsplit_once('-')?.1.parse().ok()
    });
    file.extension().is_some_and(|extension| extension == "log")
        && folder.parent().and_then(last).is_some_and(|name| name == topic)
        && index == Some(partition)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use trialog_engine::io::{Buf, Connection, Flow, Io, Listener, Open, write_all};
    use trialog_engine::wire::batch::Builder;

    use super::*;
    use crate::cause::Cause;
    use crate::cluster::{Cluster, Frame, simulate};
    use crate::disk::SECTOR;
    use crate::machine::Machine;
    use crate::net::link::Hindrance;
    use crate::scenario::shape::Shape;
    use crate::scenario::stage::{Kept, PORT};
    use crate::scenario::{Cut, Recorder, Size};
    use crate::seed::Seed;

    #[test]
    fn a_segment_is_of_the_partition_whose_folder_it_lies_in() {
        let of = |file: &str| is_segment_of(Path::new(file), "t", PartitionIndex(3));
        assert!(of("/data/topics/t/a-b-3/00000000000000000000.log"));
        assert!(of("/data/topics/t/ab-3-delete/00000000000000000000.2.log"));
        assert!(of("/"), "what had no name may be anything");
        assert!(!of("/data/topics/t/ab-3/00000000000000000000.index"));
        assert!(!of("/data/topics/t/ab-3/checkpoint"));
        assert!(!of("/data/topics/t/ab-13/00000000000000000000.log"));
        assert!(!of("/data/topics/u/ab-3/00000000000000000000.log"));
    }

    /// Sends a batch to whoever connects.
    async fn send(io: &SimIo) {
        let address = SocketAddr::new([0, 0, 0, 0].into(), PORT);
        let listener = io.listen(address).await.expect("free");
        let connection = listener.accept().await.expect("a reader");
        let mut batch = Builder::new();
        batch.push(7, None, Some(b"value"), &[]);
        write_all(&connection, batch.finish().into(), Flow::Done).await.expect("sent");
        io.told_to_stop().await;
    }

    async fn read(io: &SimIo, broker: usize) {
        let address = SocketAddr::new(Machine::address(broker), PORT);
        let connection = io.connect(address).await.expect("a broker");
        connection.read(Buf::with_capacity(1000)).await.0.expect("bytes");
    }

    /// Changes a sector of a segment of partition 0.
    fn strike(cluster: &Cluster, broker: usize, topic: &str) {
        cluster.world().machine(broker, |machine| {
            let disk = &mut machine.disk;
            let mut dir = "/data".to_owned();
            for name in ["topics", topic, "id-0"] {
                disk.make_dir(Path::new(&dir)).expect("new");
                dir = format!("{dir}/{name}");
            }
            disk.make_dir(Path::new(&dir)).expect("new");
            let file = disk.open(Path::new(&format!("{dir}/0.log")), Open::Create).expect("room");
            disk.write(file, 0, &[&[1; SECTOR]]).expect("room");
            disk.alter(file, 0, &[2; SECTOR]);
            disk.close(file);
        });
    }

    /// In a run for which damage was planned every reader took any damage for announced.
    #[test]
    fn damage_is_expected_where_it_has_struck_and_nowhere_else() {
        let body = |cluster: Cluster| async move {
            let shape = Arc::new(Shape::draw(Seed(1), Size::Small));
            let recorder = Recorder::new(cluster.world().clone(), Arc::default());
            let (cut, kept) = (Cut::default(), Kept::default());
            let stage = Stage::new(Seed(1), shape.clone(), recorder, cut, kept);
            let (broker, reader) = (shape.topics[0].broker, shape.machine(0));
            let (other, last) = (shape.machine(1), shape.machine(shape.clients.len()));
            let ios: Arc<Mutex<BTreeMap<usize, SimIo>>> = Arc::default();
            let may = |machine: usize, index| {
                let io = ios.lock().expect("one thread")[&machine].clone();
                stage.may_be_damaged(&io, 0, PartitionIndex(index))
            };
            let altered = Hindrance::Altered(1000);
            cluster.world().net(|net| net.hinder(broker, reader, Cause(1), altered));
            for machine in 0..=last {
                let ios = Arc::clone(&ios);
                cluster.add(&machine.to_string(), 1 << 20, move |io: SimIo| {
                    let ios = Arc::clone(&ios);
                    async move {
                        ios.lock().expect("one thread").insert(machine, io.clone());
                        match machine {
                            _ if machine == broker => send(&io).await,
                            _ if machine == reader => read(&io, broker).await,
                            _ => {}
                        }
                    }
                });
            }
            cluster.pass(Duration::from_nanos(1)).await;
            assert!(!may(reader, 0), "nothing has struck yet");
            cluster.pass(Duration::from_secs(5)).await;
            assert!(may(reader, 0) && may(reader, 1), "it was some batch");
            assert!(!may(other, 0), "which came over another link");
            strike(&cluster, broker, &shape.topics[0].name);
            assert!(may(other, 0));
            assert!(!may(other, 1), "that is another log");
            assert!(!may(last, 0), "all is mended by then");
        };
        simulate(Frame::new(1), body).expect("no panic");
    }
}
