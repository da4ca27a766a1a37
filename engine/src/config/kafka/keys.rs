//! The tables of Kafka's keys that are none of this broker's: those without effect, each with the
//! reason, and those that must not be passed over in silence. They are the broker configs of Kafka
//! 4.0 to 4.3, and a few of 3.x that files still carry.

/// Keys that share a reason.
pub struct Group {
    /// Why they have no effect, to follow a "because".
    pub because: &'static str,
    /// The keys, in order; one that ends in a dot stands for all that begin so.
    pub keys: &'static [&'static str],
}

/// Keys that must not be passed over in silence.
pub struct Refusal {
    /// Why, to follow a "because".
    pub because: &'static str,
    /// As in [`Group`].
    pub keys: &'static [&'static str],
    /// With these values there is nothing to refuse, as with none.
    pub harmless: &'static [&'static str],
}

const fn group(because: &'static str, keys: &'static [&'static str]) -> Group {
    Group { because, keys }
}

/// Keys that have no effect here.
pub const WITHOUT_EFFECT: &[Group] = &[
    group(
        "one process is the whole cluster: it is broker and controller at once, and nothing is \
         elected",
        &[
            "auto.leader.rebalance.enable",
            "broker.heartbeat.interval.ms",
            "broker.session.timeout.ms",
            "controlled.shutdown.enable",
            "controlled.shutdown.max.retries",
            "controlled.shutdown.retry.backoff.ms",
            "controller.listener.names",
            "controller.performance.always.log.threshold.ms",
            "controller.performance.sample.period.ms",
            "controller.quorum.append.linger.ms",
            "controller.quorum.auto.join.enable",
            "controller.quorum.bootstrap.servers",
            "controller.quorum.election.backoff.max.ms",
            "controller.quorum.election.timeout.ms",
            "controller.quorum.fetch.max.bytes",
            "controller.quorum.fetch.snapshot.max.bytes",
            "controller.quorum.fetch.timeout.ms",
            "controller.quorum.request.timeout.ms",
            "controller.quorum.retry.backoff.ms",
            "controller.quorum.voters",
            "controller.socket.timeout.ms",
            "initial.broker.registration.timeout.ms",
            "inter.broker.listener.name",
            "leader.imbalance.check.interval.seconds",
            "leader.imbalance.per.broker.percentage",
            "process.roles",
            "request.timeout.ms",
            "security.inter.broker.protocol",
            "socket.connection.setup.timeout.max.ms",
            "socket.connection.setup.timeout.ms",
            "unclean.leader.election.interval.ms",
        ],
    ),
    group(
        "each partition has one copy, on this broker: nothing is replicated, and consumers have \
         nowhere else to read",
        &[
            "alter.log.dirs.replication.quota.window.num",
            "alter.log.dirs.replication.quota.window.size.seconds",
            "broker.rack",
            "follower.fetch.last.tiered.offset.enable",
            "num.replica.alter.log.dirs.threads",
            "num.replica.fetchers",
            "replica.fetch.backoff.ms",
            "replica.fetch.max.bytes",
            "replica.fetch.min.bytes",
            "replica.fetch.response.max.bytes",
            "replica.fetch.wait.max.ms",
            "replica.high.watermark.checkpoint.interval.ms",
            "replica.lag.time.max.ms",
            "replica.selector.class",
            "replica.socket.receive.buffer.bytes",
            "replica.socket.timeout.ms",
            "replication.quota.window.num",
            "replication.quota.window.size.seconds",
        ],
    ),
    group(
        "each core has one thread that does everything; trialog.cores says how many there are",
        &[
            "background.threads",
            "group.coordinator.background.threads",
            "group.coordinator.threads",
            "log.cleaner.threads",
            "num.io.threads",
            "num.network.threads",
            "num.recovery.threads.per.data.dir",
            "share.coordinator.threads",
        ],
    ),
    group(
        "requests go straight to their partitions: what bounds them is queued.max.request.bytes \
         and trialog.requests.in.flight.max",
        &["queued.max.requests"],
    ),
    group(
        "connections are bounded in number, not in how fast they come",
        &["max.connection.creation.rate"],
    ),
    group(
        "quotas are measured without windows: a client gets its rate and a second's worth at once",
        &["quota.window.num", "quota.window.size.seconds"],
    ),
    group(
        "partitions made and deleted are measured without windows: a client gets its \
         controller_mutation_rate, and eleven seconds' worth at once",
        &["controller.quota.window.num", "controller.quota.window.size.seconds"],
    ),
    group(
        "the system chooses the sizes of sockets' buffers and queues; of what has not left it keeps about \
         256 KiB",
        &["socket.listen.backlog.size", "socket.receive.buffer.bytes", "socket.send.buffer.bytes"],
    ),
    group(
        "waiting requests are woken by what they wait for, and nothing is left to be purged",
        &[
            "delete.records.purgatory.purge.interval.requests",
            "fetch.purgatory.purge.interval.requests",
            "producer.purgatory.purge.interval.requests",
            "share.fetch.purgatory.purge.interval.requests",
        ],
    ),
    group(
        "a log knows by itself when it is to be flushed (flush.ms, flush.messages, \
         trialog.durability), and a start needs no checkpoints of all logs",
        &[
            "log.flush.offset.checkpoint.interval.ms",
            "log.flush.scheduler.interval.ms",
            "log.flush.start.offset.checkpoint.interval.ms",
            "log.initial.task.delay.ms",
        ],
    ),
    group(
        "compaction has all of its memory from log.cleaner.dedupe.buffer.size",
        &["log.cleaner.io.buffer.load.factor", "log.cleaner.io.buffer.size"],
    ),
    group(
        "a partition whose disk fails is offline at once, and nobody else need be told",
        &["log.dir.failure.timeout.ms"],
    ),
    group(
        "batches stay as their producers compressed them, or are compressed at the codec's own \
         level",
        &["compression.gzip.level", "compression.lz4.level", "compression.zstd.level"],
    ),
    group(
        "there is one format of records, and one version of everything",
        &[
            "inter.broker.protocol.version",
            "log.message.downconversion.enable",
            "log.message.format.version",
            "unstable.api.versions.enable",
            "unstable.feature.versions.enable",
        ],
    ),
    group(
        "the cluster's metadata are one small log in the data folder, and it is kept whole",
        &[
            "metadata.log.dir",
            "metadata.log.max.record.bytes.between.snapshots",
            "metadata.log.max.snapshot.interval.ms",
            "metadata.log.segment.bytes",
            "metadata.log.segment.ms",
            "metadata.max.idle.interval.ms",
            "metadata.max.retention.bytes",
            "metadata.max.retention.ms",
        ],
    ),
    group(
        "metrics are at trialog.admin.listener, and are counted without windows",
        &[
            "auto.include.jmx.reporter",
            "kafka.metrics.polling.interval.secs",
            "kafka.metrics.reporters",
            "metric.reporters",
            "metrics.num.samples",
            "metrics.recording.level",
            "metrics.sample.window.ms",
        ],
    ),
    group("this version does not collect clients' metrics (KIP-714)", &["telemetry.max.bytes"]),
    group(
        "commits are written as they come, uncompressed, and are read when their partition opens",
        &[
            "group.coordinator.append.linger.ms",
            "group.coordinator.cached.buffer.max.bytes",
            "offsets.commit.timeout.ms",
            "offsets.load.buffer.size",
            "offsets.topic.compression.codec",
        ],
    ),
    group(
        "this version has groups of the classic protocol alone, and tells its clients so",
        &[
            "group.consumer.",
            "group.coordinator.rebalance.protocols",
            "group.share.",
            "group.streams.",
            "share.coordinator.",
        ],
    ),
    group(
        "this version has no transactions, and tells its clients so",
        &[
            "add.partitions.to.txn.retry.backoff.max.ms",
            "add.partitions.to.txn.retry.backoff.ms",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "transaction.max.timeout.ms",
            "transaction.partition.verification.enable",
            "transaction.remove.expired.transaction.cleanup.interval.ms",
            "transaction.state.log.",
            "transaction.two.phase.commit.enable",
            "transactional.id.expiration.ms",
        ],
    ),
    group(
        "producers that have expired are forgotten as the log goes on",
        &["producer.id.expiration.check.interval.ms"],
    ),
    group(
        "a page of DescribeTopicPartitions has 2000 partitions at most",
        &["max.request.partition.size.limit"],
    ),
    group(
        "all records are on this broker's disk: there is no remote storage to move them to",
        &[
            "log.local.retention.bytes",
            "log.local.retention.ms",
            "remote.fetch.max.wait.ms",
            "remote.list.offsets.request.timeout.ms",
            "remote.log.",
            "rlmm.config.",
            "rsm.config.",
        ],
    ),
    group(
        "nobody authenticates: this version listens in plain text only",
        &[
            "connection.failed.authentication.delay.ms",
            "connections.max.reauth.ms",
            "delegation.token.",
            "early.start.listeners",
        ],
    ),
    group(
        "a broker's number is given (node.id)",
        &["broker.id.generation.enable", "reserved.broker.max.id"],
    ),
    group("a start takes the time that it takes", &["server.max.startup.time.ms"]),
    group(
        "it is looked at only to refuse listeners of clients that are not in plain text",
        &["listener.security.protocol.map"],
    ),
];

/// Keys whose neglect would be unsafe, or would look like success.
pub const REFUSED: &[Refusal] = &[
    Refusal {
        because: "this version has no encryption: what it was to protect would be sent in the \
                  clear",
        keys: &["security.providers", "ssl."],
        harmless: &[],
    },
    Refusal {
        because: "this version has no authentication: everybody would be let in",
        keys: &["sasl."],
        harmless: &[],
    },
    Refusal {
        because: "this version checks no rights: everybody would be allowed everything",
        keys: &["authorizer.class.name", "super.users"],
        harmless: &[],
    },
    Refusal {
        because: "this version checks no rights: everybody would be allowed everything",
        keys: &["allow.everyone.if.no.acl.found"],
        harmless: &["true"],
    },
    Refusal {
        because: "this program runs no classes of Java: what the class was to decide would not be \
                  heeded",
        keys: &[
            "alter.config.policy.class.name",
            "client.quota.callback.class",
            "create.topic.policy.class.name",
            "principal.builder.class",
        ],
        harmless: &["org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"],
    },
    Refusal {
        because: "values are not looked up elsewhere: write them where the setting stands",
        keys: &["config.providers"],
        harmless: &[],
    },
    Refusal {
        because: "compaction cannot be switched off: without it topics with cleanup.policy=compact \
                  grow for ever; raise their min.cleanable.dirty.ratio or min.compaction.lag.ms to \
                  have less of it",
        keys: &["log.cleaner.enable"],
        harmless: &["true"],
    },
    Refusal {
        because: "there is no remote storage: nothing would be moved away from this disk",
        keys: &["remote.log.storage.system.enable"],
        harmless: &["false"],
    },
    Refusal {
        because: "there is one folder for data, and new partitions have nowhere else to go",
        keys: &["cordoned.log.dirs"],
        harmless: &[],
    },
];
