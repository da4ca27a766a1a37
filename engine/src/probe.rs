//! Probes: marks on rare paths that a sweep of the simulator must reach.
//!
//! A sweep that never cut a torn tail proves nothing about torn tails. A [`Probe`] stands wherever
//! something rare happens in the log and the broker, and is counted each time it does. What a
//! sweep reached and what it did not is listed by `cargo sim coverage`; what no run can reach says so
//! in the table, and why ([`Probe::beyond`]); that there are enough of
//! them, and that none has lost its place, is checked by `cargo ci tidy`.
//!
//! Counted per thread, because a simulated run is one thread. Hitting a probe changes nothing that
//! a run could notice: it draws no randomness, takes no time and is no event. Without debug
//! assertions, as in a release, nothing is counted and nothing is paid.

use std::cell::Cell;

macro_rules! probes {
    ($($(#[doc = $about:literal])+ $(#[beyond = $why:literal])? $name:ident,)+) => {
        /// A rare path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Probe { $($(#[doc = $about])+ $name,)+ }

        impl Probe {
            /// All of them.
            pub const ALL: &[Probe] = &[$(Probe::$name),+];

            /// Its name, as it stands in the source.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Probe::$name => stringify!($name)),+ }
            }

            /// What happens there, in words.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Probe::$name => concat!($($about),+).trim()),+ }
            }

            /// Why no run of the simulator leads there, if that is so: it does not count as missed.
            #[must_use]
            pub fn beyond(self) -> Option<&'static str> {
                let why = match self { $(Probe::$name => concat!($($why)?)),+ };
                (!why.is_empty()).then_some(why)
            }
        }
    };
}

probes! {
    // The log: appends.
    /// An append to a log that has failed before.
    AppendToPoisoned,
    /// A batch that was there already is answered from the producer table.
    Duplicate,
    /// A batch does not continue its producer's sequence.
    SequenceRefused,
    /// A batch of a producer that a newer epoch has fenced.
    ProducerFenced,
    /// Producer table entries are taken back after a failed write.
    ProducersUndone,
    /// A producer was silent for so long that it is forgotten.
    #[beyond = "what comes again of a forgotten producer is stored twice, and no judge could tell"]
    ProducerExpired,
    /// There are too many producers: the silent ones are forgotten.
    #[beyond = "it takes 100,000 producers of one log"]
    ProducersEvicted,
    /// A segment is closed because it is full.
    RolledBySize,
    /// A segment is closed because it is old, by an append.
    RolledByAge,
    /// A segment is closed because it is old, without any append.
    RolledAtRest,
    /// One call brought batches for two segments.
    GroupAcrossSegments,
    /// Space is allocated ahead.
    AllocatedAhead,
    /// There is no room to allocate ahead.
    AllocateFull,
    /// A closed segment is cut to what it holds.
    AheadGivenBack,
    /// A write found the disk full, and its rest was cut.
    WriteFull,
    /// There was no room for a new segment.
    RollFull,
    /// There was no descriptor for the file of a segment that is to be written to.
    AppendScarce,
    /// There was no descriptor for the folder whose names are to be flushed.
    FlushScarce,
    /// A new segment found an index that a crash had left under its name.
    #[beyond = "recovery has removed such an index, unless the disk lied"]
    IndexOfNobody,

    // The log: flushes and checkpoints.
    /// A flush failed.
    FlushFailed,
    /// A write failed for good.
    LogPoisoned,
    /// Something was appended while the flush ran.
    FlushOvertaken,
    /// A flush brings a checkpoint with it.
    CheckpointByBytes,
    /// A log at rest writes a checkpoint.
    CheckpointAtRest,
    /// A checkpoint could not be written.
    CheckpointLost,
    /// A checkpoint is not written because a newer one was.
    CheckpointOvertaken,
    /// An index could not be saved.
    IndexNotSaved,
    /// A log in the page cache is flushed because its settings say so.
    PageCacheFlush,

    // The log: compaction.
    /// A segment was compacted.
    Compacted,
    /// A log is compacted because a record has waited for it as long as it may.
    CompactionOverdue,
    /// Several segments became one.
    CompactedTogether,
    /// What compaction has written is not taken into the log.
    CompactedAbandoned,
    /// Nothing of a segment could go.
    CompactedInVain,
    /// The keys of a log do not fit the memory for them.
    KeysDoNotFit,
    /// Nothing remains of a batch but its producer.
    BatchEmptied,
    /// A batch goes as a whole.
    BatchCompactedAway,
    /// A tombstone gets its horizon.
    TombstoneDated,
    /// A tombstone has reached its horizon.
    TombstoneExpired,
    /// A pass ends because the log has changed meanwhile.
    CompactionOvertaken,
    /// A pass ends because the disk failed.
    CompactionFailed,
    /// A pass met damaged bytes.
    CompactionBlocked,
    /// Files that compaction has replaced are removed.
    ReplacedRemoved,

    // The log: recovery.
    /// A log is closed without anything left to save.
    ClosedAtRest,
    /// A log was closed cleanly, and nothing had to be verified.
    OpenedClean,
    /// Bytes behind the checkpoint were verified and kept.
    TailKept,
    /// The tail ends in bytes that are no batch.
    TailTorn,
    /// The tail ends in a batch with a wrong checksum.
    TailChecksum,
    /// The tail ends in a batch that does not continue the offsets.
    TailStranger,
    /// The tail ends in zeros that the file was made longer by.
    TailZeros,
    /// A segment that the checkpoint does not know is taken in.
    SegmentFound,
    /// A segment that nothing leads to is removed.
    SegmentStale,
    /// An index whose segment is gone is removed.
    IndexStale,
    /// A file that was being written is removed.
    UnfinishedRemoved,
    /// The start lies behind all that is left.
    #[beyond = "the start is never raised over what is not flushed, unless the disk lied"]
    StartBeyondEnd,
    /// A segment that retention gave up was removed before the crash.
    RowRemoved,
    /// A segment is shorter than its checkpoint says, or missing.
    #[beyond = "a disk that loses what was flushed is not in the model"]
    SegmentDamaged,

    // The log: reading.
    /// An index is completed from its log.
    IndexCompleted,
    /// An index is made from its log alone.
    IndexRebuilt,
    /// An index is made over a damaged batch.
    IndexDoubtful,
    /// An index has led to a wrong place.
    IndexMistrusted,
    /// A reader asks for a place that is not among the recent ones.
    ColdRead,
    /// A reader asks for an offset in the middle of a batch.
    ReadInsideBatch,
    /// A plan takes from two segments.
    PlanAcrossSegments,
    /// A plan ends before the readable end, for its size.
    PlanCut,
    /// A batch larger than the reader's limit is planned nevertheless.
    PlanOfOneLarge,
    /// A plan ends where damage begins.
    PlanBeforeDamage,
    /// A segment that nobody reads is closed.
    SegmentUnused,
    /// A look-up by time finds a record behind its batch's first.
    TimeInsideBatch,
    /// A look-up by time finds nothing so late.
    TimeBeyondAll,
    /// An epoch is asked for that is older than all known.
    EpochForgotten,
    /// An epoch ended without a record.
    EpochEmpty,
    /// An epoch lies below the start, and is cut.
    EpochCut,

    // The log: retention.
    /// A segment is too old to be kept.
    RetainedByTime,
    /// A log is larger than it should be.
    RetainedBySize,
    /// The files of a segment are removed.
    SegmentRemoved,
    /// A segment below the start is kept, because recovery would miss it.
    SegmentNeeded,

    // The broker: partitions.
    /// A partition is offline: its log cannot be opened.
    PartitionOffline,
    /// Neighbouring produces are appended together.
    ProducesTogether,
    /// One flush lets several produces go.
    FlushShared,
    /// A produce waits for a flush that fails.
    FlushFailedWaiting,
    /// A batch comes again while the flush of its first coming is under way.
    DuplicateWaits,
    /// A client believes in an older leader epoch.
    EpochFenced,
    /// A client knows a leader epoch that this broker does not.
    EpochUnknown,
    /// A client's history parts from the log's.
    Diverging,
    /// A fetch begins outside of the log.
    OutOfRange,
    /// A fetch is parked at a partition.
    FetchParked,
    /// A partition's queue is full.
    QueueFull,
    /// A partition ended while somebody was asking.
    QueueClosed,
    /// A partition that the image does not have is asked for.
    AskUnknown,
    /// A partition closes with a flush under way.
    ClosedInFlush,
    /// A batch is compressed anew, because its topic has a codec of its own.
    Recompressed,
    /// A partition closes with a compaction under way.
    ClosedInCompaction,
    /// The start of a partition is raised.
    StartRaised,
    /// A topic's durability changes: what waits is flushed first.
    DurabilityChanged,
    /// The start of a partition is raised once the flush under way is done.
    StartWaitedForFlush,
    /// A partition ends while questions wait in its queue.
    ClosedWithAsks,
    /// A partition is deleted while produces wait for their flush.
    DeletedWithWaiting,

    // The broker: partitions at rest.
    /// A partition that nobody asks closes its log and rests.
    Rested,
    /// A partition is asked while it closes its log to rest.
    RestInterrupted,
    /// There are more partitions in use than may be: some are asked to rest.
    RestAsked,
    /// A partition at rest is asked for something that needs its log.
    Woken,
    /// A partition at rest has upkeep to do.
    WokenForUpkeep,
    /// A fetch from the end of a partition at rest.
    RestFetched,
    /// A partition at rest says where it begins, ends, or how large it is.
    RestAnswered,
    /// A topic is deleted while a partition of it rests.
    DeletedAtRest,
    /// A partition begins at rest, where a clean stop told that it stands.
    BegunAtRest,
    /// A clean stop leaves no word, because something of a deleted topic is left.
    LeftBehind,

    // The broker: metadata.
    /// The metadata log was not closed cleanly.
    MetadataRecovered,
    /// Metadata could not be written.
    MetadataFailed,
    /// A command comes after metadata could not be written.
    MetadataOffline,
    /// A command is refused by the cluster machine.
    CommandRefused,
    /// A command changes nothing.
    CommandIdle,
    /// Two requests for producer ids brought a block each.
    ProducerBlockDropped,
    /// The log of a deleted topic is removed at the start.
    OrphanRemoved,
    /// Two clients made a topic by asking for it.
    AutoCreateRace,
    /// A topic's partitions were not ready in time.
    ReadyLate,

    // Consumer groups: the host.
    /// Groups are asked for while they are being read.
    GroupsLoading,
    /// Groups come back with records.
    GroupsLoaded,
    /// The groups of a partition could not be written, and are read again.
    GroupsFailed,
    /// Groups are asked for while their partition is away.
    GroupsAway,
    /// Several commands share one write.
    GroupWriteShared,
    /// Offsets of a deleted topic are forgotten.
    GroupTopicForgotten,
    /// A topic is gone, or another one has its name, when a commit for it is decided.
    GroupTopicReplaced,
    /// Somebody waits at a group when the broker stops or its partition fails.
    GroupWaiterRefused,
    /// Two clients made the topic of consumer groups.
    OffsetsTopicRace,

    // Consumer groups: the machine.
    /// The beginning of a group is put off because somebody came.
    GroupPutOff,
    /// A member was silent for too long.
    MemberSilent,
    /// A member did not join again in time.
    MemberMissing,
    /// A member never asked for its share.
    MemberOwedSync,
    /// Nobody but silent static members is left in a rebalance.
    GroupLeaderless,
    /// A static member starts again and keeps its share.
    StaticKept,
    /// A static member starts again in the middle of a rebalance.
    StaticReplaced,
    /// A promised member id was never used.
    PromiseBroken,
    /// A member joins again while its join waits.
    JoinSuperseded,
    /// A member is told once more what its generation is.
    JoinRepeated,
    /// A rebalance overtakes members that wait for their share.
    SyncOvertaken,
    /// A group has as many members as it may have.
    GroupFull,
    /// A group has more members when it is loaded than it may have by now.
    #[beyond = "no broker is started again with a lower group.max.size"]
    GroupTooLarge,
    /// The members of all groups of a partition take as much memory as they may.
    #[beyond = "it takes megabytes of what members say of themselves"]
    GroupsFull,
    /// An assignment is too large.
    #[beyond = "it takes megabytes of shares"]
    GroupSharesTooLarge,
    /// The offsets of all groups of a partition are as many, or take as much memory, as they may.
    #[beyond = "it takes megabytes of offsets"]
    OffsetsFull,
    /// A leader gives a member no share at all.
    MemberLeftOut,
    /// A commit comes from a member or a generation that is not the present one.
    CommitFenced,
    /// A commit comes between join and share.
    CommitTooEarly,
    /// Offsets are too old.
    OffsetsExpired,

    // The broker: connections and requests.
    /// A frame comes in pieces.
    FrameInPieces,
    /// A peer goes in the middle of a request.
    PeerGoneMidway,
    /// A connection's answers wait for a slow reader.
    AnswersQueueFull,
    /// The memory for requests is used up, and a frame waits for more.
    RequestMemoryUsedUp,
    /// A connection that keeps memory which others wait for is closed.
    RequestMemoryTakenBack,
    /// A frame waited for memory in vain, and its connection is closed.
    RequestMemoryNone,
    /// A request is larger than what a core may ever have for requests.
    RequestTooLarge,
    /// Answers of several requests leave together.
    AnswersGathered,
    /// Quotas of a user or client id are set or removed.
    QuotasChanged,
    /// A client has used more than its quota, and its connection is not read for a while.
    Throttled,
    /// Topics or partitions are not made or deleted, because their client has used up its quota of them.
    MutationRefused,
    /// Its time is over, and it is read again.
    Unmuted,
    /// A request cannot be decoded.
    RequestMalformed,
    /// A request in a version that is not served.
    VersionRefused,
    /// A visitor of the admin listener leaves without having asked.
    AdminSilent,
    /// An operator asks whether a broker is ready that has not started.
    AdminWhileStarting,
    /// The settings that the cluster keeps for this broker have changed.
    BrokerReconfigured,
    /// Producers are refused from now on: the disk is full.
    RoomNone,
    /// They are served again, and there is little room still.
    RoomAgain,
    /// The disk is nearly full.
    RoomLittle,
    /// There is room again.
    RoomPlenty,
    /// A produce is refused because the disk is full.
    ProduceWithoutRoom,
    /// A log cannot be opened for lack of room, and will be tried again.
    PartitionWaitedForRoom,
    /// A log cannot be opened for lack of descriptors or memory, and will be tried again.
    #[beyond = "simulated machines have as many descriptors as they like"]
    PartitionWaitedForMore,
    /// A broker cannot begin for lack of room, and tries again.
    StartWaitedForRoom,
    /// There is no room for a record of the cluster's metadata.
    MetadataFull,
    /// A broker stops while clients are connected.
    StoppedServing,
    /// A connection could not be accepted.
    #[beyond = "simulated machines have as many sockets as they like"]
    AcceptFailed,
    /// A connection is closed because its address has as many as it may.
    AddressTurnedAway,
    /// A connection waits because there are as many as there may be.
    DoorFull,
    /// A produce is answered before its flush, because its time is up.
    ProduceLate,
    /// A batch is refused for what is in it.
    BatchRefused,
    /// A produce without answer fails, and its connection is closed.
    UnansweredFailed,
    /// A partition closes under a produce.
    ProduceDropped,
    /// A parked fetch has enough.
    FetchWoken,
    /// A parked fetch runs out of time.
    FetchTimedOut,
    /// A parked fetch's client goes.
    FetchAbandoned,
    /// What a fetch found is too much together, and a partition is asked again.
    FetchAskedAgain,
    /// A partition closes under a fetch.
    #[beyond = "a partition that ends refuses whoever waits; only a task that died drops a fetch"]
    FetchDropped,
    /// A fetch session makes room for another.
    SessionEvicted,
    /// A client takes none of its answers, and is closed as an idle one is.
    AnswersNotTaken,
    /// All fetch sessions are in use.
    SessionRefused,
    /// All fetch sessions together remember as many partitions as they may.
    #[beyond = "it takes 500,000 partitions in fetch sessions"]
    SessionTooLarge,
    /// A fetch names a session that is not there.
    SessionUnknown,
    /// A fetch names a wrong epoch of its session.
    SessionEpochWrong,
    /// A fetch session forgets a partition.
    SessionForgot,
    /// A partition without news is left out of an answer.
    SessionQuiet,
}

/// How many probes there are.
const COUNT: usize = Probe::ALL.len();

thread_local! {
    static HITS: [Cell<u64>; COUNT] = const { [const { Cell::new(0) }; COUNT] };
}

/// How often each probe was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits([u64; COUNT]);

/// Counts `probe`, in a build with debug assertions.
#[inline]
pub fn hit(probe: Probe) {
    if cfg!(debug_assertions) {
        HITS.with(|hits| {
            let hits = &hits[probe as usize];
            hits.set(hits.get().saturating_add(1));
        });
    }
}

/// What this thread has hit since it was asked last.
#[must_use]
pub fn take() -> Hits {
    HITS.with(|hits| Hits(std::array::from_fn(|place| hits[place].take())))
}

impl Default for Hits {
    fn default() -> Self {
        Hits([0; COUNT])
    }
}

impl Hits {
    /// How often `probe` was hit.
    #[must_use]
    pub fn of(&self, probe: Probe) -> u64 {
        self.0[probe as usize]
    }

    /// Adds what another run has hit.
    pub fn add(&mut self, other: &Hits) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// The probes that were never hit and could have been.
    pub fn missed(&self) -> impl Iterator<Item = Probe> + '_ {
        let reachable = |probe: &Probe| probe.beyond().is_none();
        Probe::ALL.iter().copied().filter(reachable).filter(|&probe| self.of(probe) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "real threads are what is tested")]
    fn hits_are_counted_once_and_per_thread() {
        let _ = take();
        hit(Probe::TailTorn);
        hit(Probe::TailTorn);
        let elsewhere = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                hit(Probe::QueueFull);
                take()
            });
            other.join().expect("no panic")
        });
        let mut hits = take();
        assert_eq!((hits.of(Probe::TailTorn), hits.of(Probe::QueueFull)), (2, 0));
        assert_eq!(take(), Hits::default());
        hits.add(&elsewhere);
        assert_eq!(hits.of(Probe::QueueFull), 1);
        let reachable = Probe::ALL.iter().filter(|probe| probe.beyond().is_none()).count();
        assert!(reachable < COUNT);
        assert_eq!(hits.missed().count(), reachable - 2);
    }

    #[test]
    fn probes_say_what_they_are() {
        assert_eq!(Probe::TailTorn.name(), "TailTorn");
        assert_eq!(Probe::TailTorn.about(), "The tail ends in bytes that are no batch.");
        assert_eq!(Probe::TailTorn.beyond(), None);
        assert!(Probe::ProducersEvicted.beyond().is_some_and(|why| why.contains("100,000")));
        for (place, probe) in Probe::ALL.iter().enumerate() {
            assert_eq!(*probe as usize, place);
        }
    }
}
