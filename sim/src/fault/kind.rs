//! The kinds of faults, and which of them were seen in one seed together.

use std::fmt;

/// Declares the kinds, with a list of all.
macro_rules! kinds {
    ($($(#[$what:meta])* $name:ident,)*) => {
        /// A kind of fault, for drawing and counting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$what])* $name,)*
        }

        impl Kind {
            /// Every kind, in order.
            pub const ALL: [Kind; [$(stringify!($name)),*].len()] = [$(Kind::$name),*];
        }
    };
}

kinds! {
    /// A broker's process dies.
    Kill,
    /// A broker's power fails.
    PowerLoss,
    /// A broker's process dies right after it has made some disk call.
    KillAtCall,
    /// Its power fails there.
    PowerLossAtCall,
    /// A broker's process dies with a write under way.
    KillAtWrite,
    /// Its power fails with a flush under way.
    PowerLossAtFlush,
    /// A client's process dies.
    ClientCrash,
    /// A broker dies again and again, soon after each start.
    CrashLoop,
    /// The power fails everywhere at once.
    Blackout,
    /// Brokers are stopped in order and started again, one after another.
    RollingRestart,
    /// A broker is told to stop.
    GracefulStop,
    /// A client that has kept something comes back with an empty disk.
    LostData,
    /// A process makes no progress for a while (SIGSTOP, SIGCONT).
    Pause,
    /// A process gets a tenth of its time.
    SlowNode,

    /// A power cut took a write as a whole.
    LostWrite,
    /// Of a write, it left the first sectors.
    KeptFirst,
    /// It left the last.
    KeptLast,
    /// It left some in the middle.
    KeptMiddle,
    /// It took some in the middle.
    LostMiddle,
    /// It took some here and there.
    Scattered,
    /// It left garbage in sectors that had never been flushed.
    Garbage,
    /// It took a name that was new.
    LostName,
    /// It undid a rename.
    LostRename,
    /// It brought back a name that had been removed.
    LostRemoval,
    /// It brought back what had been cut off.
    LostTruncate,
    /// It left a length, but not the bytes.
    LengthWithoutData,

    /// A read fails.
    ReadError,
    /// A write fails, perhaps after a part.
    WriteError,
    /// A flush of a file fails, and what was dirty counts as clean.
    FlushError,
    /// A flush of a folder fails.
    FolderFlushError,
    /// Opening a file fails.
    OpenError,
    /// No file can be opened for want of descriptors.
    NoDescriptors,
    /// Renaming, removing or making a folder fails.
    NameError,
    /// Listing a folder, or asking how long a file is, fails.
    LookError,
    /// Asking how much room there is fails.
    SpaceError,
    /// Reserving room fails.
    AllocateError,
    /// Cutting a file fails.
    TruncateError,
    /// The file system cannot reserve room.
    NoAllocation,
    /// The disk is full.
    FullDisk,
    /// Reads and writes are cut short.
    ShortTransfer,
    /// The disk is many times slower.
    SlowDisk,
    /// The disk ends no call.
    StalledDisk,
    /// Single calls take very long.
    LatencySpikes,

    /// Calls end in another order than they were made.
    Disorder,
    /// The ring has no room for another call.
    QueueFull,
    /// A call is interrupted before it did anything.
    Interrupted,

    /// Bits on the disk flip.
    BitRot,
    /// A sector cannot be read.
    LatentSector,
    /// A sector holds what it held before it was written: zeros. A log is extended with zeros before it
    /// is written, and a file system shows nobody what other files have left.
    StaleSector,
    /// A write hits another place.
    MisdirectedWrite,
    /// A read returns what lies elsewhere.
    MisdirectedRead,
    /// A write is reported and never made.
    PhantomWrite,

    /// Nothing arrives in one direction.
    Cut,
    /// Nothing arrives between two machines.
    Partition,
    /// Nothing arrives at or from one machine.
    Isolation,
    /// Two halves see only one machine in common.
    Bridge,
    /// Packets are held, and all released at once.
    Clog,
    /// Machines are clogged one by one, and released in another order.
    Swizzle,
    /// Links are cut and healed in turn.
    Flapping,
    /// A process dies behind a partition.
    HiddenDeath,
    /// Packets take many times as long.
    SlowLink,
    /// Some packets are very late.
    SlowTail,
    /// Packets get lost.
    LossyLink,
    /// Packets arrive twice.
    Duplication,
    /// Packets overtake each other.
    Reordering,
    /// Bits of packets flip, and TCP drops those.
    DamagedPacket,
    /// Bits of record batches flip on the wire, and TCP does not see it.
    AlteredBatch,
    /// Little fits through a link.
    NarrowLink,
    /// Connections have tiny buffers.
    TinyBuffers,
    /// Connections break.
    Reset,
    /// They break in the middle of a frame.
    ResetMidFrame,
    /// A connection is dead and neither side knows.
    HalfOpen,
    /// One direction of a connection ends by itself.
    HalfClosed,
    /// Connecting hangs.
    ConnectsHang,
    /// Connecting is refused.
    ConnectsRefused,
    /// Connections break as soon as they are made.
    ConnectsReset,

    /// A wall clock is set forward.
    ClockForward,
    /// It is set back.
    ClockBack,
    /// It is set forward and back in turn.
    ClockStrobe,
    /// Both clocks of a machine run too fast or too slow.
    ClockDrift,
    /// The wall clock runs at another rate than the monotonic one.
    ClockSlew,
    /// The monotonic clock leaps ahead.
    MonotonicLeap,
    /// A machine boots in 1970.
    DeadBattery,

    /// A broker has memory for a few large requests at most, and some have to wait for it: as long as
    /// it is used up, whoever needs more is not read (MEMORY-1, MEMORY-2), and nothing is aborted.
    LittleMemory,

    /// A client's process dies, or its machine goes off, and never comes back.
    GoneForGood,
    /// A client is cut off from everybody, and stays so.
    CutOffForGood,
    /// A member of a group never polls again.
    NeverPolls,
}

impl Kind {
    /// Whether a broker's process ends by it, each time it fires.
    #[must_use]
    pub fn is_broker_crash(self) -> bool {
        matches!(
            self,
            Kind::Kill
                | Kind::PowerLoss
                | Kind::KillAtCall
                | Kind::PowerLossAtCall
                | Kind::KillAtWrite
                | Kind::PowerLossAtFlush
                | Kind::CrashLoop
                | Kind::Blackout
                | Kind::RollingRestart
                | Kind::GracefulStop
                | Kind::HiddenDeath
        )
    }

    /// Whether it never ends, not even when everything else heals.
    #[must_use]
    pub fn is_for_good(self) -> bool {
        matches!(
            self,
            Kind::LittleMemory | Kind::GoneForGood | Kind::CutOffForGood | Kind::NeverPolls
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
