//! The load: prepared bytes out, answers counted in, from one thread that never sleeps.
//!
//! It spins where others would wait: in a virtual machine, waking a core that sleeps costs the
//! waker ten times what a small request costs it. With a load that sleeps every row would mostly
//! measure that, on both sides, and every ratio would look better than it is.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection with no delays of its own.
pub struct Stream(TcpStream);

/// Connects to a server on this machine.
#[must_use]
pub fn connect(address: SocketAddr) -> Stream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_nonblocking(true).expect("a socket");
    Stream(stream)
}

impl Stream {
    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = spin(|| self.0.write(bytes)).expect("the server reads");
            bytes = &bytes[sent..];
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let received = spin(|| self.0.read(buffer)).expect("the server answers");
        assert_ne!(received, 0, "the server closed the connection");
        received
    }

    fn receive_all(&mut self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let received = self.receive(buffer);
            buffer = &mut buffer[received..];
        }
    }
}

fn spin<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            // A pause of about a microsecond, so as not to fight over the socket's lock.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                (0..32).for_each(|_| std::hint::spin_loop());
            }
            other => return other,
        }
    }
}

/// Sends `request` `times` times with at most `deep` unanswered; answers are `answer` bytes each.
pub fn pipelined(stream: &mut Stream, request: &[u8], answer: usize, times: u64, deep: u64) {
    let mut buffer = vec![0; (answer * usize::try_from(deep).expect("small")).max(64 << 10)];
    let (mut sent, mut received, mut partial) = (0, 0, 0);
    let train: Vec<u8> = request.repeat(usize::try_from(deep).expect("small"));
    while received < times {
        let room = (deep - (sent - received)).min(times - sent);
        stream.send(&train[..usize::try_from(room).expect("small") * request.len()]);
        sent += room;
        let read = stream.receive(&mut buffer);
        received += ((partial + read) / answer) as u64;
        partial = (partial + read) % answer;
    }
    assert_eq!(partial, 0, "answers are {answer} bytes each");
}

/// Sends `request` `times` times, each after the answer of `answer` bytes to the one before; how
/// long each waited.
pub fn one_by_one(stream: &mut Stream, request: &[u8], answer: usize, times: u64) -> Vec<Duration> {
    let mut buffer = vec![0; answer];
    let mut one = || {
        let begun = Instant::now();
        stream.send(request);
        stream.receive_all(&mut buffer);
        begun.elapsed()
    };
    (0..times).map(|_| one()).collect()
}

/// One request on every stream, then one answer of `answer` bytes from every stream; `rounds`
/// times.
pub fn in_turn(streams: &mut [Stream], request: &[u8], answer: usize, rounds: u64) {
    let mut buffer = vec![0; answer];
    for _ in 0..rounds {
        for stream in &mut *streams {
            stream.send(request);
        }
        for stream in &mut *streams {
            stream.receive_all(&mut buffer);
        }
    }
}

/// One request on every stream, and the next on each as soon as the one before it is answered with
/// `answer` bytes, whatever the others wait for; `times` on each.
pub fn side_by_side(streams: &mut [Stream], request: &[u8], answer: usize, times: u64) {
    let mut buffer = vec![0; answer];
    // How many answers are still to come, and how much of the next one is here.
    let mut open: Vec<(u64, usize)> = streams.iter_mut().map(|_| (times, 0)).collect();
    streams.iter_mut().for_each(|stream| stream.send(request));
    while open.iter().any(|(left, _)| *left > 0) {
        for (stream, (left, here)) in streams.iter_mut().zip(&mut open) {
            if *left == 0 {
                continue;
            }
            *here += poll(stream, &mut buffer[*here..]);
            if *here == answer {
                *here = 0;
                *left -= 1;
                if *left > 0 {
                    stream.send(request);
                }
            }
        }
    }
}

/// Sends each of `requests` once with at most `deep` unanswered, whatever their answers.
pub fn each(stream: &mut Stream, requests: &[Vec<u8>], deep: usize) {
    let (mut sent, mut received) = (0, 0);
    while received < requests.len() {
        while sent < requests.len() && sent - received < deep {
            stream.send(&requests[sent]);
            sent += 1;
        }
        answer(stream);
        received += 1;
    }
}

/// Sends a request whose answer is not waited for.
pub fn send(stream: &mut Stream, request: &[u8]) {
    stream.send(request);
}

/// What has come, if anything; how many bytes that is.
pub fn poll(stream: &mut Stream, buffer: &mut [u8]) -> usize {
    match stream.0.read(buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Ok(0) | Err(_) => panic!("the server closed the connection"),
        Ok(read) => read,
    }
}

/// Cuts what comes on one stream into frames, without waiting for any.
#[derive(Default)]
pub struct Frames {
    held: Vec<u8>,
    taken: usize,
    piece: Vec<u8>,
}

impl Frames {
    /// The next frame without its size, if all of it has come. One piece is read at a time, so that
    /// whoever else is waited for does not wait for a long frame.
    pub fn next(&mut self, stream: &mut Stream) -> Option<&[u8]> {
        const PIECE: usize = 64 << 10;
        self.held.drain(..std::mem::take(&mut self.taken));
        if self.size().is_none_or(|size| self.held.len() < size + 4) {
            self.piece.resize(PIECE, 0);
            let read = poll(stream, &mut self.piece);
            self.held.extend_from_slice(&self.piece[..read]);
        }
        let size = self.size().filter(|size| self.held.len() >= size + 4)?;
        self.taken = size + 4;
        Some(&self.held[4..size + 4])
    }

    fn size(&self) -> Option<usize> {
        let size = self.held.first_chunk::<4>()?;
        Some(usize::try_from(u32::from_be_bytes(*size)).expect("64 bits"))
    }
}

/// One request, and the whole frame it is answered with.
pub fn call(stream: &mut Stream, request: &[u8]) -> Vec<u8> {
    stream.send(request);
    answer(stream)
}

/// The next answer's whole frame.
pub fn answer(stream: &mut Stream) -> Vec<u8> {
    let mut size = [0; 4];
    stream.receive_all(&mut size);
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(size)).expect("64 bits")];
    stream.receive_all(&mut frame);
    frame
}
