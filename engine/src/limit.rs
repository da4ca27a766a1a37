//! Every bound of the engine, in one place: what a peer, a disk or a queue may cost at most.
//!
//! A queue, pool, table or retry without a line here is a defect.

/// The largest request frame that is read, in bytes (Kafka's `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// The most that `fetch.max.bytes` may be. A frame tells its size in 31 bits, and there must be room
/// in it for what stands around the records.
pub const FETCH_BYTES_MAX: usize = 1 << 30;

/// Requests of one connection that may wait for their answers at once. The next one is not read
/// from the socket until an answer has left.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// Messages that may wait in one core's inbox.
pub const INBOX_MESSAGES_MAX: usize = 4096;

/// Idle buffers that one size class of a core's pool keeps.
pub const POOL_BUFFERS_MAX: usize = 64;

/// Topics of one cluster.
pub const TOPICS_MAX: usize = 100_000;

/// Partitions of one topic. Kafka creates at most as many in one request.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 10_000;

/// Logs of one core that are opened, and recovered, at the same time by the round at the start, and
/// when a topic is made.
pub const LOGS_OPENED_AT_ONCE_MAX: usize = 32;

/// Logs of one core that are closed at the same time when a broker stops, and when nobody asks for
/// them any more: each flushes, and who waits for a flush is not to wait for those of thousands.
pub const LOGS_CLOSED_AT_ONCE_MAX: usize = 64;

/// So many partitions have gone to rest when a broker has freed memory given back: a few megabytes are
/// worth the walk through all that is free.
pub const RESTED_BEFORE_RELEASE_MIN: u64 = 256;
/// That waits until none has gone to rest for so long: partitions become idle together.
pub const RELEASE_QUIET: std::time::Duration = std::time::Duration::from_secs(1);
/// It does not wait for that longer than this.
pub const RELEASE_PUT_OFF_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// And it is done no more often than this.
pub const RELEASE_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Partitions of all topics of one cluster together.
pub const PARTITIONS_MAX: usize = 200_000;

/// Users and clients of one cluster that quotas are set for.
pub const QUOTA_ENTITIES_MAX: usize = 10_000;

/// Users and clients whose use one broker measures at a time. Beyond that new ones share one measure.
pub const QUOTA_METERS_MAX: usize = 10_000;

/// What a client may use of its quota at once, after it has used none for so long: a second's worth
/// (Kafka's `quota.window.size.seconds`).
pub const QUOTA_BURST: std::time::Duration = std::time::Duration::from_secs(1);

/// The same of a quota of partitions made and deleted: eleven seconds' worth, so that a topic of some size
/// can be made at once (Kafka's `controller.quota.window.num` times `controller.quota.window.size.seconds`).
pub const MUTATION_BURST: std::time::Duration = std::time::Duration::from_secs(11);

/// The longest time for which a connection is not read because its client has used more than its
/// quota. What the client owes beyond that is added to its next use.
pub const THROTTLE_MAX: std::time::Duration = std::time::Duration::from_secs(300);

/// The longest value of one setting, in bytes.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4096;

/// The longest string of a message, in bytes (Kafka's own bound, in both encodings).
pub const STRING_BYTES_MAX: usize = 32_767;

/// Memory that the arrays of one decoded message may take together, in bytes: a small frame of
/// empty elements must not become gigabytes of structures.
pub const MESSAGE_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes that the records of one batch may decompress to: more than any request can hold, so that
/// whatever could be sent plain can be sent compressed.
pub const BATCH_DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Records of one refused batch that are named one by one in the answer.
pub const RECORD_ERRORS_MAX: usize = 100;
/// The same of all batches of one request together: compressed, a record is a byte or two, and fifty to
/// name.
pub const RECORD_ERRORS_PER_REQUEST_MAX: usize = 1000;

/// Partitions that a produce may name, whether they exist or not; one that names more than there are names
/// some of them again, or none that exist.
pub const PRODUCED_UNKNOWN_MAX: usize = 1000;

/// A connection's read buffer, in bytes: what an idle one holds at least. A busy one's grows up to
/// [`LARGE_FRAME_BYTES`].
pub const READ_BUFFER_MIN: usize = 4 << 10;
/// A request that is larger gets a buffer of its own once it has begun to come. Up to here a read buffer is
/// a connection's own share of memory, and beyond it of what is common: the core's request memory.
pub const LARGE_FRAME_BYTES: usize = 128 << 10;
/// What a connection may hold of requests without being charged, in bytes: a read buffer, and the one
/// before it. What is under way of its requests has no more than that either.
pub const CONNECTION_BYTES_MAX: usize = 2 * LARGE_FRAME_BYTES;
/// A read buffer above [`LARGE_FRAME_BYTES`] is at most this many times as large as what has arrived
/// of the request that it is for.
pub const READ_AHEAD_FACTOR: usize = 4;
/// Where large requests follow each other, a buffer is also as large as the one before was if that is no
/// more than this.
pub const READ_AHEAD_MAX: usize = 1 << 20;
/// Where requests from this size on follow each other, each is received by itself.
pub const ALIKE_FRAME_BYTES: usize = 32 << 10;

/// Memory of one core for read buffers above [`LARGE_FRAME_BYTES`], as the pool hands them out, and for
/// smaller produces that are under way beside what a connection may hold by itself, in bytes, if
/// `queued.max.request.bytes` does not say less. A connection whose request needs more waits, and is
/// closed after [`REQUEST_MEMORY_WAIT`].
pub const REQUEST_MEMORY_MAX: usize = 512 << 20;
/// The grain in which request memory is counted, in bytes.
pub const REQUEST_MEMORY_UNIT: usize = 4 << 10;
/// How long a connection waits for request memory. While one does, a request has to come fast enough to
/// fill the memory that it has within this time.
pub const REQUEST_MEMORY_WAIT: std::time::Duration = std::time::Duration::from_secs(30);
/// How long those that keep request memory may get nowhere while others wait for it. It is short because
/// those that were put out may have many behind them that are no better.
pub const REQUEST_MEMORY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
/// How often those that wait for request memory look who keeps it, at most, all of one core together.
pub const REQUEST_MEMORY_LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// Lines in the log that one connection may cause at once with requests that are refused, and how soon
/// it may cause another one.
pub const REFUSALS_LOGGED_MAX: u32 = 20;
/// See [`REFUSALS_LOGGED_MAX`].
pub const REFUSALS_LOGGED_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);

/// Answers that are ready together are gathered into one write up to about this many bytes.
pub const REPLY_GATHER_BYTES: usize = 64 << 10;
/// Memory for answers that a connection keeps while it has none to send, in bytes.
pub const REPLY_IDLE_BYTES: usize = 8 << 10;

/// Answers whose latencies wait to be counted together, after a write.
pub const ANSWERS_UNCOUNTED_MAX: usize = 64;

/// How often the admin listener copies the histograms of durations: what it says of "the last minutes"
/// is about one to two of these.
pub const RECENT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(150);

/// Connections of the admin listener. A newcomer takes the place of whoever has waited longest
/// without asking anything; if all are being answered, it is closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// The longest head of an HTTP request, in bytes.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a visitor of the admin listener may take to ask.
pub const ADMIN_HEAD_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
/// How long its answer may take.
pub const ADMIN_ANSWER_WAIT: std::time::Duration = std::time::Duration::from_secs(30);
/// How long, and how many bytes, an answered visitor is still listened to before its connection is
/// closed.
pub const ADMIN_LINGER_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
/// See [`ADMIN_LINGER_WAIT`].
pub const ADMIN_LINGER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a long answer that are made before they are sent and others have their turn.
pub const ADMIN_PIECE_BYTES: usize = 32 << 10;
/// How long the consumer groups may take to say where they stand.
pub const ADMIN_GROUPS_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// How often a broker looks how much room there is on its disk.
pub const ROOM_LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// After so many looks in a row that told it nothing a broker does not go by what it saw before.
pub const ROOM_LOOKS_IN_VAIN_MAX: u32 = 5;
/// How long a partition whose log could not be opened for lack of room, and a broker that could not
/// begin for it, wait before they try again.
pub const ROOM_RETRY_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a flush that found no descriptor for a folder waits before it tries again.
pub const DESCRIPTORS_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// How long a new connection waits before it is looked again whether there is room for it.
pub const DOOR_RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// How long a request of many batches may have a core before others have a turn.
pub const TURN_MAX: std::time::Duration = std::time::Duration::from_millis(2);

/// How often a core shows that it takes turns.
pub const TURN_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// A core without a turn for this long is not live any more.
pub const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Batches that one partition appends with one write before it looks at what else there is.
pub const GROUP_BATCHES_MAX: usize = 1024;

/// Produces of one connection that are handed to their partition together.
pub const TRAIN_REQUESTS_MAX: usize = 64;

/// Places for answers of partitions that one core keeps for the next questions, of each kind.
pub const ANSWER_SLOTS_IDLE_MAX: usize = 1024;

/// Messages that may wait at one partition.
pub const PARTITION_MESSAGES_MAX: usize = 1024;

/// Connections one core accepts; the next ones are closed at once, with a line in the log.
pub const CONNECTIONS_MAX: usize = 20_000;

/// Bytes of the metadata log that are read at once when it is replayed.
pub const METADATA_READ_BYTES: u64 = 1 << 20;

/// Commands that may wait for the cluster machine.
pub const METADATA_ORDERS_MAX: usize = 256;

/// Commands that may wait for one partition's consumer groups, and are carried out with one write.
pub const GROUP_COMMANDS_MAX: usize = 1024;

/// Bytes of records that the groups of one partition write at once, but for the last command's.
pub const GROUP_WRITE_BYTES: usize = 1 << 20;

/// A batch of records of groups, in bytes, unless one record alone is larger. It is less where
/// segments are small.
pub const GROUP_BATCH_BYTES: usize = 256 << 10;

/// Bytes of `__consumer_offsets` that are read at once when it is replayed.
pub const GROUP_READ_BYTES: u64 = 1 << 20;

/// Groups of one partition of `__consumer_offsets`.
pub const GROUPS_PER_COORDINATOR_MAX: usize = 100_000;

/// Members of one group, however large `group.max.size` is.
pub const GROUP_MEMBERS_MAX: usize = 10_000;

/// What one member may say about itself for all its strategies together, in bytes.
pub const GROUP_MEMBER_BYTES_MAX: usize = 1 << 20;

/// What all members of one group may say about themselves, and what their leader may give them,
/// each together, in bytes: a generation is one record. It is less where segments are small.
pub const GROUP_BYTES_MAX: usize = 32 << 20;

/// Strategies that one member may name: a group's choice among them looks at all pairs.
pub const GROUP_STRATEGIES_MAX: usize = 100;

/// What the members of all groups of one partition of `__consumer_offsets` may take of memory together, in
/// bytes, their shares and the recorded generations included. A quarter of it is for shares alone.
pub const COORDINATOR_MEMBERS_BYTES_MAX: usize = 128 << 20;
/// The same of all such partitions of one core.
pub const MEMBERS_BYTES_MAX: usize = 512 << 20;

/// Committed offsets of all groups of one partition of `__consumer_offsets` together.
pub const OFFSETS_PER_COORDINATOR_MAX: usize = 1_000_000;
/// What they may take of memory together, in bytes, with the texts that clients add.
pub const COORDINATOR_OFFSETS_BYTES_MAX: usize = 256 << 20;
/// The same of all such partitions of one core.
pub const OFFSETS_BYTES_MAX: usize = 1 << 30;

/// How long the groups of a partition that could not be read or written stay away before they are
/// read again.
pub const GROUP_RELOAD_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// A fetch session that was not used for this long makes room for a new one (Kafka's
/// `min.incremental.fetch.session.eviction.ms`).
pub const FETCH_SESSION_IDLE: std::time::Duration = std::time::Duration::from_secs(120);

/// Partitions that all fetch sessions of one core remember together: some 150 MB.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 500_000;

/// Idempotent producers that one log remembers. Beyond that the ones silent longest are forgotten.
pub const PRODUCERS_PER_LOG_MAX: usize = 100_000;

/// Older segments of one log that are kept open for reading.
pub const OPEN_SEGMENTS_PER_LOG_MAX: usize = 4;

/// Newest batches of one log whose places are kept in memory, for readers at the end.
pub const RECENT_BATCHES_MAX: usize = 64;

/// Ends of recent reads of one log that are kept in memory, for readers that go on from there.
pub const RECENT_READS_MAX: usize = 16;

/// Bytes of one log that may wait in the page cache, also when a topic does not ask for flushes: a
/// kernel that must make room itself stalls whoever appends next.
pub const DIRTY_BYTES_PER_LOG_MAX: u64 = 32 << 20;

/// So many bytes of a log that is not flushed for each produce are appended before the system is told
/// to begin to write them to the disk. Gathered until they are flushed, they would hold up whoever
/// appends meanwhile.
pub const WRITE_BACK_BYTES: u64 = 256 << 10;
/// ... and no sooner than this after the last time: each costs a switch to a worker of the kernel.
pub const WRITE_BACK_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_millis(4);

/// Bytes that a compaction reads before it lets others go.
pub const COMPACTION_TURN_BYTES: usize = 64 << 10;

/// A log whose compaction has failed at the disk is left alone for this long at least.
pub const COMPACTION_FAILED_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Space that a busy log allocates ahead at once.
pub const ALLOCATE_AHEAD_BYTES_MAX: u64 = 16 << 20;

/// Requests of our client that may wait for their answers on one connection.
pub const CLIENT_REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// Records that may wait, not yet in a batch, for one partition's task in our client.
pub const CLIENT_RECORDS_QUEUED_MAX: usize = 1024;

/// Batches of one partition that our producer keeps at once, sent or waiting to be.
pub const CLIENT_BATCHES_MAX: usize = 64;

/// Batches of one partition that our producer has under way at once: a broker remembers the last
/// five of each producer (KIP-98), so that a repeated one is recognised.
pub const CLIENT_BATCHES_IN_FLIGHT_MAX: usize = 5;

/// Entries that one turn of a core gathers before it submits them in between. A ring is made
/// smaller where the limit of locked memory is.
pub const RING_ENTRIES: u32 = 512;

/// Kernel threads that carry out one core's flushes and other blocking file operations at once.
/// 256 dirty files took 16 ms with 8 of them and 5 ms with 64.
pub const RING_WORKERS_MAX: u32 = 64;

/// What the kernel has taken of a connection and not sent yet, in bytes, when it takes no more.
pub const UNSENT_BYTES_MAX: i32 = 256 << 10;

/// Peers that the kernel keeps for a listener until they are accepted.
pub const LISTEN_BACKLOG: i32 = 4096;
