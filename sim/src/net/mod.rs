//! The simulated network: links between machines, and stream connections over them.
//!
//! A link has a direction, a delay, a speed and perhaps a cut. Connections behave as TCP does where
//! a program can tell: finite buffers with back-pressure, short reads and writes, half-close,
//! resets, connects that are refused or hang. Across a cut nothing arrives in that direction,
//! neither bytes nor the news that a peer died nor acknowledgements; senders try again, ever more
//! seldom, and give up in the end. A machine without power says nothing, and one that came back
//! answers old connections with a reset.
//!
//! It owns connections and links. It knows machines only by whether they are on, and by their
//! files where `send file` refers to them.

pub mod pipe;

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::task::Waker;

use trialog_engine::io::Flow;

use crate::agenda::{Agenda, Due};
use crate::disk::Ino;
use crate::machine::Machine;
use crate::seed::Stream;
use crate::trace::{Event, Trace};
use pipe::{Flying, Piece, Pipe, SEGMENT};

const MILLISECOND: u64 = 1_000_000;

/// Something that happens on the network by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A wish to connect reaches the server.
    Syn(u64),
    /// The server's answer reaches the client.
    SynAck(u64),
    /// The server's refusal reaches the client.
    Refusal(u64),
    /// The head of what side `.1` of connection `.0` sends arrives.
    Head(u64, usize),
    /// Side `.1` learns that `.2` bytes arrived.
    Ack(u64, usize, usize),
    /// Side `.1` may be able to send more.
    Pump(u64, usize),
    /// Side `.1` learns that the connection is no more.
    Reset(u64, usize),
}

/// One direction between two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Typical delay in nanoseconds.
    pub latency: u64,
    /// Bytes per second.
    pub bandwidth: u64,
    /// Nothing arrives.
    pub cut: bool,
    /// In how many of 1,000 packets one is lost and sent again later.
    pub loss_per_mille: u64,
    /// Wishes to connect get lost, everything else passes.
    pub connects_hang: bool,
}

/// The sizes and patience of every connection, drawn once per run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes that a sender may hand over before they are acknowledged.
    pub send_buffer: usize,
    /// Bytes that wait for a reader at most.
    pub receive_buffer: usize,
    /// Bytes of a packet at most.
    pub packet: usize,
    /// Connections that wait to be accepted.
    pub backlog: usize,
    /// In how many of 1,000 cases a read or a write is cut short.
    pub short_per_mille: u64,
    /// How long a sender tries before it gives up, in nanoseconds.
    pub patience: u64,
}

/// All the network needs of the world around it.
pub struct Around<'a> {
    /// True time.
    pub now: u64,
    /// What will happen.
    pub agenda: &'a mut Agenda,
    /// What has happened.
    pub trace: &'a mut Trace,
    /// Everyone.
    pub machines: &'a mut [Machine],
}

/// The network. See the module's head.
#[derive(Debug)]
pub struct Net {
    links: BTreeMap<(usize, usize), Link>,
    listeners: BTreeMap<(usize, u16), Listener>,
    attempts: BTreeMap<u64, Attempt>,
    connections: BTreeMap<u64, Connection>,
    /// Machines whose kernels refuse every connection.
    pub refusing: Vec<usize>,
    numbered: u64,
    next_port: u16,
    tuning: Tuning,
    random: Stream,
    /// Reads and writes that were cut short.
    pub shortened: u64,
}

#[derive(Debug)]
struct Listener {
    process: u64,
    backlog: VecDeque<u64>,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
struct Attempt {
    machine: usize,
    process: u64,
    from: SocketAddr,
    to: SocketAddr,
    server: Option<usize>,
    tries: u32,
    connection: Option<u64>,
    result: Option<Result<u64>>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Connection {
    ends: [End; 2],
    /// `pipes[side]` carries what `side` sends.
    pipes: [Pipe; 2],
}

#[derive(Debug)]
struct End {
    machine: usize,
    process: u64,
    boot: u64,
    address: SocketAddr,
    /// Why nothing works any more.
    broken: Option<ErrorKind>,
    /// The program has closed it.
    closed: bool,
    /// The kernel that knew it is gone.
    gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl End {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Tuning {
    /// Sizes and odds for one run.
    #[must_use]
    pub fn drawn(random: &mut Stream) -> Self {
        Tuning {
            send_buffer: random.pick(&[4 << 10, 64 << 10, 256 << 10]),
            receive_buffer: random.pick(&[4 << 10, 64 << 10, 256 << 10]),
            packet: random.pick(&[1448, 8948, 65_483]),
            backlog: 64,
            short_per_mille: random.pick(&[0, 0, 10, 200]),
            patience: random.within(10_000..30_000) * MILLISECOND,
        }
    }
}

impl Net {
    /// A network without machines or links.
    #[must_use]
    pub fn new(tuning: Tuning, random: Stream) -> Self {
        Net {
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            attempts: BTreeMap::new(),
            connections: BTreeMap::new(),
            refusing: Vec::new(),
            numbered: 0,
            next_port: 40_000,
            tuning,
            random,
            shortened: 0,
        }
    }

    /// The link from one machine to another, to look at and to change. It is drawn at first use.
    pub fn link(&mut self, from: usize, to: usize) -> &mut Link {
        let random = &mut self.random;
        self.links.entry((from, to)).or_insert_with(|| {
            let latency = if from == to { 20_000 } else { random.within(40_000..1_500_000) };
            let bandwidth = 125_000_000;
            Link { latency, bandwidth, cut: false, loss_per_mille: 0, connects_hang: false }
        })
    }

    /// The connections whose ends live on these two machines, in order.
    #[must_use]
    pub fn connections_between(&self, one: usize, other: usize) -> Vec<u64> {
        let joins = |connection: &Connection| {
            let [a, b] = [connection.ends[0].machine, connection.ends[1].machine];
            (a, b) == (one, other) || (b, a) == (one, other)
        };
        let open = self.connections.iter().filter(|(_, connection)| joins(connection));
        open.map(|(&id, _)| id).collect()
    }

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
        let facts = [machine as u64, server.map_or(u64::MAX, |s| s as u64), id];
        around.trace.note(around.now, Event::Connect, &facts);
        let delay = server.map_or(MILLISECOND, |server| self.delay(machine, server, 0));
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

    /// Reads what has arrived; `None` means wait.
    pub fn read(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        side: usize,
        into: &mut [u8],
        waker: &Waker,
    ) -> Option<Result<usize>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Some(Err(ErrorKind::NotConnected.into()));
        };
        let pipe = &mut connection.pipes[1 - side];
        let end = &mut connection.ends[side];
        if end.closed {
            return Some(Err(ErrorKind::NotConnected.into()));
        }
        if pipe.unread == 0 {
            if let Some(kind) = end.broken {
                return Some(Err(kind.into()));
            }
            if pipe.ended || into.is_empty() {
                return Some(Ok(0));
            }
            end.reader = Some(waker.clone());
            return None;
        }
        let mut count = into.len().min(pipe.unread);
        if count > 1 && self.random.chance(self.tuning.short_per_mille, 1000) {
            self.shortened += 1;
            count = 1 + self.random.below(count as u64 - 1) as usize;
        }
        let window = |pipe: &Pipe| {
            self.tuning.receive_buffer.saturating_sub(pipe.unread + pipe.flying) >= SEGMENT
        };
        let was_shut = !window(pipe);
        let taken = pipe.take(&mut into[..count]);
        around.trace.note(around.now, Event::Read, &[id, side as u64, taken as u64]);
        if was_shut && window(pipe) {
            let (me, peer) = (end.machine, connection.ends[1 - side].machine);
            let at = around.now + self.delay(me, peer, 0);
            around.agenda.enter(at, Due::Net(Packet::Pump(id, 1 - side)));
        }
        Some(Ok(taken))
    }

    /// How many bytes side `side` could hand over now, `None` while it must wait for room.
    pub fn room(&mut self, id: u64, side: usize, waker: &Waker) -> Option<Result<usize>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Some(Err(ErrorKind::NotConnected.into()));
        };
        let (pipe, end) = (&connection.pipes[side], &mut connection.ends[side]);
        if let Some(kind) = end.broken {
            return Some(Err(kind.into()));
        }
        if end.closed || pipe.ending {
            return Some(Err(ErrorKind::BrokenPipe.into()));
        }
        let room = pipe.room(self.tuning.send_buffer);
        if room == 0 {
            end.writer = Some(waker.clone());
            return None;
        }
        if room > 1 && self.random.chance(self.tuning.short_per_mille, 1000) {
            self.shortened += 1;
            return Some(Ok(1 + self.random.below(room as u64 - 1) as usize));
        }
        Some(Ok(room))
    }

    /// Takes a piece for which there is room.
    pub fn send(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        side: usize,
        piece: Piece,
        flow: Flow,
    ) {
        let event = match piece {
            Piece::Bytes(_) => Event::Write,
            Piece::File { .. } => Event::SendFile,
            Piece::End => Event::Shutdown,
        };
        around.trace.note(around.now, event, &[id, side as u64, piece.len() as u64]);
        let connection = self.connections.get_mut(&id).expect("room was found");
        connection.pipes[side].push(piece);
        connection.pipes[side].corked = flow == Flow::More;
        self.pump(around, id, side, false);
    }

    /// Ends this side's half.
    ///
    /// # Errors
    /// Why there is nothing to end.
    pub fn shutdown(&mut self, around: &mut Around<'_>, id: u64, side: usize) -> Result<()> {
        let connection = self.connections.get(&id).ok_or(ErrorKind::NotConnected)?;
        if let Some(kind) = connection.ends[side].broken {
            return Err(kind.into());
        }
        if connection.ends[side].closed {
            return Err(ErrorKind::NotConnected.into());
        }
        if !connection.pipes[side].ending {
            self.send(around, id, side, Piece::End, Flow::Done);
        }
        Ok(())
    }

    /// A read was dropped while it waited: as in a ring, it may still swallow what comes.
    pub fn read_dropped(&mut self, id: u64, side: usize, wanted: usize) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.ends[side].closed
        {
            connection.ends[side].reader = None;
            connection.pipes[1 - side].swallow += self.random.below(wanted as u64 + 1) as usize;
        }
    }

    /// Ends both halves of one side.
    pub fn close(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.ends[side].closed {
            return;
        }
        around.trace.note(around.now, Event::Close, &[id, side as u64]);
        connection.ends[side].closed = true;
        connection.ends[side].wake();
        let healthy = connection.ends[side].broken.is_none();
        if healthy && connection.pipes[1 - side].unread > 0 {
            self.drop_sent(around, id, side);
            self.reset(around, id, 1 - side);
        } else if healthy && !connection.pipes[side].ending {
            self.send(around, id, side, Piece::End, Flow::Done);
        }
        self.tidy(id);
    }

    /// Breaks a connection on both sides at once.
    pub fn break_connection(&mut self, around: &mut Around<'_>, id: u64) {
        for side in 0..2 {
            self.broken(around, id, side, ErrorKind::ConnectionReset);
        }
        self.tidy(id);
    }

    /// The two addresses of one side: its own and its peer's.
    #[must_use]
    pub fn addresses(&self, id: u64, side: usize) -> Option<(SocketAddr, SocketAddr)> {
        let ends = &self.connections.get(&id)?.ends;
        Some((ends[side].address, ends[1 - side].address))
    }

    /// A process is gone and its kernel is not: sockets say goodbye.
    pub fn process_death(&mut self, around: &mut Around<'_>, machine: usize, process: u64) {
        let listening = self.listeners.iter().filter(|(_, l)| l.process == process);
        let ports: Vec<u16> = listening.map(|(&(_, port), _)| port).collect();
        for port in ports {
            let address = SocketAddr::new(Machine::address(machine), port);
            self.unlisten(around, machine, process, address);
        }
        let trying = self.attempts.iter().filter(|(_, attempt)| attempt.process == process);
        let trying: Vec<u64> = trying.map(|(&id, _)| id).collect();
        for id in trying {
            self.give_up(around, id);
        }
        for (id, side) in self.ends_of(|end| end.process == process) {
            self.close(around, id, side);
        }
    }

    /// A machine is off: nothing is said to anybody.
    pub fn power_loss(&mut self, around: &mut Around<'_>, machine: usize) {
        self.listeners.retain(|&(host, _), _| host != machine);
        self.attempts.retain(|_, attempt| attempt.machine != machine);
        for (id, side) in self.ends_of(|end| end.machine == machine && !end.gone) {
            let connection = self.connections.get_mut(&id).expect("just listed");
            let end = &mut connection.ends[side];
            (end.gone, end.closed) = (true, true);
            (end.reader, end.writer) = (None, None);
            let incoming = &mut connection.pipes[1 - side];
            incoming.arrived.clear();
            incoming.unread = 0;
            self.drop_sent(around, id, side);
            self.tidy(id);
        }
    }

    /// The files of `machine` that pieces under way refer to, with how many do.
    #[must_use]
    pub fn files_under_way(&self, machine: usize) -> BTreeMap<Ino, u64> {
        let mut kept = BTreeMap::new();
        let pipes = self.connections.values().flat_map(|connection| &connection.pipes);
        for (host, ino) in pipes.flat_map(Pipe::files) {
            if host == machine {
                *kept.entry(ino).or_default() += 1;
            }
        }
        kept
    }

    /// Lets a packet do what it does.
    pub fn happen(&mut self, around: &mut Around<'_>, packet: Packet) {
        match packet {
            Packet::Syn(id) => self.syn(around, id),
            Packet::SynAck(id) => self.syn_ack(around, id),
            Packet::Refusal(id) => self.answer(around, id, Err(ErrorKind::ConnectionRefused)),
            Packet::Head(id, side) => self.head(around, id, side),
            Packet::Ack(id, side, count) => self.ack(around, id, side, count),
            Packet::Pump(id, side) => self.pump(around, id, side, true),
            Packet::Reset(id, side) => self.reset_arrives(around, id, side),
        }
    }

    fn syn(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (client, from, to) = (attempt.machine, attempt.from, attempt.to);
        let Some(server) = attempt.server else { return self.try_again(around, id) };
        let link = *self.link(client, server);
        let lost = self.random.chance(link.loss_per_mille, 1000);
        if link.cut || link.connects_hang || lost || !around.machines[server].powered {
            return self.try_again(around, id);
        }
        let back = around.now + self.delay(server, client, 0);
        let key = (server, to.port());
        let refusing = self.refusing.contains(&server);
        let Some(listener) = self.listeners.get_mut(&key).filter(|_| !refusing) else {
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
        let end = |machine: usize, process, address| End {
            machine,
            process,
            boot: around.machines[machine].boot,
            address,
            broken: None,
            closed: false,
            gone: false,
            reader: None,
            writer: None,
        };
        let attempt = self.attempts.get_mut(&id).expect("just seen");
        attempt.connection = Some(number);
        let ends = [end(client, attempt.process, from), end(server, server_process, to)];
        self.connections.insert(number, Connection { ends, pipes: Default::default() });
        around.agenda.enter(back, Due::Net(Packet::SynAck(id)));
    }

    fn syn_ack(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (client, connection) = (attempt.machine, attempt.connection.expect("answered"));
        let server = attempt.server.expect("answered");
        if self.link(server, client).cut {
            let at = around.now + self.retry_delay(3);
            around.agenda.enter(at, Due::Net(Packet::SynAck(id)));
            return;
        }
        around.trace.note(around.now, Event::Connected, &[id, connection]);
        self.answer(around, id, Ok(connection));
    }

    fn try_again(&mut self, around: &mut Around<'_>, id: u64) {
        let attempt = self.attempts.get_mut(&id).expect("the caller saw it");
        attempt.tries += 1;
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

    /// Puts on the wire what the receiver's window allows.
    fn pump(&mut self, around: &mut Around<'_>, id: u64, side: usize, late: bool) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let (from, to) = (connection.ends[side].machine, connection.ends[1 - side].machine);
            let pipe = &mut connection.pipes[side];
            if pipe.corked && !late && pipe.queued < SEGMENT {
                // As Linux does, a promise of more is believed for 200 ms.
                let at = around.now + 200 * MILLISECOND;
                if pipe.queued > 0 {
                    around.agenda.enter(at, Due::Net(Packet::Pump(id, side)));
                }
                return;
            }
            let (packet, window) = (self.tuning.packet, self.tuning.receive_buffer);
            let Some((piece, split)) = pipe.next(packet, window) else { return };
            if let (true, Piece::File { machine, ino, .. }) = (split, &piece) {
                around.machines[*machine].disk.use_file(*ino);
            }
            let start = pipe.busy_until.max(around.now);
            let delay = self.delay(from, to, piece.len());
            let pipe = &mut self.connections.get_mut(&id).expect("just seen").pipes[side];
            let at = start + delay;
            pipe.busy_until = at;
            pipe.flight.push_back(Flying { at, piece });
            if !pipe.scheduled {
                pipe.scheduled = true;
                around.agenda.enter(at, Due::Net(Packet::Head(id, side)));
            }
        }
    }

    /// The head of the flight arrives, or cannot.
    fn head(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.pipes[side].scheduled = false;
        if connection.pipes[side].flight.is_empty() {
            return self.tidy(id);
        }
        let (from, to) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        let (gone, boot) = (connection.ends[1 - side].gone, connection.ends[1 - side].boot);
        let powered = around.machines[to].powered;
        let link = *self.link(from, to);
        if link.cut || !powered || self.random.chance(link.loss_per_mille, 1000) {
            return self.fail_delivery(around, id, side);
        }
        assert!(gone || around.machines[to].boot == boot, "a boot ends every connection");
        let connection = self.connections.get_mut(&id).expect("just seen");
        let flying = connection.pipes[side].flight.pop_front().expect("not empty");
        connection.pipes[side].failed = None;
        let count = flying.piece.len();
        connection.pipes[side].flying -= count;
        let end = matches!(flying.piece, Piece::End);
        let bytes = self.materialize(around, flying.piece);
        let connection = self.connections.get_mut(&id).expect("just seen");
        let refused = gone || (connection.ends[1 - side].closed && !end);
        let facts = [id, side as u64, count as u64, u64::from(end), u64::from(refused)];
        around.trace.note_bytes(around.now, Event::Deliver, &facts, &bytes);
        if refused {
            self.drop_sent(around, id, side);
            self.reset(around, id, side);
            return self.tidy(id);
        }
        let pipe = &mut connection.pipes[side];
        pipe.ended |= end;
        pipe.arrive(bytes);
        if let Some(next) = pipe.flight.front() {
            pipe.scheduled = true;
            around.agenda.enter(next.at.max(around.now), Due::Net(Packet::Head(id, side)));
        }
        if let Some(reader) = connection.ends[1 - side].reader.take() {
            reader.wake();
        }
        if count > 0 {
            let at = around.now + self.delay(to, from, 0);
            around.agenda.enter(at, Due::Net(Packet::Ack(id, side, count)));
        }
        self.tidy(id);
    }

    fn fail_delivery(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let connection = self.connections.get_mut(&id).expect("the caller saw it");
        let pipe = &mut connection.pipes[side];
        let (times, since) = pipe.failed.unwrap_or((0, around.now));
        if around.now - since > self.tuning.patience {
            self.broken(around, id, side, ErrorKind::TimedOut);
            return self.tidy(id);
        }
        pipe.failed = Some((times + 1, since));
        pipe.scheduled = true;
        let at = around.now + self.retry_delay(times);
        around.agenda.enter(at, Due::Net(Packet::Head(id, side)));
    }

    fn ack(&mut self, around: &mut Around<'_>, id: u64, side: usize, count: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (me, peer) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        if self.link(peer, me).cut {
            let at = around.now + self.retry_delay(2);
            around.agenda.enter(at, Due::Net(Packet::Ack(id, side, count)));
            return;
        }
        let connection = self.connections.get_mut(&id).expect("just seen");
        let pipe = &mut connection.pipes[side];
        // Less, if the pipe was abandoned in the meantime.
        pipe.unacknowledged = pipe.unacknowledged.saturating_sub(count);
        // A writer is woken when there is room that is worth it, as in Linux.
        if 3 * pipe.room(self.tuning.send_buffer) >= self.tuning.send_buffer
            && let Some(writer) = connection.ends[side].writer.take()
        {
            writer.wake();
        }
        self.pump(around, id, side, false);
    }

    /// Sends word to `side` that the connection is no more.
    fn reset(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (me, peer) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        let at = around.now + self.delay(peer, me, 0);
        around.agenda.enter(at, Due::Net(Packet::Reset(id, side)));
    }

    fn reset_arrives(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (me, peer) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        // A lost reset is not sent again by itself: the next packet will provoke another.
        if !self.link(peer, me).cut {
            self.broken(around, id, side, ErrorKind::ConnectionReset);
            self.tidy(id);
        }
    }

    fn broken(&mut self, around: &mut Around<'_>, id: u64, side: usize, kind: ErrorKind) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let event = if kind == ErrorKind::TimedOut { Event::TimedOut } else { Event::Reset };
        around.trace.note(around.now, event, &[id, side as u64]);
        connection.ends[side].broken.get_or_insert(kind);
        connection.ends[side].wake();
        self.drop_sent(around, id, side);
    }

    fn drop_sent(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            for (machine, ino) in connection.pipes[side].abandon() {
                around.machines[machine].disk.close(ino);
            }
        }
    }

    /// Forgets a connection of which nothing more can come.
    fn tidy(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let over = |side: usize| {
            let (end, pipe) = (&connection.ends[side], &connection.pipes[side]);
            end.closed && pipe.queue.is_empty() && pipe.flight.is_empty()
        };
        if over(0) && over(1) {
            self.connections.remove(&id);
        }
    }

    fn materialize(&mut self, around: &mut Around<'_>, piece: Piece) -> Vec<u8> {
        match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::File { machine, ino, offset, len } => {
                let disk = &mut around.machines[machine].disk;
                let bytes = disk.peek(ino, offset, len);
                disk.close(ino);
                bytes
            }
            Piece::End => Vec::new(),
        }
    }

    fn ends_of(&self, wanted: impl Fn(&End) -> bool) -> Vec<(u64, usize)> {
        let connections = self.connections.iter();
        let ends = connections.flat_map(|(&id, c)| [(id, 0, &c.ends[0]), (id, 1, &c.ends[1])]);
        ends.filter(|(_, _, end)| wanted(end)).map(|(id, side, _)| (id, side)).collect()
    }

    fn delay(&mut self, from: usize, to: usize, bytes: usize) -> u64 {
        let link = *self.link(from, to);
        self.random.delay(link.latency) + bytes as u64 * 1_000_000_000 / link.bandwidth
    }

    fn retry_delay(&mut self, times: u32) -> u64 {
        let typical = (200 * MILLISECOND) << times.min(4);
        typical / 2 + self.random.below(typical)
    }

    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_001);
        self.next_port
    }
}
