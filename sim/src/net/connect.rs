//! How connections come about: listening, accepting, and wishes to connect.
//!
//! A wish travels to the server, waits in the listener's backlog or is refused, and its answer
//! travels back. Lost wishes are repeated after one, two, four ... seconds, as Linux does, and fail
//! after about two minutes; a program that cannot wait bounds them itself.

use std::collections::VecDeque;
use std::io::{ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;

use super::link::Hindrance;
use super::stream::{Connection, End};
use super::{Around, MILLISECOND, Net, Packet};
use crate::agenda::Due;
use crate::machine::Machine;
use crate::trace::Event;

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) process: u64,
    backlog: VecDeque<u64>,
    wakers: Vec<Waker>,
}

/// A wish to connect.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) machine: usize,
    pub(super) process: u64,
    pub(super) server: Option<usize>,
    from: SocketAddr,
    to: SocketAddr,
    tries: u32,
    connection: Option<u64>,
    result: Option<Result<u64>>,
    waker: Option<Waker>,
}

impl Net {
    /// Begins to listen; returns the address with the real port.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`.
    pub fn listen(
        &mut self,
        around: &mut Around<'_>,
        machine: usize,
        process: u64,
        mut address: SocketAddr,
    ) -> Result<SocketAddr> {
        let ip = address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && ip != Machine::address(machine) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        if address.port() == 0 {
            address.set_port(self.port());
        }
        let key = (machine, address.port());
        if self.listeners.contains_key(&key) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let (backlog, wakers) = (VecDeque::new(), Vec::new());
        self.listeners.insert(key, Listener { process, backlog, wakers });
        let facts = [machine as u64, u64::from(address.port())];
        around.trace.note(around.now, Event::Listen, &facts);
        Ok(address)
    }

    /// Stops listening.
    pub fn unlisten(
        &mut self,
        around: &mut Around<'_>,
        machine: usize,
        process: u64,
        address: SocketAddr,
    ) {
        let key = (machine, address.port());
        if self.listeners.get(&key).is_some_and(|listener| listener.process == process) {
            let listener = self.listeners.remove(&key).expect("just seen");
            for id in listener.backlog {
                self.close(around, id, 1);
            }
        }
    }

    /// The next connection of a listener, as its number; `None` means wait.
    pub fn accept(
        &mut self,
        around: &mut Around<'_>,
        machine: usize,
        address: SocketAddr,
        waker: &Waker,
    ) -> Option<u64> {
        let listener = self.listeners.get_mut(&(machine, address.port()))?;
        match listener.backlog.pop_front() {
            Some(id) => {
                around.trace.note(around.now, Event::Accept, &[machine as u64, id]);
                Some(id)
            }
            None => {
                if !listener.wakers.iter().any(|known| known.will_wake(waker)) {
                    listener.wakers.push(waker.clone());
                }
                None
            }
        }
    }

    /// At the other ends of all connections that a process has accepted at a port and not closed.
    pub fn accepted(&self, machine: usize, process: u64, port: u16) -> Vec<IpAddr> {
        let waiting = self.listeners.get(&(machine, port)).map(|listener| &listener.backlog);
        let is_there = |(id, connection): &(&u64, &Connection)| {
            connection.ends[1].serves(machine, process, port)
                && !waiting.is_some_and(|waiting| waiting.contains(id))
        };
        let there = self.connections.iter().filter(is_there);
        there.map(|(_, connection)| connection.ends[0].address().ip()).collect()
    }

    /// Begins to connect; the number is for [`Net::connected`].
    pub fn connect(
        &mut self,
        around: &mut Around<'_>,
        machine: usize,
        process: u64,
        to: SocketAddr,
    ) -> u64 {
        let id = self.number();
        let from = if to.ip().is_loopback() { to.ip() } else { Machine::address(machine) };
        let server = if to.ip().is_loopback() || to.ip().is_unspecified() {
            Some(machine)
        } else {
            (0..around.machines.len()).find(|&other| Machine::address(other) == to.ip())
        };
        let attempt = Attempt {
            machine,
            process,
            from: SocketAddr::new(from, self.port()),
            to,
            server,
            tries: 0,
            connection: None,
            result: None,
            waker: None,
        };
        self.attempts.insert(id, attempt);
        let port = u64::from(to.port());
        let facts = [machine as u64, server.map_or(u64::MAX, |s| s as u64), id, port];
        around.trace.note(around.now, Event::Connect, &facts);
        let delay = server.map_or(MILLISECOND, |server| self.links.delay(machine, server));
        around.agenda.enter(around.now + delay, Due::Net(Packet::Syn(id)));
        id
    }

    /// What became of a wish to connect; `None` means wait.
    pub fn connected(&mut self, id: u64, waker: &Waker) -> Option<Result<u64>> {
        let attempt = self.attempts.get_mut(&id)?;
        if attempt.result.is_some() {
            return self.attempts.remove(&id)?.result;
        }
        attempt.waker = Some(waker.clone());
        None
    }

    /// Nobody waits for this wish any more.
    pub fn give_up(&mut self, around: &mut Around<'_>, id: u64) {
        if let Some(attempt) = self.attempts.remove(&id)
            && let Some(connection) = attempt.connection
        {
            self.close(around, connection, 0);
        }
    }

    pub(super) fn syn(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (client, from, to) = (attempt.machine, attempt.from, attempt.to);
        let Some(server) = attempt.server else { return self.try_again(around, id) };
        let weather = self.links.weather(client, server);
        if weather.deaf {
            self.links.bitten(client, server, |h| matches!(h, Hindrance::Deaf));
        }
        if self.is_cut(client, server)
            || weather.deaf
            || self.links.loses(client, server)
            || !around.machines[server].powered
        {
            return self.try_again(around, id);
        }
        let back = around.now + self.links.delay(server, client);
        let key = (server, to.port());
        if weather.refusing {
            self.links.bitten(client, server, |h| matches!(h, Hindrance::Refusing));
        }
        let Some(listener) = self.listeners.get_mut(&key).filter(|_| !weather.refusing) else {
            around.trace.note(around.now, Event::Refused, &[id]);
            around.agenda.enter(back, Due::Net(Packet::Refusal(id)));
            return;
        };
        if listener.backlog.len() >= self.tuning.backlog {
            return self.try_again(around, id);
        }
        self.numbered += 1;
        let number = self.numbered;
        listener.backlog.push_back(number);
        let server_process = listener.process;
        listener.wakers.drain(..).for_each(Waker::wake);
        let attempt = self.attempts.get_mut(&id).expect("just seen");
        attempt.connection = Some(number);
        let boot = |machine: usize| around.machines[machine].boot;
        let ends = [
            End::new(client, attempt.process, boot(client), from),
            End::new(server, server_process, boot(server), to),
        ];
        self.connections.insert(number, Connection::new(ends));
        around.trace.note(around.now, Event::Queued, &[id, number]);
        around.agenda.enter(back, Due::Net(Packet::SynAck(id)));
        if weather.slamming {
            self.links.bitten(client, server, |h| matches!(h, Hindrance::Slamming));
            let soon = back + 2 * MILLISECOND;
            around.agenda.enter(soon, Due::Net(Packet::Reset(number, 0)));
            around.agenda.enter(soon, Due::Net(Packet::Reset(number, 1)));
        }
    }

    pub(super) fn syn_ack(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (client, connection) = (attempt.machine, attempt.connection.expect("answered"));
        let server = attempt.server.expect("answered");
        if self.is_cut(server, client) {
            let at = around.now + self.retry_delay(3);
            around.agenda.enter(at, Due::Net(Packet::SynAck(id)));
            return;
        }
        around.trace.note(around.now, Event::Connected, &[id, connection]);
        self.answer(around, id, Ok(connection));
    }

    /// A refusal that a cut stops is not repeated: the client asks again by itself.
    pub(super) fn refusal(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (client, server) = (attempt.machine, attempt.server.expect("it has refused"));
        if self.is_cut(server, client) {
            return self.try_again(around, id);
        }
        self.answer(around, id, Err(ErrorKind::ConnectionRefused));
    }

    fn try_again(&mut self, around: &mut Around<'_>, id: u64) {
        let attempt = self.attempts.get_mut(&id).expect("the caller saw it");
        attempt.tries += 1;
        around.trace.note(around.now, Event::Unanswered, &[id, u64::from(attempt.tries)]);
        let pause = (1000 * MILLISECOND) << attempt.tries.min(5);
        if attempt.tries > 6 {
            return self.answer(around, id, Err(ErrorKind::TimedOut));
        }
        around.agenda.enter(around.now + pause, Due::Net(Packet::Syn(id)));
    }

    fn answer(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        result: std::result::Result<u64, ErrorKind>,
    ) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        around.trace.note(around.now, Event::Connected, &[id, u64::from(result.is_ok())]);
        attempt.result = Some(result.map_err(Into::into));
        if let Some(waker) = attempt.waker.take() {
            waker.wake();
        }
    }
}
