//! An answer on its way to a visitor: whole if it is short, in chunks as it is made if it is long.

use super::http::{self, Length, Request, Status};
use super::let_others_go;
use crate::io::{self, Buf, Flow, Io};
use crate::limit::ADMIN_PIECE_BYTES;

/// The answer to one request.
pub struct Answer<'a, I: Io> {
    connection: &'a I::Connection,
    request: &'a Request,
    /// What was made and not sent yet.
    pub text: String,
}

impl<'a, I: Io> Answer<'a, I> {
    /// An answer of which nothing is known yet.
    pub fn new(connection: &'a I::Connection, request: &'a Request) -> Self {
        Answer { connection, request, text: String::new() }
    }

    /// Sends all of a short one, for people.
    pub async fn short(self, status: Status, text: &str) -> io::Result<()> {
        self.short_of(status, "text/plain; charset=utf-8", text).await
    }

    /// Sends all of a short one of some content.
    pub async fn short_of(mut self, status: Status, content: &str, text: &str) -> io::Result<()> {
        self.text = http::head(status, content, Length::Known(text.len()));
        if !self.request.head_only {
            self.text.push_str(text);
        }
        self.send(Flow::Done).await
    }

    /// Begins a long one.
    pub async fn begin(&mut self, content: &str) -> io::Result<()> {
        let length = if self.request.chunks { Length::Chunks } else { Length::ToTheEnd };
        self.text = http::head(Status::Ok, content, length);
        self.send(Flow::More).await
    }

    /// Sends what has been made once it is worth it, and lets others go.
    pub async fn pause(&mut self) -> io::Result<()> {
        if self.text.len() < ADMIN_PIECE_BYTES {
            return Ok(());
        }
        self.send_chunk(Flow::More).await?;
        let_others_go().await;
        Ok(())
    }

    /// Sends the rest.
    pub async fn end(mut self) -> io::Result<()> {
        self.send_chunk(Flow::More).await?;
        if self.request.chunks && !self.request.head_only {
            self.text.push_str("0\r\n\r\n");
        }
        self.send(Flow::Done).await
    }

    async fn send_chunk(&mut self, flow: Flow) -> io::Result<()> {
        if self.request.head_only {
            self.text.clear();
        }
        if self.text.is_empty() {
            return Ok(());
        }
        if self.request.chunks {
            self.text.insert_str(0, &format!("{:x}\r\n", self.text.len()));
            self.text.push_str("\r\n");
        }
        self.send(flow).await
    }

    async fn send(&mut self, flow: Flow) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.text).into_bytes();
        io::write_all(self.connection, Buf::from(bytes), flow).await
    }
}
