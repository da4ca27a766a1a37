//! Incremental fetch sessions (KIP-227): what a client fetches is remembered, so that its requests
//! and the answers name only what changed.
//!
//! A session belongs to the core of the connection that made it; on another core it is unknown, and
//! the client starts a new one with a full fetch, as the protocol foresees. Partitions that
//! returned data move to the end of their session, so that none is starved by the limit on an
//! answer's size. Sessions, and the partitions of all of them, are bounded: beyond, a client does
//! without one.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::id::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::io::Instant;
use crate::limit::{FETCH_SESSION_IDLE, FETCH_SESSION_PARTITIONS_MAX};
use crate::probe::{self, Probe};
use crate::wire::code::ErrorCode;

/// One partition as a client wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which one.
    pub key: Key,
    /// From where.
    pub from: Offset,
    /// At most so many bytes of it.
    pub max_bytes: u32,
    /// The epoch the client believes in, or none.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the record before `from`, or none.
    pub last_fetched_epoch: LeaderEpoch,
}

/// A partition by id (from version 13 on, the name is empty) or by name (the id is none).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The topic's id.
    pub topic_id: TopicId,
    /// The topic's name.
    pub name: Rc<str>,
    /// The partition.
    pub index: PartitionIndex,
}

/// What a request says about its session.
pub struct Turn {
    /// Its session, 0 for none.
    pub id: i32,
    /// Its epoch: 0 asks for a session, -1 for none; else this many requests were answered.
    pub epoch: i32,
    /// Whether topics are named by id.
    pub by_id: bool,
    /// The partitions that are new or changed.
    pub wanted: Vec<Wanted>,
    /// The partitions that the session is to forget.
    pub forgotten: Vec<Key>,
}

/// What a request is to fetch, and how its answer is to look.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetching {
    /// The session to name in the answer, 0 for none.
    pub session: i32,
    /// Whether partitions without news are left out.
    pub incremental: bool,
    /// What to fetch, in order.
    pub wanted: Vec<Wanted>,
}

#[derive(Default)]
struct Session {
    epoch: i32,
    by_id: bool,
    last_used: Instant,
    turn: u64,
    /// In the order in which they are fetched.
    order: BTreeMap<u64, Member>,
    places: BTreeMap<Key, u64>,
}

struct Member {
    wanted: Wanted,
    told: Option<(Offset, Offset)>,
}

/// The sessions of one core.
pub struct Sessions {
    slots: usize,
    /// How many partitions all sessions have together, and how many they may have.
    partitions: usize,
    partitions_max: usize,
    sessions: BTreeMap<i32, Session>,
}

impl Sessions {
    /// At most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let partitions_max = FETCH_SESSION_PARTITIONS_MAX;
        Sessions { slots, partitions: 0, partitions_max, sessions: BTreeMap::new() }
    }

    /// Begins a request: finds, makes or ends its session. `random` names a new one.
    pub fn begin(&mut self, turn: Turn, now: Instant, random: u64) -> Result<Fetching, ErrorCode> {
        if turn.epoch <= 0 {
            self.end(turn.id);
            let session = if turn.epoch == 0 { self.open(&turn, now, random) } else { 0 };
            return Ok(Fetching { session, incremental: false, wanted: turn.wanted });
        }
        let Some(session) = self.sessions.get_mut(&turn.id) else {
            probe::hit(Probe::SessionUnknown);
            return Err(ErrorCode::FetchSessionIdNotFound);
        };
        if session.epoch != turn.epoch {
            probe::hit(Probe::SessionEpochWrong);
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != turn.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let before = session.order.len();
        session.epoch = next_epoch(session.epoch);
        session.last_used = now;
        for key in turn.forgotten {
            if let Some(place) = session.places.remove(&key) {
                probe::hit(Probe::SessionForgot);
                session.order.remove(&place);
            }
        }
        for wanted in turn.wanted {
            session.put(wanted);
        }
        let wanted = session.order.values().map(|member| member.wanted.clone()).collect();
        self.partitions = self.partitions - before + session.order.len();
        if self.partitions > self.partitions_max {
            // The client begins anew, and may be refused a session.
            probe::hit(Probe::SessionTooLarge);
            self.end(turn.id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok(Fetching { session: turn.id, incremental: true, wanted })
    }

    fn end(&mut self, id: i32) {
        let ended = self.sessions.remove(&id);
        self.partitions -= ended.map_or(0, |session| session.order.len());
    }

    fn open(&mut self, turn: &Turn, now: Instant, random: u64) -> i32 {
        if self.partitions + turn.wanted.len() > self.partitions_max {
            probe::hit(Probe::SessionTooLarge);
            return 0;
        }
        if self.sessions.len() >= self.slots {
            let idlest = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
            match idlest {
                Some((&id, session)) if now.since(session.last_used) >= FETCH_SESSION_IDLE => {
                    probe::hit(Probe::SessionEvicted);
                    self.end(id);
                }
                // Everybody is busy: the client does without.
                _ => {
                    probe::hit(Probe::SessionRefused);
                    return 0;
                }
            }
        }
        let mut id = i32::try_from(random >> 33).expect("31 bits").max(1);
        while self.sessions.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        let mut session =
            Session { epoch: 1, by_id: turn.by_id, last_used: now, ..Session::default() };
        for wanted in &turn.wanted {
            session.put(wanted.clone());
        }
        self.partitions += session.order.len();
        self.sessions.insert(id, session);
        id
    }

    /// Notes what is to be told about a partition, and whether that is news: a changed high
    /// watermark or start. A partition whose data is sent goes to the end of the order.
    pub fn tell(
        &mut self,
        session: i32,
        key: &Key,
        high_watermark: Offset,
        start: Offset,
        data: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&session) else { return true };
        let Some(&place) = session.places.get(key) else { return true };
        let Some(member) = session.order.get_mut(&place) else { return true };
        let news = member.told.replace((high_watermark, start)) != Some((high_watermark, start));
        if data {
            let member = session.order.remove(&place).expect("it was there");
            session.append(member);
        }
        news
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sessions.len()
    }
}

impl Session {
    fn put(&mut self, wanted: Wanted) {
        match self.places.get(&wanted.key).and_then(|place| self.order.get_mut(place)) {
            Some(member) => member.wanted = wanted,
            None => self.append(Member { wanted, told: None }),
        }
    }

    fn append(&mut self, member: Member) {
        self.turn += 1;
        self.places.insert(member.wanted.key.clone(), self.turn);
        self.order.insert(self.turn, member);
    }
}

/// Epochs count up and skip 0, which asks for a new session.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(index: i32, from: i64) -> Wanted {
        Wanted {
            key: key(index),
            from: Offset(from),
            max_bytes: 100,
            leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: LeaderEpoch::NONE,
        }
    }

    fn key(index: i32) -> Key {
        Key { topic_id: TopicId([1; 16]), name: "".into(), index: PartitionIndex(index) }
    }

    fn turn(id: i32, epoch: i32, wanted: Vec<Wanted>) -> Turn {
        Turn { id, epoch, by_id: true, wanted, forgotten: Vec::new() }
    }

    fn indexes(fetching: &Fetching) -> Vec<i32> {
        fetching.wanted.iter().map(|wanted| wanted.key.index.0).collect()
    }

    #[test]
    fn a_session_remembers_changes_and_rotates() {
        let mut sessions = Sessions::new(2);
        let now = Instant(0);
        let first = turn(0, 0, vec![wanted(0, 5), wanted(1, 6), wanted(2, 7)]);
        let full = sessions.begin(first, now, u64::MAX).expect("a full fetch");
        assert!(!full.incremental);
        assert_eq!(indexes(&full), [0, 1, 2]);
        assert!(sessions.tell(full.session, &key(0), Offset(9), Offset(0), true));
        assert!(sessions.tell(full.session, &key(1), Offset(6), Offset(0), false));

        let mut second = turn(full.session, 1, vec![wanted(0, 9)]);
        second.forgotten.push(key(2));
        let next = sessions.begin(second, now, 0).expect("an incremental fetch");
        assert!(next.incremental);
        assert_eq!(indexes(&next), [1, 0]);
        assert_eq!(next.wanted[1].from, Offset(9));
        assert!(!sessions.tell(full.session, &key(1), Offset(6), Offset(0), false));
        assert!(sessions.tell(full.session, &key(1), Offset(7), Offset(0), false));
    }

    #[test]
    fn wrong_epochs_ids_and_kinds_are_refused() {
        let mut sessions = Sessions::new(2);
        let open = sessions.begin(turn(0, 0, vec![wanted(0, 0)]), Instant(0), 77 << 33);
        let id = open.expect("a session").session;
        assert_eq!(id, 77);
        let mut begin = |turn| sessions.begin(turn, Instant(0), 1).map(|_| ());
        assert_eq!(begin(turn(id + 1, 1, vec![])), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(begin(turn(id, 2, vec![])), Err(ErrorCode::InvalidFetchSessionEpoch));
        let by_name = Turn { by_id: false, ..turn(id, 1, vec![]) };
        assert_eq!(begin(by_name), Err(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(begin(turn(id, 1, vec![])), Ok(()));
        assert_eq!(begin(turn(id, -1, vec![])), Ok(()));
        assert_eq!(begin(turn(id, 2, vec![])), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(next_epoch(i32::MAX), 1);
    }

    #[test]
    fn what_all_sessions_remember_is_bounded() {
        let mut sessions = Sessions { partitions_max: 5, ..Sessions::new(9) };
        let now = Instant(0);
        let mut begin = |turn| sessions.begin(turn, now, 1 << 40).map(|fetching| fetching.session);
        let first = begin(turn(0, 0, vec![wanted(0, 0), wanted(1, 0)])).expect("room");
        assert_ne!(first, 0);
        let refused = begin(turn(0, 0, (0..4).map(|index| wanted(index, 0)).collect()));
        assert_eq!(refused, Ok(0), "it does without");
        let second = begin(turn(0, 0, vec![wanted(0, 0), wanted(1, 0)])).expect("room");
        assert_ne!(second, 0);
        assert_eq!(begin(turn(first, 1, vec![wanted(2, 0)])), Ok(first));
        let grown = begin(turn(first, 2, vec![wanted(3, 0)]));
        assert_eq!(grown, Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(begin(turn(second, 1, vec![wanted(2, 0)])), Ok(second), "it has its room back");
    }

    #[test]
    fn slots_are_bounded_and_only_idle_sessions_make_room() {
        let mut sessions = Sessions::new(1);
        let mut open = |now| sessions.begin(turn(0, 0, vec![]), now, 1 << 40).expect("ok").session;
        let busy = open(Instant(0));
        assert_ne!(busy, 0);
        assert_eq!(open(Instant(1)), 0);
        assert_ne!(open(Instant(0).after(FETCH_SESSION_IDLE)), 0);
        assert_eq!(sessions.len(), 1);
    }
}
