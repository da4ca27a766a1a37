//! How long requests took and clients had to wait: histograms since the start under our names, and
//! quantiles of late under those of Prometheus' JMX exporter for Kafka.

use std::fmt::Display;

use super::answer::Answer;
use super::exposition::{self, Kind, sample};
use super::survey::Survey;
use crate::broker::dispatch::SERVED;
use crate::broker::tally::{DOUBLINGS, Durations};
use crate::io::{self, Io};
use crate::machine::quota::Quota;
use crate::wire::api::ApiKey;

use Kind::{Counter, Gauge};

/// The smallest bound that is shown, as a power of two of a microsecond: 64 µs.
const DOUBLING_SHOWN_MIN: usize = 6;

/// Writes ours.
pub async fn write<I: Io>(all: &Survey, answer: &mut Answer<'_, I>) -> io::Result<()> {
    const TOOK: &str = "trialog_request_seconds";
    const WAIT: &str = "trialog_throttle_seconds";
    let help = "From the receipt of a request to the departure of its answer, by API; a fetch that \
                waits for records waits in here.";
    exposition::family(&mut answer.text, TOOK, Kind::Histogram, help);
    for ((api, _), took) in SERVED.iter().zip(&all.times.latencies) {
        histogram(TOOK, ("api", &api.name()), took, answer).await?;
    }
    let help = "For how long clients were told to wait because a quota was used up, by quota; the \
                count is that of the requests that were answered so.";
    exposition::family(&mut answer.text, WAIT, Kind::Histogram, help);
    for (quota, wait) in Quota::ALL.into_iter().zip(&all.times.throttles) {
        histogram(WAIT, ("quota", &quota.name()), wait, answer).await?;
    }
    Ok(())
}

/// The samples of one histogram, if anything is in it.
async fn histogram<I: Io>(
    name: &str,
    label: (&str, &dyn Display),
    durations: &Durations,
    answer: &mut Answer<'_, I>,
) -> io::Result<()> {
    let (count, out) = (durations.count(), &mut answer.text);
    if count == 0 {
        return Ok(());
    }
    let bucket = format!("{name}_bucket");
    for doubling in DOUBLING_SHOWN_MIN..DOUBLINGS {
        let bound = (1_u64 << doubling) as f64 / 1e6;
        sample(out, &bucket, &[label, ("le", &bound)], durations.below(doubling));
    }
    sample(out, &bucket, &[label, ("le", &"+Inf")], count);
    sample(out, &format!("{name}_sum"), &[label], durations.seconds());
    sample(out, &format!("{name}_count"), &[label], count);
    answer.pause().await
}

/// Kafka counts a fetch also as one of a consumer.
fn request_names(api: ApiKey) -> &'static [&'static str] {
    match api {
        ApiKey::Fetch => &["FetchConsumer"],
        _ => &[],
    }
}

/// The durations of each API that was asked for, with each of its names.
fn named(of: &[Durations]) -> impl Iterator<Item = (&'static str, &Durations)> {
    let counted = SERVED.iter().zip(of).filter(|(_, one)| one.count() > 0);
    counted.flat_map(|((api, _), one)| {
        let names = [api.name()].into_iter().chain(request_names(*api).iter().copied());
        names.map(move |name| (name, one))
    })
}

/// Writes Kafka's.
pub async fn write_kafka<I: Io>(all: &Survey, answer: &mut Answer<'_, I>) -> io::Result<()> {
    const COUNT: &str = "kafka_network_requestmetrics_requests_total";
    const ERRORS: &str = "kafka_network_requestmetrics_errors_total";
    const TIME: &str = "kafka_network_requestmetrics_totaltimems";
    const SHARES: [f64; 6] = [0.5, 0.75, 0.95, 0.98, 0.99, 0.999];
    let out = &mut answer.text;
    exposition::family(out, COUNT, Counter, "Requests, by API.");
    for (name, one) in named(&all.times.latencies) {
        sample(out, COUNT, &[("request", &name)], one.count());
    }
    exposition::family(out, ERRORS, Counter, "Requests refused in whole or in part, by API.");
    for ((api, _), refused) in SERVED.iter().zip(&all.refused).filter(|(_, one)| **one > 0) {
        sample(out, ERRORS, &[("request", &api.name())], refused);
    }
    let help = "Milliseconds from a request's receipt to its answer's departure: quantiles of the \
                last minutes.";
    exposition::family(out, TIME, Gauge, help);
    for (name, one) in named(&all.recent.latencies) {
        for share in SHARES {
            let labels: [(&str, &dyn Display); 2] = [("request", &name), ("quantile", &share)];
            sample(out, TIME, &labels, one.quantile_ms(share));
        }
    }
    let count = format!("{TIME}_count");
    exposition::family(out, &count, Counter, "Requests, by API.");
    for (name, one) in named(&all.times.latencies) {
        sample(out, &count, &[("request", &name)], one.count());
    }
    for (quota, recent) in Quota::ALL.into_iter().zip(&all.recent.throttles) {
        let name = match quota {
            Quota::ProducerByteRate => "kafka_server_produce_throttle_time",
            Quota::ConsumerByteRate => "kafka_server_fetch_throttle_time",
            Quota::RequestPercentage => "kafka_server_request_throttle_time",
            Quota::ControllerMutationRate => "kafka_server_controllermutation_throttle_time",
        };
        let help = "Milliseconds that a client had to wait on average when it had used up this \
                    quota, in the last minutes; 0 if none had to.";
        exposition::family(out, name, Gauge, help);
        let count = recent.count().max(1);
        sample(out, name, &[], 1000.0 * recent.seconds() / count as f64);
    }
    answer.pause().await
}
