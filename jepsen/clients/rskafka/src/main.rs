//! The rskafka client. Usage: BOOTSTRAP JOB TOPIC [key=value]...

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use chrono::DateTime;
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;

type Failure = Box<dyn std::error::Error>;
type Options = HashMap<String, String>;

const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, job, topic, rest @ ..] = &arguments[..] else {
        panic!("usage: BOOTSTRAP JOB TOPIC [key=value]...");
    };
    let options: Options = rest
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let work = run(bootstrap, job, topic, &options);
    let answer = match tokio::time::timeout(TIMEOUT, work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => refusal(&error.to_string()),
        Err(_) => refusal("not done within 30 s"),
    };
    println!("{answer}");
}

fn refusal(why: &str) -> String {
    format!("{{\"ok\":false,\"why\":\"{}\"}}", why.replace(['"', '\\', '\n'], "'"))
}

async fn run(
    bootstrap: &str,
    job: &str,
    topic: &str,
    options: &Options,
) -> Result<String, Failure> {
    let backoff = BackoffConfig { deadline: Some(Duration::from_secs(20)), ..Default::default() };
    let client =
        ClientBuilder::new(vec![bootstrap.to_owned()]).backoff_config(backoff).build().await?;
    match job {
        "write" => write(&client, topic, options).await,
        "read" => read(&client, topic, options).await,
        "ends" => ends(&client, topic).await,
        "times" => times(&client, topic, options).await,
        "topics" => topics(&client).await,
        "create" => {
            let count = options["partitions"].parse()?;
            client.controller_client()?.create_topic(topic, count, 1, 15_000).await?;
            Ok("{\"ok\":true}".to_owned())
        }
        "delete" => {
            client.controller_client()?.delete_topic(topic, 15_000).await?;
            Ok("{\"ok\":true}".to_owned())
        }
        other => Err(format!("no such job: {other}").into()),
    }
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

async fn partition(client: &Client, topic: &str, index: i32) -> Result<PartitionClient, Failure> {
    Ok(client.partition_client(topic, index, UnknownTopicHandling::Retry).await?)
}

fn record(fields: &[&str]) -> Result<Record, Failure> {
    let mut headers = BTreeMap::new();
    for pair in fields[4].split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once(':').ok_or("header without a value")?;
        let name = String::from_utf8(unhex(name)?.unwrap_or_default())?;
        headers.insert(name, unhex(value)?.unwrap_or_default());
    }
    Ok(Record {
        key: unhex(fields[2])?,
        value: unhex(fields[3])?,
        headers,
        timestamp: DateTime::from_timestamp_millis(fields[1].parse()?).ok_or("timestamp")?,
    })
}

/// Batches of up to fifty records per partition, one request each.
async fn write(client: &Client, topic: &str, options: &Options) -> Result<String, Failure> {
    let codec = match options.get("codec").map_or("none", String::as_str) {
        "gzip" => Compression::Gzip,
        "lz4" => Compression::Lz4,
        "snappy" => Compression::Snappy,
        "zstd" => Compression::Zstd,
        _ => Compression::NoCompression,
    };
    let text = std::fs::read_to_string(&options["in"])?;
    let mut placed: BTreeMap<i32, Vec<(usize, Record)>> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        placed.entry(fields[0].parse()?).or_default().push((index, record(&fields)?));
    }
    let mut reports = vec![String::new(); text.lines().count()];
    for (index, records) in placed {
        let target = partition(client, topic, index).await?;
        for batch in records.chunks(50) {
            let own = batch.iter().map(|(_, record)| record.clone()).collect();
            let answer = target.produce(own, codec).await;
            for (at, (line, _)) in batch.iter().enumerate() {
                reports[*line] = match &answer {
                    Ok(offsets) => format!("{index}\t{}\n", offsets[at]),
                    Err(error) => format!("!\t{}\n", error.to_string().replace('\n', " ")),
                };
            }
        }
    }
    std::fs::write(&options["out"], reports.concat())?;
    Ok(format!("{{\"ok\":true,\"count\":{}}}", reports.len()))
}

async fn count_partitions(client: &Client, topic: &str) -> Result<i32, Failure> {
    let all = client.list_topics().await?;
    let found = all.iter().find(|one| one.name == topic).ok_or("topic is not listed")?;
    Ok(i32::try_from(found.partitions.len())?)
}

async fn read(client: &Client, topic: &str, options: &Options) -> Result<String, Failure> {
    let starts: HashMap<i32, i64> = options
        .get("start")
        .map_or("", String::as_str)
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .map(|(index, offset)| Ok((index.parse()?, offset.parse()?)))
        .collect::<Result<_, Failure>>()?;
    let mut out = String::new();
    let mut count = 0;
    for index in 0..count_partitions(client, topic).await? {
        let source = partition(client, topic, index).await?;
        let end = source.get_offset(OffsetAt::Latest).await?;
        let low = source.get_offset(OffsetAt::Earliest).await?;
        let mut next = starts.get(&index).copied().unwrap_or(low);
        while next < end {
            for found in source.fetch_records(next, 1..100_000, 500).await?.0 {
                let record = &found.record;
                let headers: Vec<String> = record
                    .headers
                    .iter()
                    .map(|(name, value)| {
                        format!("{}:{}", hex(Some(name.as_bytes())), hex(Some(value)))
                    })
                    .collect();
                let fields = [
                    index.to_string(),
                    found.offset.to_string(),
                    record.timestamp.timestamp_millis().to_string(),
                    hex(record.key.as_deref()),
                    hex(record.value.as_deref()),
                    headers.join(","),
                ];
                out.push_str(&fields.join("\t"));
                out.push('\n');
                next = found.offset + 1;
                count += 1;
            }
        }
    }
    std::fs::write(&options["out"], out)?;
    Ok(format!("{{\"ok\":true,\"count\":{count}}}"))
}

async fn ends(client: &Client, topic: &str) -> Result<String, Failure> {
    let mut marks = Vec::new();
    for index in 0..count_partitions(client, topic).await? {
        let source = partition(client, topic, index).await?;
        let low = source.get_offset(OffsetAt::Earliest).await?;
        let high = source.get_offset(OffsetAt::Latest).await?;
        marks.push(format!("\"{index}\":[{low},{high}]"));
    }
    Ok(format!("{{\"ok\":true,\"ends\":{{{}}}}}", marks.join(",")))
}

async fn times(client: &Client, topic: &str, options: &Options) -> Result<String, Failure> {
    let mut moments = Vec::new();
    for moment in options["times"].split(',') {
        let at = DateTime::from_timestamp_millis(moment.parse()?).ok_or("timestamp")?;
        let mut offsets = Vec::new();
        for index in 0..count_partitions(client, topic).await? {
            let source = partition(client, topic, index).await?;
            offsets
                .push(format!("\"{index}\":{}", source.get_offset(OffsetAt::Timestamp(at)).await?));
        }
        moments.push(format!("\"{moment}\":{{{}}}", offsets.join(",")));
    }
    Ok(format!("{{\"ok\":true,\"times\":{{{}}}}}", moments.join(",")))
}

async fn topics(client: &Client) -> Result<String, Failure> {
    let listed = client.list_topics().await?;
    let fields: Vec<String> =
        listed.iter().map(|one| format!("\"{}\":{}", one.name, one.partitions.len())).collect();
    Ok(format!("{{\"ok\":true,\"topics\":{{{}}}}}", fields.join(",")))
}
