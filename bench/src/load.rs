//! The load: prepared bytes out, answers counted in, from one thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection with no delays of its own.
#[must_use]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Sends `request` `times` times with at most `deep` unanswered; answers are `answer` bytes each.
pub fn pipelined(stream: &mut TcpStream, request: &[u8], answer: usize, times: u64, deep: u64) {
    let mut buffer = vec![0; (answer * usize::try_from(deep).expect("small")).max(1 << 20)];
    let (mut sent, mut received, mut partial) = (0, 0, 0);
    let train: Vec<u8> = request.repeat(usize::try_from(deep).expect("small"));
    while received < times {
        let room = (deep - (sent - received)).min(times - sent);
        let bytes = usize::try_from(room).expect("small") * request.len();
        stream.write_all(&train[..bytes]).expect("the server reads");
        sent += room;
        let read = stream.read(&mut buffer).expect("the server answers");
        assert_ne!(read, 0, "the server closed the connection");
        received += ((partial + read) / answer) as u64;
        partial = (partial + read) % answer;
    }
    assert_eq!(partial, 0, "answers are {answer} bytes each");
}

/// One request on every stream, then one answer of `answer` bytes from every stream; `rounds`
/// times.
pub fn in_turn(streams: &mut [TcpStream], request: &[u8], answer: usize, rounds: u64) {
    let mut buffer = vec![0; answer];
    for _ in 0..rounds {
        for stream in &mut *streams {
            stream.write_all(request).expect("the server reads");
        }
        for stream in &mut *streams {
            stream.read_exact(&mut buffer).expect("the server answers");
        }
    }
}

/// One request, and the whole frame it is answered with.
pub fn call(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("the server reads");
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("the server answers");
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(size)).expect("64 bits")];
    stream.read_exact(&mut frame).expect("the server answers");
    frame
}
