//! The inbox on real threads. (Its source may hold no tests: the model compiles it a second time.)

use super::inbox::inbox;

/// Real threads, a tiny queue, many wraps: every message arrives once, each sender's in order.
#[test]
#[allow(clippy::disallowed_methods, reason = "real threads are what is tested")]
fn stress_across_threads() {
    const SENDERS: usize = 4;
    const EACH: usize = 20_000;
    let (sender, mut receiver) = inbox::<(usize, usize)>(3);
    let threads: Vec<_> = (0..SENDERS)
        .map(|who| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let runtime = runtime();
                runtime.block_on(async {
                    for number in 0..EACH {
                        sender.send((who, number)).await;
                    }
                });
            })
        })
        .collect();
    let mut next = [0; SENDERS];
    runtime().block_on(async {
        for _ in 0..SENDERS * EACH {
            let (who, number) = receiver.receive().await;
            assert_eq!(number, next[who], "sender {who} out of order");
            next[who] += 1;
        }
    });
    assert_eq!(next, [EACH; SENDERS]);
    assert!(receiver.try_receive().is_none());
    threads.into_iter().for_each(|thread| thread.join().expect("no sender panics"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers")
}
