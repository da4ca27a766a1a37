//! What only the ring has; what all worlds share is in `conform`.

use super::*;
use crate::io::{Buf, Connection, File, Flow, Listener, fill_at, write_all, write_all_at};

#[test]
fn a_file_and_a_connection_work() {
    if let Err(reason) = available() {
        eprintln!("SKIPPED, the ring was not tested: {reason}");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("file");
    run(0, |io| async move {
        let file = io.open(&path, Open::CreateNew).await.expect("open");
        write_all_at(&file, vec![Buf::from(&b"hello"[..])], 0).await.0.expect("write");
        file.sync().await.expect("sync");
        let (result, buf) = fill_at(&file, Buf::with_capacity(10), 0).await;
        result.expect("read");
        assert_eq!(&*buf, b"hello");
        let listener = io.listen("127.0.0.1:0".parse().expect("address")).await.expect("listen");
        let address = listener.local_address();
        let client = io.connect(address).await.expect("connect");
        let server = listener.accept().await.expect("accept");
        assert_eq!(server.peer_address(), client.local_address());
        write_all(&client, Buf::from(&b"ping"[..]), Flow::Done).await.expect("write");
        let (result, buf) = server.read(Buf::with_capacity(10)).await;
        assert_eq!(result.expect("read"), 4);
        assert_eq!(&*buf, b"ping");
        assert_eq!(server.send_file(&file, 1, 100, Flow::Done).await.expect("send"), 4);
        let (result, buf) = client.read(Buf::with_capacity(10)).await;
        assert_eq!(result.expect("read"), 4);
        assert_eq!(&*buf, b"ello");
    })
    .expect("a ring");
}
