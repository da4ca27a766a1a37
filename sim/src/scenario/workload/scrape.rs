//! An operator's tool: asks a broker's admin listener for a page, or begins to and falls silent.
//!
//! What comes is whole or nothing: an answer that has ended must be one of those there are.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use trialog_engine::io::{self, Buf, Connection, Flow, Io};

use crate::machine::Machine;
use crate::scenario::stage::{ADMIN_PORT, Actor};
use crate::seed::Stream;

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it tries to connect.
const KNOCKS_MAX: u32 = 300;
/// How soon it tries again.
const KNOCK_EVERY: Duration = Duration::from_millis(5);

/// Asks the actor's broker once.
pub(super) async fn scrape(actor: &Actor, random: &mut Stream) {
    let path = random.pick(&["/metrics", "/livez", "/readyz", "/startupz"]);
    let length = if random.chance(1, 4) { random.below(20) as usize } else { usize::MAX };
    let asking = pin!(ask(actor, path, length));
    let limit = pin!(actor.io.sleep(PATIENCE));
    // The first is asked first: an answer that is there counts, however late it is.
    let Either::Left((Ok((path, answer)), _)) = select(asking, limit).await else { return };
    if let Err(wrong) = check(path, &answer) {
        actor.stage.complain(format!("{path} was answered with {answer:?}: {wrong}"));
    }
}

/// Asks for `path`, or for as much of it as `length` allows; tells what was asked for, and the answer.
/// A broker that is down is asked whether it is ready as soon as it can be.
async fn ask(
    actor: &Actor,
    mut path: &'static str,
    length: usize,
) -> io::Result<(&'static str, String)> {
    let address = SocketAddr::new(Machine::address(actor.shape().home), ADMIN_PORT);
    let mut refused = 0;
    let connection = loop {
        match actor.io.connect(address).await {
            Err(_) if refused < KNOCKS_MAX => refused += 1,
            told => break told?,
        }
        path = "/readyz";
        actor.io.sleep(KNOCK_EVERY).await;
    };
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: broker\r\n\r\n").into_bytes();
    text.truncate(length);
    io::write_all(&connection, Buf::from(text), Flow::Done).await?;
    let mut all = Vec::new();
    loop {
        let (read, buf) = connection.read(Buf::with_capacity(16 << 10)).await;
        match read? {
            0 => return Ok((path, String::from_utf8_lossy(&all).into_owned())),
            _ => all.extend_from_slice(&buf),
        }
    }
}

fn check(path: &str, answer: &str) -> Result<(), &'static str> {
    // Who asked nothing, or came at the end, is told nothing; a broker may die in the middle.
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Ok(()) };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !["200", "503"].contains(&status) || (path == "/metrics" && status != "200") {
        return Err("there is no such answer");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    match length.map(str::parse::<usize>) {
        Some(Ok(length)) if body.len() > length => Err("it goes on behind its end"),
        Some(Err(_)) => Err("its length is no number"),
        _ => Ok(()),
    }
}
