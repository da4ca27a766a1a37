//! A connection for clients that are made of nothing but frames: requests out, answers in, and no
//! opinion on either.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use trialog_engine::id::CorrelationId;
use trialog_engine::io::{self, Buf, Connection, Flow, Io};
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::frame::{self, RequestHeader};

use crate::io::SimIo;
use crate::machine::Machine;
use crate::scenario::stage::{Actor, PORT};

/// See the module's head. Closed when it is dropped.
pub struct Wire {
    connection: <SimIo as Io>::Connection,
    client_id: &'static str,
    asked: i32,
    read: Vec<u8>,
}

/// The frame of an answer.
pub struct Answer {
    /// Which request it says it is of.
    pub correlation: CorrelationId,
    frame: Vec<u8>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl Wire {
    /// Connects to the broker of a client.
    pub async fn open(actor: &Actor, client_id: &'static str) -> Option<Wire> {
        Wire::open_to(actor, actor.shape().home, client_id).await
    }

    /// Connects to any broker.
    pub async fn open_to(actor: &Actor, broker: usize, client_id: &'static str) -> Option<Wire> {
        let broker = SocketAddr::new(Machine::address(broker), PORT);
        let connection = actor.io.connect(broker).await.ok()?;
        Some(Wire { connection, client_id, asked: 0, read: Vec::new() })
    }

    /// Sends a request; `encode` appends its body.
    pub async fn ask(
        &mut self,
        api_key: ApiKey,
        api_version: i16,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Option<CorrelationId> {
        let (correlation_id, frame) = self.frame(api_key, api_version, encode);
        self.send(frame).await?;
        Some(correlation_id)
    }

    /// The frame of a request, for [`Wire::send`] to send, in pieces or not.
    pub fn frame(
        &mut self,
        api_key: ApiKey,
        api_version: i16,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> (CorrelationId, Vec<u8>) {
        self.asked += 1;
        let correlation_id = CorrelationId(self.asked);
        let mut out = Vec::new();
        let start = frame::begin_frame(&mut out);
        let (api_key, client_id) = (api_key as i16, Some(self.client_id));
        RequestHeader { api_key, api_version, correlation_id, client_id }.encode(&mut out);
        encode(&mut out);
        frame::end_frame(&mut out, start, 0);
        (correlation_id, out)
    }

    /// Sends bytes of frames; none if the connection is of no use any more.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Option<()> {
        io::write_all(&self.connection, Buf::from(bytes), Flow::Done).await.ok()
    }

    /// The next answer, whichever it is; none if the connection is of no use any more.
    pub async fn hear(&mut self) -> Option<Answer> {
        loop {
            if let Some(size) = frame::frame_size(&self.read).ok()?
                && self.read.len() >= frame::SIZE_BYTES + size
            {
                let mut frame = self.read.split_off(frame::SIZE_BYTES);
                self.read = frame.split_off(size);
                let correlation = frame::response_correlation_id(&frame).ok()?;
                return Some(Answer { correlation, frame });
            }
            let (count, buf) = self.connection.read(Buf::with_capacity(4096)).await;
            if count.ok()? == 0 {
                return None;
            }
            self.read.extend_from_slice(&buf);
        }
    }
}

impl Answer {
    /// Its body, as the answer to this request.
    pub fn body(&self, key: ApiKey, version: i16) -> Option<&[u8]> {
        let body = frame::response_body(&self.frame, key as i16, version).ok()?;
        Some(&self.frame[body..])
    }
}

/// What `talk` comes to; none if it takes longer than `limit`.
pub async fn at_most<T>(
    io: &SimIo,
    limit: Duration,
    talk: impl Future<Output = Option<T>>,
) -> Option<T> {
    match select(pin!(talk), pin!(io.sleep(limit))).await {
        Either::Left((told, _)) => told,
        Either::Right(_) => None,
    }
}
