//! What goes back to a client: pieces of memory and of files, in the order they are sent.

use std::future::Future;
use std::pin::Pin;

use super::answer;
use super::ask::Fetched;
use super::handle::lone::Lone;
use super::handle::train::Departed;
use crate::log::Slice;

/// One stretch of an answer.
pub enum Piece<F> {
    /// Bytes from memory: heads, and whole answers of everything but Fetch.
    Bytes(Vec<u8>),
    /// Whole record batches, sent from the file without a copy.
    File(Slice<F>),
}

/// The outcome of one request for its connection.
pub enum Reply<F> {
    /// The answer.
    Send(Vec<Piece<F>>),
    /// Nothing is sent: a produce with acks=0 that went well.
    Silence,
    /// The connection is closed after the answers before this one: the request cannot be answered
    /// (acks=0 that failed, bytes that are no request). The reason has been logged.
    Close,
}

/// A request that has been handed on, in the order of its connection.
pub enum Pending<F> {
    /// Answered already.
    Now(Reply<F>),
    /// Produces that will be answered together.
    Departed(Departed),
    /// A fetch that is planned once it is the oldest of its connection; with the plan that was asked
    /// for if it was that when it arrived.
    Lone(Lone, Option<answer::Receiver<Fetched<F>>>),
    /// Will be answered; polled only once it is the oldest of its connection.
    Later(Pin<Box<dyn Future<Output = Reply<F>>>>),
}

impl<F> Reply<F> {
    /// An answer that is all memory.
    #[must_use]
    pub fn bytes(frame: Vec<u8>) -> Self {
        Reply::Send(vec![Piece::Bytes(frame)])
    }
}

impl<F> Pending<F> {
    /// An answer that `future` will bring.
    pub fn later(future: impl Future<Output = Reply<F>> + 'static) -> Self {
        Pending::Later(Box::pin(future))
    }
}
