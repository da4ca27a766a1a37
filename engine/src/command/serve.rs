//! `trialog serve`: a broker on this machine, one pinned thread per core, until a signal ends it.
//!
//! The main thread only starts the cores, waits for a signal or for a core to end, and asks the
//! others to stop. A core that panics ends the process at once: nothing it held is trustworthy,
//! and a restart recovers from the disk.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use trialog_engine::broker::{self, AdminWish, BrokerError, DataError, Listen, Options, Shared};
use trialog_engine::config;
use trialog_engine::id::CoreId;
use trialog_engine::io::kernel::{self, Carrier, KernelIo};
use trialog_engine::io::{self, ErrorKind};

use super::cli;
use super::failure::Failure;
use super::output::Output;
use super::{runtime, usage};

/// How long a stop may take before the process ends without it. What was acknowledged is safe
/// either way; the next start then recovers as after a crash.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How one core ended.
type Ended = io::Result<Result<(), BrokerError>>;

/// Runs a broker.
pub fn run(arguments: cli::Serve, output: &mut Output) -> Result<(), Failure> {
    if arguments.settings_help {
        return settings_help(output);
    }
    let Given { pairs, strange } = given(&arguments)?;
    let adapted = config::kafka::adapt(pairs)?;
    let mut config = config::Broker::parse(adapted.given)?;
    if config.cores == 0 {
        config.cores = runtime::cores_available();
    }
    let listen = resolve(&config.listeners)?;
    let admin = admin(&config)?;
    check_advertised(&config.listeners, &config.advertised_listeners)?;
    let loggers = Some(Arc::new(runtime::show_reports("info")));
    if !adapted.without_effect.is_empty() {
        tracing::info!(
            settings = adapted.without_effect.join(", "),
            "settings of Apache Kafka that have no effect here"
        );
    }
    if !strange.is_empty() {
        tracing::warn!(
            names = strange.join(", "),
            "names in the environment that stand for no setting are not heeded"
        );
    }
    let files = usize::try_from(runtime::open_files_max()).unwrap_or(usize::MAX);
    config.partitions_open_max = config.partitions_open_max.min(files / 2).max(1);
    let carrier = runtime::carrier(config.io)?;
    let data = config.log_dir.clone();
    let options = Options { data, cores: config.cores, listen, admin, config, loggers };
    let (data, cores) = (options.data.display().to_string(), options.cores);
    let told = Told { data, cores, carrier };
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waiting = waiting.map_err(|error| Failure::Other(format!("no runtime: {error}")))?;
    waiting.block_on(serve(options, &told, output))
}

/// What the first lines say.
struct Told {
    data: String,
    cores: u16,
    carrier: Carrier,
}

async fn serve(options: Options, told: &Told, output: &mut Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let (cores, carrier) = (options.cores, told.carrier);
    let shared = Shared::<KernelIo>::new(options);
    let (ended, mut ends) = mpsc::channel(usize::from(cores));
    for core in 0..cores {
        let (shared, ended) = (Arc::clone(&shared), ended.clone());
        let body = move || {
            let body = |io| broker::run(io, CoreId(core), shared);
            let result: Ended = kernel::run_by(carrier, usize::from(core), body);
            // The receiver is gone only when the process is ending anyway.
            let _ = ended.blocking_send(result);
        };
        let thread = thread::Builder::new().name(format!("core {core}"));
        thread.spawn(body).map_err(|error| Failure::Other(format!("no thread: {error}")))?;
    }
    drop(ended);

    let mut left = usize::from(cores);
    let mut outcome = Outcome::default();
    tokio::select! {
        biased;
        // A core that ends before anybody asked has failed, and says why.
        Some(end) = ends.recv() => {
            left -= 1;
            outcome.note(end);
        }
        () = signals.next() => {}
        Some(listening) = shared.listening_everywhere() => {
            greet(&listening, shared.admin_address(), told, output)?;
            tokio::select! {
                biased;
                Some(end) = ends.recv() => {
                    left -= 1;
                    outcome.note(end);
                }
                () = signals.next() => {}
            }
        }
    }

    shared.stop();
    let rest = async {
        while left > 0 {
            let Some(end) = ends.recv().await else { break };
            left -= 1;
            outcome.note(end);
        }
    };
    tokio::select! {
        biased;
        () = rest => {}
        () = signals.next() => {
            return Err(Failure::Other("stopped at the second signal, before all was closed".into()));
        }
        () = tokio::time::sleep(STOP_MAX) => {
            return Err(Failure::Other(format!("did not stop within {} s", STOP_MAX.as_secs())));
        }
    }
    outcome.result()
}

/// Why a broker ended.
#[derive(Default)]
struct Outcome {
    /// The first failure that a core had of its own.
    cause: Option<Failure>,
    /// A core waited in vain for another to begin. That one knows why.
    waited: bool,
}

impl Outcome {
    fn note(&mut self, end: Ended) {
        if let Ok(Err(BrokerError::NotStarted)) = end {
            self.waited = true;
        } else {
            self.cause = self.cause.take().or_else(|| end_failure(end));
        }
    }

    fn result(self) -> Result<(), Failure> {
        let waited = self.waited.then(|| Failure::Other(BrokerError::NotStarted.to_string()));
        self.cause.or(waited).map_or(Ok(()), Err)
    }
}

/// The first lines: where it listens, for programs that wait for it, and what to do next, for
/// people.
fn greet(
    listening: &[Listen],
    admin: Option<SocketAddr>,
    told: &Told,
    output: &mut Output,
) -> Result<(), Failure> {
    let address = listening.first().expect("a broker listens somewhere").address;
    let named = |one: &Listen| format!("{}://{}", one.name, one.address);
    let everywhere: Vec<String> = listening.iter().map(named).collect();
    let line = match listening {
        [_] => format!("listening on {address}"),
        _ => format!("listening on {}", everywhere.join(", ")),
    };
    output.line(
        &line,
        &json!({
            "listening": address.to_string(),
            "listeners": everywhere,
            "admin": admin.map(|admin| admin.to_string()),
            "data": told.data,
            "cores": told.cores,
            "io": match told.carrier {
                Carrier::Ring => "ring",
                Carrier::Pool => "pool",
            },
        }),
    )?;
    let admin = match admin {
        Some(admin) => format!("metrics, health: http://{}/", reachable(admin)),
        None => "metrics, health: off".to_owned(),
    };
    let reached = reachable(address);
    let bootstrap = match reached.to_string().as_str() {
        "127.0.0.1:9092" => String::new(),
        other => format!(" --bootstrap {other}"),
    };
    output.remark(&format!(
        "\n  \
         data in {data}, {cores} core(s)\n  \
         {admin}\n\n  \
         produce:  echo hello | trialog produce my-topic{bootstrap}\n  \
         consume:  trialog consume my-topic{bootstrap}\n  \
         or any Kafka client with bootstrap.servers={reached}; stop with Ctrl-C\n",
        data = told.data,
        cores = told.cores,
    ))?;
    output.flush()
}

/// The address to connect to from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => ([127, 0, 0, 1], v6.port()).into(),
        other => other,
    }
}

/// What was given.
struct Given {
    pairs: Vec<(String, String)>,
    /// Names in the environment that begin like settings and are none.
    strange: Vec<String>,
}

/// The settings that are given: in a file, over that in the environment, over that in arguments;
/// what has an argument of its own wins over `--set`.
fn given(arguments: &cli::Serve) -> Result<Given, Failure> {
    let mut given = Vec::new();
    let mut strange = Vec::new();
    if let Some(file) = &arguments.config {
        let named = |what: String| Failure::Usage(format!("{}: {what}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
        let pairs = config::given::properties(&text).map_err(|error| named(error.to_string()))?;
        for (key, value) in pairs {
            check(&key, &value).map_err(|error| named(error.to_string()))?;
            given.push((key, value));
        }
    }
    for (name, value) in std::env::vars_os() {
        // What is not text is nobody's setting.
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        let Some(key) = config::given::environment_key(name) else { continue };
        match check(&key, value) {
            Ok(()) => given.push((key, value.to_owned())),
            // Others put names there as well; one that is nearly a setting is a typing error.
            Err(config::ConfigError::Unknown { nearest: None, .. }) => {
                strange.push(name.to_owned())
            }
            Err(error) => {
                return Err(Failure::Usage(format!("{name} in the environment: {error}")));
            }
        }
    }
    for pair in &arguments.settings {
        let (key, value) = config::broker::split_pair(pair)?;
        given.push((key.to_owned(), value.to_owned()));
    }
    if let Some(data) = &arguments.data {
        given.push(("log.dirs".to_owned(), data.clone()));
    }
    if let Some(listen) = &arguments.listen {
        given.push(("listeners".to_owned(), format!("PLAINTEXT://{listen}")));
    }
    if let Some(io) = arguments.io {
        let word = match io {
            cli::Carrier::Ring => "ring",
            cli::Carrier::Pool => "pool",
        };
        given.push(("trialog.io".to_owned(), word.to_owned()));
    }
    Ok(Given { pairs: given, strange })
}

/// Whether a pair is a setting, so that an error can name where it stands.
fn check(key: &str, value: &str) -> Result<(), config::ConfigError> {
    if config::kafka::is_known(key, value)? {
        return Ok(());
    }
    let key = config::broker::find(key)?;
    key.check(&config::given::plain(key, value))
}

/// Where to listen for clients.
fn resolve(listeners: &[config::Listener]) -> Result<Vec<Listen>, Failure> {
    let listen = |listener: &config::Listener| {
        let (name, address) = (listener.name.as_str().into(), resolve_one(listener)?);
        Ok(Listen { name, address })
    };
    listeners.iter().map(listen).collect()
}

/// Where to answer operators.
fn admin(config: &config::Broker) -> Result<Option<AdminWish>, Failure> {
    let Some(listener) = &config.admin_listener else { return Ok(None) };
    let optional = config.given("trialog.admin.listener").is_none();
    let address = resolve_one(listener)?;
    Ok(Some(AdminWish { address, optional, usage: usage::look }))
}

fn resolve_one(listener: &config::Listener) -> Result<SocketAddr, Failure> {
    let host = if listener.host.is_empty() { every_interface() } else { &listener.host };
    let unknown = |why: String| {
        Failure::Usage(format!("cannot listen on {listener}: {why}; give a host of this machine"))
    };
    let mut addresses = (host, listener.port)
        .to_socket_addrs()
        .map_err(|error| unknown(format!("host '{host}' has no address ({error})")))?;
    addresses.next().ok_or_else(|| unknown(format!("host '{host}' has no address")))
}

/// The address of all of this machine's addresses: also those of IPv6, where there are any and their
/// sockets take IPv4 as well.
fn every_interface() -> &'static str {
    let takes_both = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only");
    let takes_both = takes_both.is_ok_and(|text| text.trim() == "0");
    if takes_both && UdpSocket::bind("[::]:0").is_ok() { "::" } else { "0.0.0.0" }
}

/// Clients must be able to connect to what they are told, and somebody must be told it.
fn check_advertised(
    listeners: &[config::Listener],
    advertised: &[config::Listener],
) -> Result<(), Failure> {
    let is_there = |one: &config::Listener| listeners.iter().any(|there| there.name == one.name);
    if let Some(one) = advertised.iter().find(|one| !is_there(one)) {
        let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
        return Err(Failure::Usage(format!(
            "advertised.listeners has '{one}', and there is no listener of that name; there is {}",
            names.join(", ")
        )));
    }
    // 0.0.0.0 and :: stand for all addresses of whoever reads them.
    let is_nowhere = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.is_empty() || address.is_ok_and(|address| address.is_unspecified())
    };
    match advertised.iter().find(|one| is_nowhere(&one.host) || one.port == 0) {
        None => Ok(()),
        Some(one) => Err(Failure::Usage(format!(
            "advertised.listeners has '{one}', and no client can connect to that; give a host and \
             a port, or leave it out: clients are then told the address that they have reached"
        ))),
    }
}

/// Why a core ended, if not because it was asked to.
fn end_failure(end: Ended) -> Option<Failure> {
    let error = match end {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error,
        Err(error) => return Some(runtime::refused(&error)),
    };
    let sentence = error.to_string();
    Some(match error {
        BrokerError::Listen { error, .. } | BrokerError::ListenAdmin { error, .. }
            if error.kind() == ErrorKind::AddrInUse =>
        {
            Failure::InUse(sentence)
        }
        BrokerError::Data(DataError::InUse(_)) => Failure::InUse(sentence),
        BrokerError::Data(DataError::OtherNode { .. }) => Failure::Usage(sentence),
        BrokerError::Data(DataError::Unreadable { .. }) => Failure::Damaged(sentence),
        _ => Failure::Other(sentence),
    })
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|error| Failure::Other(format!("cannot watch signals: {error}")))
        };
        let interrupt = watch(SignalKind::interrupt())?;
        Ok(Signals { interrupt, terminate: watch(SignalKind::terminate())? })
    }

    /// Completes at the next of either.
    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Every setting with its default and what it does.
fn settings_help(output: &mut Output) -> Result<(), Failure> {
    for key in config::broker::KEYS {
        let default = key.default.map_or_else(String::new, |value| format!(" = {value}"));
        let text = format!("{}{default}\n    {} Takes {}.\n", key.name, key.doc, key.kind);
        let json = json!({
            "key": key.name,
            "default": key.default,
            "takes": key.kind.to_string(),
            "doc": key.doc,
        });
        output.line(&text, &json)?;
    }
    Ok(())
}
