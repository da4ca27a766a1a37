//! The admin listener: plain HTTP for whoever operates a broker, read only.
//!
//! `/metrics` for Prometheus, `/livez`, `/readyz` and `/startupz` for whoever starts and restarts
//! it. It opens before anything is recovered and closes after everything else. One request is
//! answered on a connection; heads, connections and time are bounded, and a visitor who takes a
//! place without asking anything loses it to the next who comes. Lives on core 0, beside
//! connections of Kafka clients, and lets others go between stretches of an answer. Must not change
//! anything.

mod answer;
mod durations;
mod exposition;
mod health;
mod http;
mod kafka_names;
mod lag;
mod metrics;
mod process;
mod recent;
mod retention;
mod survey;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tracing::{debug, info, warn};

use self::answer::Answer;
use self::http::{Request, Status};
use super::Core;
use crate::io::{self, Buf, Connection, Io, Listener};
use crate::limit::{
    ADMIN_ANSWER_WAIT, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX, ADMIN_HEAD_WAIT,
    ADMIN_LINGER_BYTES_MAX, ADMIN_LINGER_WAIT,
};
use crate::probe::{self, Probe};

pub use process::Usage;
pub use recent::Recent;

/// Where the admin listener is wanted, and what it is to tell beside what the broker knows.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The address.
    pub address: SocketAddr,
    /// Whether the broker starts without it if the address is taken: nobody asked for this one.
    pub optional: bool,
    /// Finds out what the process takes of its machine.
    pub usage: fn() -> Option<Usage>,
}

const JSON: &str = "application/json";

/// The pages, with a sentence each.
const PAGES: &[(&str, &str)] = &[
    ("/metrics", "counters and gauges in Prometheus' text format"),
    ("/livez", "whether every core takes turns; a broker that fails it must be restarted"),
    ("/readyz", "whether clients are served, and what ails the broker"),
    ("/startupz", "how far the start has come"),
    ("/topics/NAME/retention", "what will become of each segment of a topic, as JSON"),
];

/// Opens the listener that is wished for. `None` if the broker goes on without.
pub async fn open<I: Io>(io: &I, wish: Wish) -> io::Result<Option<I::Listener>> {
    match io.listen(wish.address).await {
        Ok(listener) => {
            info!(address = %listener.local_address(), "metrics and health over HTTP");
            Ok(Some(listener))
        }
        Err(error) if wish.optional && error.kind() == io::ErrorKind::AddrInUse => {
            warn!(address = %wish.address, "no metrics and health over HTTP: the address is in use, \
                perhaps by another broker; give this one its own with \
                --set trialog.admin.listener=HOST:PORT, or off");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Who is here: at most [`ADMIN_CONNECTIONS_MAX`], in the order in which they came.
struct Visitors<C> {
    seated: VecDeque<Visitor<C>>,
    next: u64,
}

struct Visitor<C> {
    number: u64,
    connection: C,
    /// It has asked something, and is being answered.
    asked: bool,
}

impl<C: Connection> Visitors<C> {
    /// Gives a newcomer a place: that of whoever has waited longest without asking anything, if
    /// there is no other. `None` if all are being answered.
    fn seat(&mut self, connection: C) -> Option<u64> {
        if self.seated.len() >= ADMIN_CONNECTIONS_MAX {
            let idle = self.seated.iter().position(|visitor| !visitor.asked)?;
            let idle = self.seated.remove(idle).expect("just found");
            debug!(client = %idle.connection.peer_address(), "closing: it asked nothing");
            idle.connection.close();
        }
        let number = self.next;
        self.next += 1;
        self.seated.push_back(Visitor { number, connection, asked: false });
        Some(number)
    }

    fn asked(&mut self, number: u64) {
        let visitor = self.seated.iter_mut().find(|visitor| visitor.number == number);
        visitor.into_iter().for_each(|visitor| visitor.asked = true);
    }

    fn leave(&mut self, number: u64) {
        self.seated.retain(|visitor| visitor.number != number);
    }
}

/// Answers visitors until the broker has ended.
pub async fn serve<I: Io>(core: Rc<Core<I>>, listener: I::Listener) {
    let visitors = Rc::new(RefCell::new(Visitors { seated: VecDeque::new(), next: 0 }));
    core.io.spawn(recent::keep(core.clone()));
    let mut ended = core.shared.ended.subscribe();
    loop {
        let accepted = tokio::select! {
            biased; // Who comes after the end is not answered.
            _ = ended.wait_for(|ended| *ended) => return,
            accepted = listener.accept() => accepted,
        };
        let connection: I::Connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                warn!(%error, "could not accept a connection on the admin listener");
                core.io.sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let seat = visitors.borrow_mut().seat(connection.clone());
        let Some(seat) = seat else {
            connection.close();
            continue;
        };
        let (core, visitors) = (core.clone(), visitors.clone());
        let io = core.io.clone();
        io.spawn(async move {
            let asked = || visitors.borrow_mut().asked(seat);
            let outcome = visit(&core, &connection, asked).await;
            if let Err(error) = outcome {
                debug!(client = %connection.peer_address(), %error, "an admin request failed");
            }
            connection.close();
            visitors.borrow_mut().leave(seat);
        });
    }
}

/// Reads one request and answers it.
async fn visit<I: Io>(
    core: &Rc<Core<I>>,
    connection: &I::Connection,
    asked: impl FnOnce(),
) -> io::Result<()> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let request = tokio::select! {
        biased; // A request that is there counts, however late it is.
        request = read_request(connection) => request?,
        () = core.io.sleep(ADMIN_HEAD_WAIT) => return Err(late()),
    };
    let Some(request) = request else {
        probe::hit(Probe::AdminSilent);
        return Ok(());
    };
    asked();
    tokio::select! {
        biased; // As above.
        answered = answer(core, connection, request) => answered?,
        () = core.io.sleep(ADMIN_ANSWER_WAIT) => return Err(late()),
    }
    connection.shutdown().await?;
    // What the peer still sends is read and dropped for a moment: closed with unread bytes, a
    // socket takes back what it has sent.
    tokio::select! {
        biased; // As above.
        () = drain(connection) => {}
        () = core.io.sleep(ADMIN_LINGER_WAIT) => {}
    }
    Ok(())
}

/// `None` if the peer left without asking.
async fn read_request(
    connection: &impl Connection,
) -> io::Result<Option<Result<Request, http::Refusal>>> {
    let mut buf = Buf::with_capacity(ADMIN_HEAD_BYTES_MAX);
    loop {
        let (result, returned) = connection.read(buf).await;
        buf = returned;
        match result {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Some(request) = http::parse(&buf) {
            return Ok(Some(request));
        }
    }
}

async fn drain(connection: &impl Connection) {
    let mut left = ADMIN_LINGER_BYTES_MAX;
    while left > 0 {
        let (result, _) = connection.read(Buf::with_capacity(4 << 10)).await;
        match result {
            Ok(read) if read > 0 => left = left.saturating_sub(read),
            _ => return,
        }
    }
}

async fn answer<I: Io>(
    core: &Rc<Core<I>>,
    connection: &I::Connection,
    request: Result<Request, http::Refusal>,
) -> io::Result<()> {
    let request = match request {
        Ok(request) => request,
        Err(refusal) => {
            let request = Request { head_only: false, path: String::new(), chunks: false };
            let text = format!("{}\n", refusal.sentence());
            let answer = Answer::<I>::new(connection, &request);
            return answer.short(Status::Refused(refusal), &text).await;
        }
    };
    let answer = Answer::<I>::new(connection, &request);
    if let Some(topic) = retention::topic(&request.path) {
        let (status, text) = retention::page(core, topic).await;
        return answer.short_of(status, JSON, &text).await;
    }
    let health = match request.path.as_str() {
        "/metrics" => {
            let survey = survey::take(core).await;
            let mut answer = answer;
            answer.begin(exposition::CONTENT).await?;
            metrics::write(&survey, &mut answer).await?;
            return answer.end().await;
        }
        "/livez" => health::live(core),
        "/readyz" => health::ready(core),
        "/startupz" => health::started(core),
        "/" => (Status::Ok, pages()),
        other => {
            let text = format!("there is no page {other:?} here; there are:\n{}", pages());
            (Status::NotFound, text)
        }
    };
    answer.short(health.0, &health.1).await
}

fn pages() -> String {
    PAGES.iter().map(|(path, what)| format!("{path:<24} {what}\n")).collect()
}

/// Lets the core's other tasks have a turn.
async fn let_others_go() {
    let mut went = false;
    poll_fn(|context| {
        if std::mem::replace(&mut went, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
