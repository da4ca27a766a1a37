//! The rdkafka client. Usage: BOOTSTRAP JOB TOPIC [key=value]...

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

type Failure = Box<dyn std::error::Error>;
type Options = HashMap<String, String>;

const TIMEOUT: Duration = Duration::from_secs(30);
const ASK: Duration = Duration::from_secs(15);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, job, topic, rest @ ..] = &arguments[..] else {
        panic!("usage: BOOTSTRAP JOB TOPIC [key=value]...");
    };
    let options: Options = rest
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let answer = match job.as_str() {
        "write" => write(bootstrap, topic, &options),
        "read" => read(bootstrap, topic, &options),
        "ends" => ends(bootstrap, topic),
        "topics" => topics(bootstrap),
        "member" => member(bootstrap, topic, &options),
        other => Err(format!("no such job: {other}").into()),
    };
    let refusal = |why: Failure| {
        format!("{{\"ok\":false,\"why\":\"{}\"}}", why.to_string().replace(['"', '\\', '\n'], "'"))
    };
    println!("{}", answer.unwrap_or_else(refusal));
}

fn unhex(field: &str) -> Result<Option<Vec<u8>>, Failure> {
    if field == "-" {
        return Ok(None);
    }
    let bytes: Result<Vec<u8>, _> =
        (0..field.len()).step_by(2).map(|at| u8::from_str_radix(&field[at..at + 2], 16)).collect();
    Ok(Some(bytes?))
}

fn hex(value: Option<&[u8]>) -> String {
    let Some(bytes) = value else { return "-".to_owned() };
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where each record came to lie, in the order in which they were given.
struct Reports(Mutex<Vec<String>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        self.0.lock().unwrap()[*index] = match result {
            Ok(message) if message.offset() >= 0 => {
                format!("{}\t{}\n", message.partition(), message.offset())
            }
            Ok(_) => "?\t?\n".to_owned(),
            Err((error, _)) => format!("!\t{error}\n"),
        };
    }
}

fn write(bootstrap: &str, topic: &str, options: &Options) -> Result<String, Failure> {
    let text = fs::read_to_string(&options["in"])?;
    let reports = vec!["!\tno delivery callback\n".to_owned(); text.lines().count()];
    let option = |name: &str, fallback: &str| {
        options.get(name).map_or(fallback, String::as_str).to_owned()
    };
    let producer: BaseProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", option("acks", "all"))
        .set("enable.idempotence", option("idempotent", "true"))
        .set("compression.type", option("codec", "none"))
        .set("message.max.bytes", option("max", "1000000"))
        .set("linger.ms", "5")
        .set("delivery.timeout.ms", "30000")
        .create_with_context(Reports(Mutex::new(reports)))?;
    for (index, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        let (key, value) = (unhex(fields[2])?, unhex(fields[3])?);
        let mut headers = OwnedHeaders::new();
        for pair in fields[4].split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once(':').ok_or("header without a value")?;
            let name = String::from_utf8(unhex(name)?.unwrap_or_default())?;
            headers = headers.insert(Header { key: &name, value: unhex(value)?.as_ref() });
        }
        let mut record: BaseRecord<'_, [u8], [u8], Box<usize>> =
            BaseRecord::with_opaque_to(topic, Box::new(index))
                .timestamp(fields[1].parse()?)
                .headers(headers);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        if fields[0] != "-" {
            record.partition = Some(fields[0].parse()?);
        }
        while let Err((error, back)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            if error != full {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(100));
            record = back;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(TIMEOUT)?;
    let reports = producer.context().0.lock().unwrap().concat();
    fs::write(&options["out"], &reports)?;
    Ok(format!("{{\"ok\":true,\"count\":{}}}", reports.lines().count()))
}

fn reader(bootstrap: &str) -> Result<BaseConsumer, Failure> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "not-used")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()?)
}

fn partitions_of(client: &BaseConsumer, topic: &str) -> Result<Vec<i32>, Failure> {
    let metadata = client.fetch_metadata(Some(topic), ASK)?;
    let found = metadata.topics().first().ok_or("topic is not listed")?;
    Ok(found.partitions().iter().map(|one| one.id()).collect())
}

fn line_of(message: &BorrowedMessage<'_>) -> String {
    let headers: Vec<String> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|one| format!("{}:{}", hex(Some(one.key.as_bytes())), hex(one.value)))
        .collect();
    let fields = [
        message.partition().to_string(),
        message.offset().to_string(),
        message.timestamp().to_millis().unwrap_or(-1).to_string(),
        hex(message.key()),
        hex(message.payload()),
        headers.join(","),
    ];
    fields.join("\t") + "\n"
}

fn read(bootstrap: &str, topic: &str, options: &Options) -> Result<String, Failure> {
    let consumer = reader(bootstrap)?;
    let starts: HashMap<&str, i64> = options
        .get("start")
        .map_or("", String::as_str)
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .map(|(index, offset)| Ok((index, offset.parse()?)))
        .collect::<Result<_, Failure>>()?;
    let mut assigned = TopicPartitionList::new();
    let mut wanted = 0;
    for index in partitions_of(&consumer, topic)? {
        let (low, high) = consumer.fetch_watermarks(topic, index, ASK)?;
        let start = starts.get(index.to_string().as_str()).copied().unwrap_or(low);
        assigned.add_partition_offset(topic, index, Offset::Offset(start))?;
        wanted += high - start;
    }
    if let Some(count) = options.get("count") {
        wanted = count.parse()?;
    }
    consumer.assign(&assigned)?;
    let (mut out, mut count, began) = (String::new(), 0, Instant::now());
    while count < wanted && began.elapsed() < TIMEOUT {
        if let Some(message) = consumer.poll(Duration::from_millis(500)) {
            out.push_str(&line_of(&message?));
            count += 1;
        }
    }
    fs::write(&options["out"], out)?;
    let closing = Instant::now();
    drop(consumer);
    Ok(format!(
        "{{\"ok\":{},\"count\":{count},\"close_ms\":{},\"why\":\"{count} of {wanted} records\"}}",
        count == wanted,
        closing.elapsed().as_millis(),
    ))
}

fn ends(bootstrap: &str, topic: &str) -> Result<String, Failure> {
    let consumer = reader(bootstrap)?;
    let mut marks = Vec::new();
    for index in partitions_of(&consumer, topic)? {
        let (low, high) = consumer.fetch_watermarks(topic, index, ASK)?;
        marks.push(format!("\"{index}\":[{low},{high}]"));
    }
    Ok(format!("{{\"ok\":true,\"ends\":{{{}}}}}", marks.join(",")))
}

fn topics(bootstrap: &str) -> Result<String, Failure> {
    let consumer = reader(bootstrap)?;
    let metadata = consumer.fetch_metadata(None, ASK)?;
    let fields: Vec<String> = metadata
        .topics()
        .iter()
        .map(|one| format!("\"{}\":{}", one.name(), one.partitions().len()))
        .collect();
    Ok(format!("{{\"ok\":true,\"topics\":{{{}}}}}", fields.join(",")))
}

/// Notes each change of a member's partitions.
struct Owner {
    path: String,
    owned: Arc<Mutex<BTreeSet<i32>>>,
}

impl Owner {
    fn note(&self, change: impl FnOnce(&mut BTreeSet<i32>)) {
        let mut owned = self.owned.lock().unwrap();
        change(&mut owned);
        let list: Vec<String> = owned.iter().map(ToString::to_string).collect();
        let mut out = OpenOptions::new().append(true).open(&self.path).expect("the file is there");
        writeln!(out, "{}", list.join(",")).expect("a full line is written");
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|one| one.partition()).collect()
}

impl ClientContext for Owner {}

impl ConsumerContext for Owner {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, change: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = change {
            let gone = numbers(list);
            self.note(|owned| owned.retain(|one| !gone.contains(one)));
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, change: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = change {
            self.note(|owned| owned.extend(numbers(list)));
        }
    }
}

/// One member of a group until the stop file appears.
fn member(bootstrap: &str, topic: &str, options: &Options) -> Result<String, Failure> {
    let strategy =
        if options["strategy"] == "eager" { "range" } else { "cooperative-sticky" };
    let owner = Owner { path: options["owned"].clone(), owned: Arc::default() };
    let mut config = ClientConfig::new();
    if let Some(instance) = options.get("instance") {
        config.set("group.instance.id", instance);
    }
    let consumer: BaseConsumer<Owner> = config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", &options["group"])
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", &options["session"])
        .set("heartbeat.interval.ms", "500")
        .set("partition.assignment.strategy", strategy)
        .create_with_context(owner)?;
    consumer.subscribe(&[topic])?;
    let mut out = OpenOptions::new().append(true).open(&options["out"])?;
    while !Path::new(&options["stop"]).exists() {
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message?;
        out.write_all(line_of(&message).as_bytes())?;
        match consumer.commit_message(&message, CommitMode::Sync) {
            Ok(()) => {}
            // A rebalance may overtake a commit; whoever has the partition next reads again.
            Err(KafkaError::ConsumerCommit(
                RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId,
            )) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(consumer);
    Ok("{\"ok\":true}".to_owned())
}
