//! The program itself: what it prints, how it ends, what it keeps.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

pub(super) fn trialog(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trialog"));
    command.args(arguments).env_remove("TRIALOG_LOG").stdin(Stdio::null());
    command
}

/// Runs to the end; what it printed and its exit code.
pub(super) fn run(arguments: &[&str]) -> Output {
    trialog(arguments).output().expect("the program was built")
}

pub(super) fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running broker; killed when dropped.
pub(super) struct Broker {
    pub(super) child: Child,
    /// Kept open, so that the broker's further words find a reader.
    _words: BufReader<ChildStdout>,
    pub(super) address: String,
    /// Its first line.
    pub(super) told: Value,
    /// Where it answers operators.
    pub(super) admin: String,
}

impl Broker {
    pub(super) fn start(data: &Path) -> Broker {
        Broker::start_as(data, |_| {})
    }

    /// Starts one whose process is prepared by `prepare` first.
    pub(super) fn start_as(data: &Path, prepare: impl FnOnce(&mut Command)) -> Broker {
        Broker::start_on("127.0.0.1:0", data, prepare)
    }

    fn start_on(listen: &str, data: &Path, prepare: impl FnOnce(&mut Command)) -> Broker {
        let data = data.to_str().expect("a temporary folder's name is text");
        let mut command = trialog(&["serve", "--json", "--data", data, "--listen", listen]);
        command
            .args(["--set", "trialog.cores=2", "--set", "auto.create.topics.enable=true"])
            .args(["--set", "trialog.admin.listener=127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().expect("the program was built");
        let mut words = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        words.read_line(&mut line).expect("it speaks");
        if line.is_empty() {
            let output = child.wait_with_output().expect("it ended");
            panic!("it does not start: {}", text(&output.stderr));
        }
        let told: Value = serde_json::from_str(&line).expect("one JSON object");
        let address = told["listening"].as_str().expect("an address").to_owned();
        let admin = told["admin"].as_str().expect("an address").to_owned();
        Broker { child, _words: words, address, told, admin }
    }

    /// Runs a client's command against it, with `input` on standard input.
    fn client(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = trialog(arguments)
            .args(["--json", "--timeout", "10", "--bootstrap", &self.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that fails early does not read its input.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    /// Runs a client's command that must succeed; its JSON objects.
    pub(super) fn ask(&self, arguments: &[&str], input: &str) -> Vec<Value> {
        let output = self.client(arguments, input);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
        let object = |line: &str| serde_json::from_str(line).expect("JSON");
        text(&output.stdout).lines().map(object).collect()
    }

    /// Asks it to stop, as a service manager does; its exit code.
    pub(super) fn terminate(mut self) -> i32 {
        let id = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: sends a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
        self.child.wait().expect("it ends").code().expect("not by the signal")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_explains_commands_and_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(code(&output), 0);
    let said = text(&output.stdout);
    for word in ["serve", "topic", "produce", "consume", "log", "Exit codes"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let output = run(&["serve", "--settings-help"]);
    assert_eq!(code(&output), 0);
    assert!(text(&output.stdout).contains("num.partitions = 1"));
}

#[test]
fn mistakes_are_named_and_end_with_2() {
    for (arguments, said) in [
        (&["serve", "--set", "num.partitoins=3"][..], "did you mean 'num.partitions'?"),
        (&["serve", "--set", "num.partitions=0"], "a whole number from 1 to 10000"),
        (&["serve", "--set", "num.partitions"], "write it as key=value"),
        (&["serve", "--listen", "nowhere"], "addresses like PLAINTEXT://127.0.0.1:9092"),
        (&["serve", "--set", "advertised.listeners=PLAINTEXT://:9092"], "give a host and a port"),
        (&["serve", "--set", "advertised.listeners=PLAINTEXT://0.0.0.0:9092"], "leave it out"),
        (&["serve", "--set", "advertised.listeners=PLAINTEXT://[::]:9092"], "leave it out"),
        (&["sevre"], "serve"),
        (&["consume", "t", "--from", "sometime"], "write beginning, end, an offset"),
        (&["topic", "create", "t", "--config", "x"], "write it as key=value"),
        (&["serve", "--set", "trialog.admin.listener=here"], "like 127.0.0.1:9644, or off"),
        (&["topic", "explain-retention", "no/topic"], "is not legal"),
    ] {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_client_without_a_broker_ends_with_4() {
    // A port that was free a moment ago.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound").to_string();
    drop(socket);
    let output = run(&["topic", "list", "--bootstrap", &address, "--timeout", "1"]);
    let error = text(&output.stderr);
    if error.contains("io_uring cannot be used") {
        eprintln!("SKIPPED: {error}");
        return;
    }
    assert_eq!(code(&output), 4, "{error}");
    assert!(error.contains(&address), "{error}");
}

#[test]
fn records_go_in_and_come_out_and_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path());

    let made = broker.ask(&["topic", "create", "orders", "--partitions", "3"], "");
    assert_eq!(made[0]["partitions"], 3);
    let again = broker.client(&["topic", "create", "orders"], "");
    assert_eq!(code(&again), 5);
    assert!(text(&again.stderr).contains("already exists"), "{}", text(&again.stderr));
    let wrong = broker.client(&["topic", "create", "x", "--config", "retention=1"], "");
    assert_eq!(code(&wrong), 5);
    assert!(text(&wrong.stderr).contains("retention.ms"), "{}", text(&wrong.stderr));

    let lines: String = (0..100).map(|n| format!("key-{}:value-{n}\n", n % 7)).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let arguments =
            ["produce", "orders", "--key-separator", ":", "--compression", codec, "--acks", "all"];
        let acknowledged = broker.ask(&arguments, &lines);
        assert_eq!(acknowledged.len(), 100, "one line for each record");
    }
    assert_orders(&broker);
    assert_eq!(broker.terminate(), 0);

    let broker = Broker::start(folder.path());
    assert_orders(&broker);
    let listed = broker.ask(&["topic", "list"], "");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], "orders");

    // One partition, from an offset, so many records, and from a moment ahead: nothing.
    let described = broker.ask(&["topic", "describe", "orders"], "");
    let partitions = described[0]["partitions"].as_array().expect("a list");
    let (place, end) = partitions
        .iter()
        .map(|partition| partition["end"].as_i64().expect("a number"))
        .enumerate()
        .max_by_key(|&(_, end)| end)
        .expect("three of them");
    let partition = place.to_string();
    let consume = ["consume", "orders", "--partition", &partition];
    let some = broker.ask(&[&consume[..], &["--from", "3", "--count", "2"]].concat(), "");
    let offsets: Vec<_> = some.iter().map(|record| record["offset"].as_i64()).collect();
    assert_eq!(offsets, [Some(3), Some(4)]);
    let none = broker.ask(&[&consume[..], &["--from", "2300-01-01"]].concat(), "");
    assert!(none.is_empty());
    let all = broker.ask(&[&consume[..], &["--from", "@0"]].concat(), "");
    assert_eq!(all.len() as i64, end);
    let beyond = broker.client(&[&consume[..], &["--from", "100000"]].concat(), "");
    assert_eq!(code(&beyond), 5, "{}", text(&beyond.stdout));

    broker.ask(&["topic", "delete", "orders"], "");
    assert!(broker.ask(&["topic", "list"], "").is_empty());
    let gone = broker.client(&["topic", "describe", "orders"], "");
    assert_eq!(code(&gone), 5);
    assert_eq!(broker.terminate(), 0);
}

/// All 500 records are there once, in order for each key.
fn assert_orders(broker: &Broker) {
    let records = broker.ask(&["consume", "orders"], "");
    assert_eq!(records.len(), 500);
    for key in 0..7 {
        let key = format!("key-{key}");
        let of_key = || records.iter().filter(|record| record["key"] == key.as_str());
        let values: Vec<_> = of_key().map(|record| &record["value"]).collect();
        let sent = (0..100).filter(|n| format!("key-{}", n % 7) == key);
        let sent: Vec<Value> = sent.map(|n| format!("value-{n}").into()).collect();
        let sent: Vec<&Value> = std::iter::repeat_n(&sent, 5).flatten().collect();
        assert_eq!(values, sent, "{key}");
        let mut partitions: Vec<_> = of_key().map(|record| &record["partition"]).collect();
        partitions.dedup();
        assert_eq!(partitions.len(), 1, "one key, one partition");
    }
}

#[test]
fn files_are_dumped_and_verified_offline() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path());
    broker.ask(&["produce", "t", "--compression", "gzip"], "one\ntwo\nthree\n");
    let data = folder.path().to_str().expect("text");
    let busy = run(&["log", "verify", data]);
    assert_eq!(code(&busy), 3, "{}", text(&busy.stderr));
    assert_eq!(broker.terminate(), 0);

    let objects = |output: &Output| -> Vec<Value> {
        let object = |line: &str| serde_json::from_str(line).expect("JSON");
        text(&output.stdout).lines().map(object).collect()
    };
    let sound = run(&["log", "verify", data, "--json"]);
    assert_eq!(code(&sound), 0, "{}", text(&sound.stderr));
    let verdicts = objects(&sound);
    assert_eq!(verdicts.len(), 2, "the metadata and the topic");
    assert!(verdicts.iter().all(|verdict| verdict["damaged"] == false));
    assert_eq!(verdicts[1]["records"], 3);

    let partition = verdicts[1]["dir"].as_str().expect("a folder").to_owned();
    let dumped = objects(&run(&["log", "dump", &partition, "--records", "--json"]));
    let values: Vec<_> =
        dumped.iter().filter_map(|line| line["record"]["value"].as_str()).collect();
    assert_eq!(values, ["one", "two", "three"]);
    let metadata = verdicts[0]["dir"].as_str().expect("a folder").to_owned();
    let dumped = run(&["log", "dump", &metadata, "--records"]);
    assert!(text(&dumped.stdout).contains("TopicCreated"), "{}", text(&dumped.stdout));

    let file = Path::new(&partition).join("00000000000000000000.log");
    let mut bytes = std::fs::read(&file).expect("there");
    bytes[70] ^= 1;
    std::fs::write(&file, bytes).expect("writable");
    let damaged = run(&["log", "verify", data]);
    assert_eq!(code(&damaged), 6, "{}", text(&damaged.stdout));
    assert!(text(&damaged.stderr).contains(&partition), "{}", text(&damaged.stderr));
}

#[test]
fn a_second_broker_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path());
    let data = |folder: &tempfile::TempDir| folder.path().to_str().expect("text").to_owned();

    let same_data = run(&["serve", "--data", &data(&folder), "--listen", "127.0.0.1:0"]);
    assert_eq!(code(&same_data), 3, "{}", text(&same_data.stderr));
    assert!(text(&same_data.stderr).contains(&data(&folder)));

    let same_port = run(&["serve", "--data", &data(&other), "--listen", &broker.address]);
    assert_eq!(code(&same_port), 3, "{}", text(&same_port.stderr));
    assert!(text(&same_port.stderr).contains(&broker.address));
    assert_eq!(broker.terminate(), 0);

    // Once it has stopped its data are free again, for a node of the same number only.
    let arguments = ["serve", "--data", &data(&folder), "--listen", "127.0.0.1:0"];
    let other_node = run(&[&arguments[..], &["--set", "node.id=9"]].concat());
    assert_eq!(code(&other_node), 2, "{}", text(&other_node.stderr));
    assert!(text(&other_node.stderr).contains("node.id=1"), "{}", text(&other_node.stderr));
}

/// By IPv4 and, where the machine has it, by IPv6; each client is told the address that it used.
#[test]
fn an_empty_host_is_every_interface() {
    let data = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::start_on(":0", data.path(), |_| {});
    let port = broker.address.rsplit(':').next().expect("a port").to_owned();
    // A machine may have no IPv6, or keep it from its loopback device.
    let has_v6 =
        broker.address.starts_with("[::]") && std::net::TcpListener::bind("[::1]:0").is_ok();
    for host in ["127.0.0.1", "[::1]"].into_iter().take(1 + usize::from(has_v6)) {
        broker.address = format!("{host}:{port}");
        let topic = if host == "127.0.0.1" { "four" } else { "six" };
        broker.ask(&["produce", topic], "x\n");
        assert_eq!(broker.ask(&["consume", topic], "")[0]["value"], "x");
    }
}

#[test]
fn benches_count_what_they_did() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path());
    let produced =
        broker.ask(&["bench", "produce", "b", "--partitions", "3", "--records", "500"], "");
    assert_eq!(produced[0]["records"], 500);
    assert_eq!(produced[0]["bytes"], 500 * 1024);
    assert_eq!(produced[0]["partitions"], 3);
    assert_eq!(produced[0]["rate"], "unlimited");
    assert!(produced[0]["records_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
    assert!(produced[0]["latency_ms"]["p99"].as_f64().is_some_and(|ms| ms > 0.0), "{produced:?}");
    let consumed = broker.ask(&["bench", "consume", "b"], "");
    assert_eq!(consumed[0]["records"], 500);
    let load = ["--rate", "2000", "--records", "300", "--size", "20"];
    let latency = broker.ask(&[&["bench", "latency", "b"][..], &load].concat(), "");
    assert_eq!(latency[0]["records"], 300);
    // Records are due half a millisecond apart, however fast they could go.
    assert!(latency[0]["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.149), "{latency:?}");
    let refused = broker.client(&["bench", "produce", "b", "--partitions", "4"], "");
    assert_eq!(code(&refused), 5);
    assert!(text(&refused.stderr).contains("exists with 3 partition(s)"));
    assert_eq!(code(&broker.client(&["bench", "consume", "nothing"], "")), 5);
}

#[test]
fn the_doctor_names_what_it_found() {
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path().to_str().expect("text");
    let output = run(&["doctor", "--json", "--data", folder]);
    let object = |line: &str| serde_json::from_str(line).expect("JSON");
    let findings: Vec<Value> = text(&output.stdout).lines().map(object).collect();
    let looked_at = |what: &str| findings.iter().any(|finding| finding["what"] == what);
    for what in ["kernel", "io_uring", "open files", "clock", "file system", "flush of 4 KiB"] {
        assert!(looked_at(what), "{what}: {findings:?}");
    }
    let bad = findings.iter().any(|finding| finding["verdict"] == "bad");
    assert_eq!(code(&output), i32::from(bad));
    assert_eq!(std::fs::read_dir(folder).expect("there").count(), 0, "it leaves nothing behind");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        assert!(text(&output.stdout).contains("settings-help"), "{shell}");
    }
}

/// Of a topic and of a broker; what is one letter off is named.
#[test]
fn settings_are_explained() {
    let of = |key: &str| {
        let output = run(&["config", "explain", key, "--json"]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let object = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        text(&output.stdout).lines().map(object).collect::<Vec<_>>()
    };
    let of_topic = of("retention.ms");
    assert_eq!((of_topic.len(), &of_topic[0]["level"]), (1, &Value::from("topic")));
    assert_eq!(of_topic[0]["broker_keys"][0], "log.retention.ms");
    // Both have one of this name.
    let levels: Vec<_> = of("min.insync.replicas").iter().map(|one| one["level"].clone()).collect();
    assert_eq!(levels, ["broker", "topic"]);
    let words = run(&["config", "explain", "min.insync.replicas"]);
    assert!(text(&words.stdout).contains("trialog topic alter TOPIC --set min.insync.replicas="));
    let silent = run(&["config", "explain", "num.io.threads"]);
    let said = text(&silent.stdout);
    assert!(said.contains("Kafka's") && said.contains("No effect here, because"), "{said}");
    assert_eq!(of("log.cleaner.enable")[0]["effect"], "refused");
    assert_eq!(of("broker.id")[0]["of"], "node.id");
    let wrong = run(&["config", "explain", "retention.m"]);
    assert_eq!(code(&wrong), 2);
    assert!(text(&wrong.stderr).contains("retention.ms"), "{}", text(&wrong.stderr));
}

/// A file, over that the environment, over that the command line.
#[test]
fn settings_come_from_three_places() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.properties");
    std::fs::write(&file, "num.partitions=2\nlog.retention.hours=5\n").expect("written");
    let partitions = |name: &str, prepare: &dyn Fn(&mut Command)| {
        let data = folder.path().join(name);
        let broker = Broker::start_as(&data, |command| {
            command.arg("--config").arg(&file);
            prepare(command);
        });
        broker.ask(&["produce", "t"], "x\n");
        broker.ask(&["topic", "describe", "t"], "")[0]["partitions"].as_array().map(Vec::len)
    };
    let environment = |command: &mut Command| {
        command.env("KAFKA_NUM_PARTITIONS", "3");
    };
    assert_eq!(partitions("file", &|_| {}), Some(2));
    assert_eq!(partitions("environment", &environment), Some(3));
    let all = |command: &mut Command| {
        environment(command);
        command.args(["--set", "num.partitions=4"]);
    };
    assert_eq!(partitions("arguments", &all), Some(4));

    std::fs::write(&file, "num.partitoins=2\n").expect("written");
    let refused = run(&["serve", "--config", file.to_str().expect("text")]);
    assert_eq!(code(&refused), 2);
    let said = text(&refused.stderr);
    assert!(said.contains("server.properties") && said.contains("num.partitions"), "{said}");

    // What was to protect something is not passed over, wherever it stands.
    std::fs::write(&file, "listener.name.x.ssl.client.auth=required\n").expect("written");
    let in_file = run(&["serve", "--config", file.to_str().expect("text")]);
    let mut command = trialog(&["serve"]);
    let in_environment = command.env("KAFKA_SASL_ENABLED_MECHANISMS", "PLAIN").output();
    let in_environment = in_environment.expect("it runs");
    let as_argument = run(&["serve", "--set", "authorizer.class.name=x"]);
    for refused in [in_file, in_environment, as_argument] {
        assert_eq!(code(&refused), 2);
        let said = text(&refused.stderr);
        assert!(said.contains("may not be passed over"), "{said}");
    }
}

#[test]
fn topics_are_altered_from_the_command_line() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path());
    broker.ask(&["topic", "create", "t"], "");
    let alter = ["topic", "alter", "t"];
    let change = ["--set", "retention.ms=7d", "--set", "segment.bytes=1MB", "--partitions", "3"];
    broker.ask(&[&alter[..], &change].concat(), "");
    let described = || broker.ask(&["topic", "describe", "t"], "").remove(0);
    // Its own settings; all others are the broker's.
    let settings = |described: &Value, key: &str| {
        let configs = described["configs"].as_array().expect("a list");
        let own = configs.iter().find(|one| one["key"] == key && one["own"] == true);
        own.map_or(Value::Null, |one| one["value"].clone())
    };
    let now = described();
    assert_eq!(settings(&now, "retention.ms"), "604800000");
    assert_eq!(settings(&now, "segment.bytes"), "1048576");
    assert_eq!(now["partitions"].as_array().map(Vec::len), Some(3));
    broker.ask(&[&alter[..], &["--unset", "retention.ms"]].concat(), "");
    assert_eq!(settings(&described(), "retention.ms"), Value::Null);
    for (wrong, said) in [
        (["--set", "retention.years=1"], "retention.years"),
        (["--set", "segment.bytes=many"], "segment.bytes"),
        (["--partitions", "2"], "3"),
    ] {
        let refused = broker.client(&[&alter[..], &wrong].concat(), "");
        assert_ne!(code(&refused), 0);
        assert!(text(&refused.stderr).contains(said), "{}", text(&refused.stderr));
    }
    assert_eq!(described()["partitions"].as_array().map(Vec::len), Some(3), "nothing was changed");
}

#[test]
fn groups_from_the_command_line() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path());
    broker.ask(&["topic", "create", "t"], "");
    broker.ask(&["produce", "t"], "a\nb\nc\n");
    assert_eq!(broker.ask(&["group", "list"], "").len(), 0);
    let read = broker.ask(&["consume", "t", "--group", "g"], "");
    assert_eq!(read.len(), 3);
    broker.ask(&["produce", "t"], "d\n");
    let described = &broker.ask(&["group", "describe", "g"], "")[0];
    assert_eq!(described["state"], "Empty");
    assert_eq!(described["partitions"][0]["committed"], 3);
    assert_eq!(described["partitions"][0]["lag"], 1);
    let read = broker.ask(&["consume", "t", "--group", "g"], "");
    assert_eq!((read.len(), &read[0]["value"]), (1, &Value::from("d")));
    broker.ask(&["group", "seek", "g", "t", "1"], "");
    let read = broker.ask(&["consume", "t", "--group", "g", "--count", "2"], "");
    assert_eq!((read.len(), &read[0]["value"]), (2, &Value::from("b")));
    assert_eq!(broker.ask(&["group", "list"], "")[0]["group"], "g");
    broker.ask(&["group", "delete", "g"], "");
    let missing = broker.client(&["group", "describe", "g"], "");
    assert_ne!(code(&missing), 0);
    assert!(text(&missing.stderr).contains("there is no group 'g'"), "{}", text(&missing.stderr));
}

#[test]
fn operators_ask_over_http() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path());
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&broker.admin).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("it answers and closes");
        answer
    };
    for path in ["/livez", "/startupz", "/readyz"] {
        // The cores may not have opened their logs yet.
        let well = (0..5000).any(|_| get(path).starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(well, "{}", get(path));
    }
    broker.ask(&["topic", "create", "t", "--config", "retention.ms=1h"], "");
    broker.ask(&["produce", "t"], "a\nb\nc\n");
    let metrics = get("/metrics");
    let counted = "trialog_topic_records_in_total{topic=\"t\"} 3\n";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");
    assert!(metrics.ends_with("\r\n0\r\n\r\n"), "whole to the last chunk");

    let explain = ["topic", "explain-retention", "t", "--admin", broker.admin.as_str()];
    let output = run(&[&explain[..], &["--json"]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let told = text(&output.stdout);
    let told: Value = serde_json::from_str(told.lines().next().expect("one")).expect("JSON");
    assert_eq!((&told["rule"], &told["topic"]), (&"time".into(), &"t".into()));
    assert!(told["words"].as_str().is_some_and(|words| words.contains("(in ")), "{told}");
    let output = run(&explain);
    let said = text(&output.stdout);
    assert!(said.contains("records older than 1 h go (retention.ms=3600000)"), "{said}");
    let output = run(&["topic", "explain-retention", "nobody", "--admin", &broker.admin]);
    assert_eq!(code(&output), 5);
    let output = run(&["topic", "explain-retention", "t", "--admin", "127.0.0.1:1"]);
    assert_eq!(code(&output), 4);
    assert!(text(&output.stderr).contains("trialog.admin.listener"));
    let admin = broker.admin.clone();
    assert_eq!(broker.terminate(), 0);
    assert!(std::net::TcpStream::connect(admin).is_err(), "nobody answers after the end");
}

#[test]
fn quotas_from_the_command_line() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path());
    assert_eq!(broker.ask(&["quota", "list"], "").len(), 0);
    let rates =
        ["producer_byte_rate=1000", "request_percentage=12.5", "controller_mutation_rate=0.5"];
    broker.ask(&[&["quota", "set", "--user", "u", "--any-client-id"], &rates[..]].concat(), "");
    broker.ask(&["quota", "set", "--client-id", "c", "consumer_byte_rate=5"], "");
    let listed = broker.ask(&["quota", "list"], "");
    assert_eq!(listed.len(), 2);
    let of_user = listed.iter().find(|one| one["user"] == "u").expect("listed");
    assert!(of_user["client_id"].is_null() && of_user.get("client_id").is_some());
    assert_eq!(of_user["quotas"]["request_percentage"], 12.5);
    assert_eq!(of_user["quotas"]["controller_mutation_rate"], 0.5);
    broker.ask(&["quota", "remove", "--client-id", "c"], "");
    let one = ["quota", "remove", "--user", "u", "--any-client-id", "producer_byte_rate"];
    broker.ask(&one, "");
    let listed = broker.ask(&["quota", "list"], "");
    assert_eq!(listed.len(), 1);
    assert!(listed[0]["quotas"].get("producer_byte_rate").is_none());
    let refused = broker.client(&["quota", "set", "--user", "u", "producer_byte_rate=0.5"], "");
    assert_ne!(code(&refused), 0);
    assert!(text(&refused.stderr).contains("a whole one"), "{}", text(&refused.stderr));
    assert_eq!(code(&broker.client(&["quota", "set", "x=1"], "")), 2);
}
