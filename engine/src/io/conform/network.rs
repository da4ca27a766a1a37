//! Listening, connecting, and what the two ends of a connection see of each other.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::poll_immediate;

use super::{done, receive, send, task, try_receive};
use crate::io::{Buf, Connection, ErrorKind, Flow, Io, Listener};

pub(super) async fn run<I: Io>(server: &I, client: &I, ip: IpAddr) {
    listening(server, client, ip).await;
    talking(server, client, ip).await;
    half_closing(server, client, ip).await;
    closing(server, client, ip).await;
    dropping(server, client, ip).await;
    accepting_from_clones(server, client, ip).await;
    abandoned_accepts(server, client, ip).await;
    many(server, client, ip).await;
}

/// A connected pair: the server's end and the client's.
pub(super) async fn pair<I: Io>(
    server: &I,
    client: &I,
    ip: IpAddr,
) -> (I::Connection, I::Connection) {
    let listener = server.listen(SocketAddr::new(ip, 0)).await.expect("listen");
    let address = listener.local_address();
    let accepting = task(server, async move { listener.accept().await.expect("accept") });
    let near = client.connect(address).await.expect("connect");
    (done(accepting).await, near)
}

async fn listening<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let listener = server.listen(SocketAddr::new(ip, 0)).await.expect("listen");
    let address = listener.local_address();
    assert_ne!(address.port(), 0);
    assert_eq!(address.ip(), ip);
    let error = server.listen(address).await.err().expect("the port is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let near = client.connect(address).await.expect("connect");
    let far = listener.accept().await.expect("accept");
    assert_eq!(near.peer_address(), address);
    assert_eq!(far.local_address(), address);
    assert_eq!(near.local_address(), far.peer_address());
    assert_ne!(near.local_address(), address);
    drop((near, far, listener));

    // The last clone of a listener gives its port back.
    for attempt in 0.. {
        let result = client.connect(address).await;
        match result.err().map(|error| error.kind()) {
            Some(ErrorKind::ConnectionRefused) => break,
            _ => assert!(attempt < 100, "still connects to a listener that is gone"),
        }
        client.sleep(Duration::from_millis(10)).await;
    }
    let listener = server.listen(address).await.expect("the port is free again");
    assert_eq!(listener.local_address(), address);
}

async fn talking<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let (far, near) = pair(server, client, ip).await;
    send(&near, b"ping").await;
    assert_eq!(receive(&far, 4).await, b"ping");
    send(&far, b"pong!").await;
    // A read takes what fits and leaves the rest, behind what the buffer holds already.
    let mut buf = Buf::with_capacity(5);
    buf.put(b"<>");
    let mut got = Vec::new();
    while got.len() < 5 {
        let (result, mut returned) = near.read(buf).await;
        let count = result.expect("read");
        assert!((1..=3).contains(&count));
        assert_eq!(returned[..2], *b"<>");
        got.extend_from_slice(&returned[2..]);
        returned.truncate(2);
        buf = returned;
    }
    assert_eq!(got, b"pong!");
    assert_eq!(near.read(Buf::new()).await.0.expect("no room"), 0);
    let (result, buf) = near.write(Buf::new(), Flow::Done).await;
    assert_eq!((result.expect("nothing"), buf.len()), (0, 0));

    // Parts that are marked as such still arrive.
    let (result, buf) = near.write(Buf::from(&b"head"[..]), Flow::More).await;
    let mut sent = buf[..result.expect("write")].to_vec();
    send(&near, b"tail").await;
    sent.extend_from_slice(b"tail");
    assert_eq!(receive(&far, sent.len()).await, sent);

    // A read that waits, and a write beside it.
    let reading = task(client, {
        let near = near.clone();
        async move { receive(&near, 6).await }
    });
    client.sleep(Duration::from_millis(5)).await;
    send(&near, b"both").await;
    assert_eq!(receive(&far, 4).await, b"both");
    send(&far, b"ways..").await;
    assert_eq!(done(reading).await, b"ways..");
}

async fn half_closing<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let (far, near) = pair(server, client, ip).await;
    send(&near, b"question").await;
    near.shutdown().await.expect("shutdown");
    assert_eq!(receive(&far, 100).await, b"question");
    assert_eq!(far.read(Buf::with_capacity(9)).await.0.expect("still the end"), 0);
    // The other half goes on.
    send(&far, b"answer").await;
    far.shutdown().await.expect("shutdown");
    assert_eq!(receive(&near, 100).await, b"answer");
    let (result, buf) = near.write(Buf::from(&b"late"[..]), Flow::Done).await;
    assert_eq!(result.expect_err("this half has ended").kind(), ErrorKind::BrokenPipe);
    assert_eq!(&*buf, b"late", "the buffer comes back");
}

async fn closing<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let (far, near) = pair(server, client, ip).await;
    // Closing ends the reads that wait: here at once, there as the end.
    let here = task(server, {
        let far = far.clone();
        async move { try_receive(&far, 10).await }
    });
    let there = task(client, async move { (try_receive(&near, 10).await, near) });
    server.sleep(Duration::from_millis(5)).await;
    far.close();
    far.close();
    if let Ok(bytes) = done(here).await {
        assert_eq!(bytes, b"");
    }
    let (result, near) = done(there).await;
    assert_eq!(result.expect("the end"), b"");
    far.write(Buf::from(&b"x"[..]), Flow::Done).await.0.expect_err("it is closed");
    if let Ok(count) = far.read(Buf::with_capacity(1)).await.0 {
        assert_eq!(count, 0);
    }
    // The peer finds out when it writes.
    for attempt in 0.. {
        let (result, _) = near.write(Buf::from(&b"x"[..]), Flow::Done).await;
        if let Err(error) = result {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");
            break;
        }
        assert!(attempt < 1000, "writes to a closed peer go on and on");
        client.sleep(Duration::from_millis(1)).await;
    }

    // Closing ends a write that waits for room.
    let (far, near) = pair(server, client, ip).await;
    let writing = task(client, {
        let near = near.clone();
        async move {
            loop {
                let (result, _) = near.write(Buf::from(vec![7; 1 << 20]), Flow::Done).await;
                if result.is_err() {
                    break;
                }
            }
        }
    });
    client.sleep(Duration::from_millis(50)).await;
    near.close();
    done(writing).await;
    drop(far);
}

async fn dropping<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let (far, near) = pair(server, client, ip).await;
    send(&far, b"last words").await;
    let clone = far.clone();
    drop(far);
    send(&clone, b".").await;
    drop(clone);
    assert_eq!(receive(&near, 100).await, b"last words.");

    // An abandoned read does not keep a connection open.
    let (far, near) = pair(server, client, ip).await;
    let reading = poll_immediate(far.read(Buf::with_capacity(100))).await;
    assert!(reading.is_none(), "there is nothing to read");
    drop(far);
    if let Ok(bytes) = try_receive(&near, 100).await {
        assert_eq!(bytes, b"");
    }
}

async fn accepting_from_clones<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let listener = server.listen(SocketAddr::new(ip, 0)).await.expect("listen");
    let accepting: Vec<_> = (0..3)
        .map(|_| {
            let listener = listener.clone();
            task(server, async move { listener.accept().await.expect("accept").peer_address() })
        })
        .collect();
    let mut own = Vec::new();
    let mut open = Vec::new();
    for _ in 0..3 {
        let near = client.connect(listener.local_address()).await.expect("connect");
        own.push(near.local_address());
        open.push(near);
    }
    let mut accepted = Vec::new();
    for task in accepting {
        accepted.push(done(task).await);
    }
    own.sort();
    accepted.sort();
    assert_eq!(own, accepted);
}

/// A loop that races accepting with something else must not lose a peer.
async fn abandoned_accepts<I: Io>(server: &I, client: &I, ip: IpAddr) {
    let listener = server.listen(SocketAddr::new(ip, 0)).await.expect("listen");
    let mut open = Vec::new();
    for round in 0..20_u8 {
        let mut early = poll_immediate(listener.accept()).await;
        let near = client.connect(listener.local_address()).await.expect("connect");
        send(&near, &[round]).await;
        if early.is_none() {
            early = poll_immediate(listener.accept()).await;
        }
        let far = match early {
            Some(far) => far.expect("accept"),
            None => listener.accept().await.expect("accept"),
        };
        assert_eq!(receive(&far, 1).await, [round]);
        open.extend([near, far]);
    }
}

async fn many<I: Io>(server: &I, client: &I, ip: IpAddr) {
    const CONNECTIONS: u32 = 100;
    let listener = server.listen(SocketAddr::new(ip, 0)).await.expect("listen");
    let address = listener.local_address();
    let echo = server.clone();
    server.spawn(async move {
        for _ in 0..CONNECTIONS {
            let far = listener.accept().await.expect("accept");
            echo.spawn(async move {
                loop {
                    let bytes = receive(&far, 4).await;
                    if bytes.is_empty() {
                        break;
                    }
                    send(&far, &bytes).await;
                }
            });
        }
    });
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let io = client.clone();
            task(client, async move {
                let near = io.connect(address).await.expect("connect");
                for round in 0..5 {
                    let bytes = (number * 1000 + round).to_be_bytes();
                    send(&near, &bytes).await;
                    assert_eq!(receive(&near, 4).await, bytes);
                }
            })
        })
        .collect();
    for task in tasks {
        done(task).await;
    }
}
