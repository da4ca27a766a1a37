//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use trialog_engine::client;
use trialog_engine::wire::batch;

use super::failure::EXIT_CODES;
use super::time;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "trialog", version, after_help = EXIT_CODES)]
#[command(about = "A Kafka-compatible event log. Without a command: serve.")]
pub struct Cli {
    /// Print results as JSON, one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker until Ctrl-C or SIGTERM
    Serve(Serve),
    /// Make, list, describe, change and delete topics
    #[command(subcommand)]
    Topic(Topic),
    /// Explain settings
    #[command(subcommand)]
    Config(Config),
    /// Write each line of standard input as a record
    Produce(Produce),
    /// Read records and print each on a line
    Consume(Consume),
    /// List, describe, move and delete consumer groups
    #[command(subcommand)]
    Group(Group),
    /// List, set and remove what users and clients may use
    #[command(subcommand)]
    Quota(Quota),
    /// Look at a partition's files while no broker runs on them
    #[command(subcommand)]
    Log(Log),
    /// Measure a cluster from a client: this one, or any Kafka
    #[command(subcommand)]
    Bench(Bench),
    /// Look at this machine: kernel, io_uring, limits, disk, clock; and say what to do
    Doctor(Doctor),
    /// Print a completion script for a shell, to be sourced
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Default for Command {
    fn default() -> Self {
        Command::Serve(Serve::default())
    }
}

/// Arguments of `serve`.
#[derive(Args, Debug, Default)]
#[command(after_help = EXIT_CODES)]
pub struct Serve {
    /// The folder for everything that is stored (setting log.dirs) [default: ./trialog-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Where to listen (setting listeners); port 0 lets the system choose
    /// [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// What carries flushes, cold reads and the like (setting trialog.io): io_uring, or a pool of
    /// threads [default: io_uring, and the pool where the kernel refuses it]
    #[arg(long, value_name = "HOW")]
    pub io: Option<Carrier>,
    /// A file of settings as Kafka's server.properties; names in the environment such as
    /// KAFKA_NUM_PARTITIONS win over it, and --set wins over both
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// A setting of the broker, by Kafka's name, such as num.partitions=4; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Print every setting with its default and what it does, and end
    #[arg(long)]
    pub settings_help: bool,
}

/// What carries operations on files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// io_uring
    Ring,
    /// Threads that make blocking calls
    Pool,
}

/// How to reach a broker.
#[derive(Args, Debug)]
pub struct Bootstrap {
    /// Brokers to begin with, separated by commas
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", value_delimiter = ',')]
    pub bootstrap: Vec<String>,
    /// How long to wait for a broker's answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show what a setting of a broker or a topic does, takes and defaults to
    #[command(after_help = EXIT_CODES)]
    Explain {
        /// The setting's name, such as retention.ms
        key: String,
    },
}

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Make a topic
    #[command(after_help = EXIT_CODES)]
    Create {
        /// The topic's name
        name: String,
        /// How many partitions; the broker's num.partitions if not given
        #[arg(long, value_name = "NUMBER")]
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many copies; the broker's default.replication.factor if not given
        #[arg(long, value_name = "NUMBER")]
        #[arg(value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting of the topic, such as retention.ms=3600000; may be repeated
        #[arg(long = "config", value_name = "KEY=VALUE")]
        configs: Vec<String>,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// List the topics
    #[command(after_help = EXIT_CODES)]
    List {
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Show a topic's partitions and their offsets
    #[command(after_help = EXIT_CODES)]
    Describe {
        /// The topic's name
        name: String,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Change a topic's settings or give it more partitions, while it is in use
    #[command(after_help = EXIT_CODES)]
    Alter {
        /// The topic's name
        name: String,
        /// A setting to change, such as retention.ms=7d; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// A setting to return to its default; may be repeated
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// How many partitions it is to have in the end, more than now
        #[arg(long, value_name = "NUMBER")]
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Say what will become of each segment of a topic: which rule removes it, and when
    #[command(after_help = EXIT_CODES)]
    ExplainRetention {
        /// The topic's name
        name: String,
        /// Where the broker answers operators (its setting trialog.admin.listener)
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644")]
        admin: String,
        /// How long to wait for its answer, in seconds
        #[arg(long, value_name = "SECONDS", default_value = "30")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
    },
    /// Delete a topic and all its records
    #[command(after_help = EXIT_CODES)]
    Delete {
        /// The topic's name
        name: String,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
}

/// Arguments of `produce`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct Produce {
    /// The topic to write to; made by the broker if it is missing and auto-creation is on
    pub topic: String,
    /// What stands between key and value on each line; without it records have no key
    #[arg(long, value_name = "TEXT")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub key_separator: Option<String>,
    /// The partition to write to; by key, or in turn, if not given
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// When a record counts as written
    #[arg(long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// How batches are compressed
    #[arg(long, value_enum, default_value = "none")]
    pub compression: Compression,
    /// How to reach the broker.
    #[command(flatten)]
    pub bootstrap: Bootstrap,
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// When it has been sent
    #[value(name = "0")]
    None,
    /// When the leader has it
    #[value(name = "1")]
    Leader,
    /// When every copy that is in sync has it
    All,
}

impl std::convert::From<Acks> for client::Acks {
    fn from(acks: Acks) -> client::Acks {
        match acks {
            Acks::None => client::Acks::None,
            Acks::Leader => client::Acks::Leader,
            Acks::All => client::Acks::All,
        }
    }
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl std::convert::From<Compression> for batch::Compression {
    fn from(compression: Compression) -> batch::Compression {
        match compression {
            Compression::None => batch::Compression::None,
            Compression::Gzip => batch::Compression::Gzip,
            Compression::Snappy => batch::Compression::Snappy,
            Compression::Lz4 => batch::Compression::Lz4,
            Compression::Zstd => batch::Compression::Zstd,
        }
    }
}

/// Arguments of `consume`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct Consume {
    /// The topic to read
    pub topic: String,
    /// Where to begin: beginning, end, an offset, or a moment as 2026-11-21T02:30:00Z or as
    /// @MILLISECONDS since 1970
    #[arg(long, value_name = "WHERE", default_value = "beginning", value_parser = parse_from)]
    pub from: From,
    /// The partition to read; all of them if not given
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// End after so many records
    #[arg(long, value_name = "NUMBER")]
    pub count: Option<u64>,
    /// Read as a member of this consumer group: from where the group is, and committing what was
    /// printed; --from says where to begin where it has committed nothing
    #[arg(long, value_name = "NAME", conflicts_with = "partition")]
    pub group: Option<String>,
    /// Wait for new records at the end, instead of ending where the topic ended at the start
    #[arg(long)]
    pub follow: bool,
    /// Print each record's key and this text before its value
    #[arg(long, value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// How to reach the broker.
    #[command(flatten)]
    pub bootstrap: Bootstrap,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the oldest record.
    Beginning,
    /// Behind the newest.
    End,
    /// At this offset.
    Offset(i64),
    /// At the first record that is not older than so many milliseconds since 1970.
    Time(i64),
}

fn parse_from(text: &str) -> Result<From, String> {
    let expected = || {
        "write beginning, end, an offset such as 42, or a moment such as 2026-11-21T02:30:00Z or \
         @1795228200000"
            .to_owned()
    };
    match text {
        "beginning" => return Ok(From::Beginning),
        "end" => return Ok(From::End),
        _ => {}
    }
    let number = |digits: &str| digits.parse().ok().filter(|&number: &i64| number >= 0);
    if let Some(ms) = text.strip_prefix('@') {
        return number(ms).map(From::Time).ok_or_else(expected);
    }
    let moment = || time::parse(text).filter(|&ms| ms >= 0).map(From::Time);
    number(text).map(From::Offset).or_else(moment).ok_or_else(expected)
}

/// What to do with consumer groups.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// List the groups
    #[command(after_help = EXIT_CODES)]
    List {
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Show a group's members, and how far it is in each partition
    #[command(after_help = EXIT_CODES)]
    Describe {
        /// The group's name
        name: String,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Move a group without members to another place of a topic
    #[command(after_help = EXIT_CODES)]
    Seek {
        /// The group's name
        name: String,
        /// The topic
        topic: String,
        /// Where to: beginning, end, an offset, or a moment as 2026-11-21T02:30:00Z or as
        /// @MILLISECONDS since 1970
        #[arg(value_name = "WHERE", value_parser = parse_from)]
        to: From,
        /// The partition to move in; all of them if not given
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
        partition: Option<i32>,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Delete a group without members, and the offsets that it has committed
    #[command(after_help = EXIT_CODES)]
    Delete {
        /// The group's name
        name: String,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
}

/// What to do with quotas.
#[derive(Debug, Subcommand)]
pub enum Quota {
    /// List the quotas of users and client ids
    #[command(after_help = EXIT_CODES)]
    List {
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Set quotas: producer_byte_rate and consumer_byte_rate in bytes a second,
    /// request_percentage in percent of one core, controller_mutation_rate in
    /// partitions made and deleted a second
    #[command(after_help = EXIT_CODES)]
    Set {
        /// Whose.
        #[command(flatten)]
        of: QuotaOf,
        /// The quotas, such as producer_byte_rate=1048576
        #[arg(value_name = "QUOTA=VALUE", required = true)]
        quotas: Vec<String>,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
    /// Remove quotas
    #[command(after_help = EXIT_CODES)]
    Remove {
        /// Whose.
        #[command(flatten)]
        of: QuotaOf,
        /// Which quotas; all of them if none is given
        #[arg(value_name = "QUOTA")]
        quotas: Vec<String>,
        /// How to reach the broker.
        #[command(flatten)]
        bootstrap: Bootstrap,
    },
}

/// Whose quotas: a user's, a client id's, or those of a client id of a user.
#[derive(Args, Debug)]
pub struct QuotaOf {
    /// The user of this name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Every user without a quota of his own
    #[arg(long, conflicts_with = "user")]
    pub any_user: bool,
    /// The client id
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Every client id without a quota of its own
    #[arg(long, conflicts_with = "client_id")]
    pub any_client_id: bool,
}

/// What to do with files.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Print what a partition's folder holds, batch by batch
    #[command(after_help = EXIT_CODES)]
    Dump {
        /// The partition's folder
        dir: PathBuf,
        /// Print the records as well
        #[arg(long)]
        records: bool,
    },
    /// Check every checksum, every record and every index
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// A partition's folder, or a whole data folder
        dir: PathBuf,
    },
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Write records: throughput, and the time from due to acknowledged
    #[command(after_help = EXIT_CODES)]
    Produce {
        /// Where to.
        #[command(flatten)]
        topic: BenchTopic,
        /// What.
        #[command(flatten)]
        load: BenchLoad,
    },
    /// Read all records of a topic: throughput
    #[command(after_help = EXIT_CODES)]
    Consume {
        /// Where from.
        #[command(flatten)]
        topic: BenchTopic,
        /// End after so many records
        #[arg(long, value_name = "NUMBER")]
        records: Option<u64>,
    },
    /// Write at a steady rate (1000 a second if not given) and read along: the time from due to
    /// read
    #[command(after_help = EXIT_CODES)]
    Latency {
        /// Where to and from.
        #[command(flatten)]
        topic: BenchTopic,
        /// What.
        #[command(flatten)]
        load: BenchLoad,
    },
}

/// The topic that is measured.
#[derive(Args, Debug)]
pub struct BenchTopic {
    /// The topic; made if it is missing and written to
    pub topic: String,
    /// How many partitions it has, or is made with
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// How to reach the broker.
    #[command(flatten)]
    pub bootstrap: Bootstrap,
}

/// What is written.
#[derive(Args, Clone, Debug)]
pub struct BenchLoad {
    /// End after so many records
    #[arg(long, value_name = "NUMBER")]
    pub records: Option<u64>,
    /// End after so many seconds [default: 10, if --records is not given]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// The bytes of each record's value
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub size: usize,
    /// Records per second; as many as possible if not given
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// When a record counts as written
    #[arg(long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// How batches are compressed
    #[arg(long, value_enum, default_value = "none")]
    pub compression: Compression,
    /// The bytes of a batch, before compression
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    pub batch_bytes: usize,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5)]
    pub linger_ms: u64,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct Doctor {
    /// The folder that a broker would use
    #[arg(long, value_name = "DIR", default_value = "./trialog-data")]
    pub data: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_means_serve() {
        let cli = Cli::try_parse_from(["trialog"]).expect("legal");
        assert!(matches!(cli.command.unwrap_or_default(), Command::Serve(_)));
    }

    #[test]
    fn where_reading_begins() {
        for (text, from) in [
            ("beginning", From::Beginning),
            ("end", From::End),
            ("0", From::Offset(0)),
            ("@5", From::Time(5)),
            ("2001-09-09T01:46:40Z", From::Time(1_000_000_000_000)),
        ] {
            assert_eq!(parse_from(text), Ok(from), "{text}");
        }
        for text in ["", "start", "-1", "@", "@x", "1969-01-01", "99999999999999999999"] {
            assert!(parse_from(text).is_err(), "{text}");
        }
    }

    #[test]
    fn several_brokers_and_a_late_json() {
        let line = ["trialog", "consume", "t", "--bootstrap", "a:1,b:2", "--json"];
        let cli = Cli::try_parse_from(line).expect("legal");
        assert!(cli.json);
        let Some(Command::Consume(consume)) = cli.command else { panic!("consume was asked for") };
        assert_eq!(consume.bootstrap.bootstrap, ["a:1", "b:2"]);
    }
}
