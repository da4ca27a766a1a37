//! Where connections come in, how many may, and what those are told that may not.

use std::time::Duration;

use trialog_engine::io::Io;
use trialog_engine::wire::api::{ApiKey, ApiVersionsRequest, DescribeClusterRequest, Message};

use super::admin::set_of_brokers;
use super::peer::Peer;
use super::{metadata, with_broker};

/// For what has to happen on both sides of a connection.
const SOON: Duration = Duration::from_millis(100);

/// Asks something that is answered at once.
async fn ask(peer: &mut Peer) {
    let write = |out: &mut Vec<u8>| ApiVersionsRequest::default().encode(out, 0);
    peer.send(ApiKey::ApiVersions as i16, 0, write).await;
}

/// Whether it is served.
async fn is_served(peer: &mut Peer) -> bool {
    ask(peer).await;
    peer.receive().await.is_some()
}

/// As where some clients are inside a network and others outside: each is told the address that is for
/// its listener, or else the one that it has used.
#[test]
fn clients_are_told_the_address_of_their_own_listener() {
    let settings = [
        ("listeners", "PLAINTEXT://127.0.0.1:9092,INSIDE://127.0.0.1:9094"),
        ("advertised.listeners", "INSIDE://inside.example:19094"),
    ];
    with_broker(2, &settings, async |ram, _, mut outside| {
        let mut inside = Peer::connect_to(&ram, "127.0.0.1:9094".parse().expect("one")).await;
        let told = async |peer: &mut Peer| {
            let broker = metadata(peer, 9, "anything").await.brokers.remove(0);
            (broker.host, broker.port)
        };
        assert_eq!(told(&mut inside).await, ("inside.example".to_owned(), 19094));
        assert_eq!(told(&mut outside).await, ("127.0.0.1".to_owned(), 9092));
        let found = inside.call(2, &DescribeClusterRequest::default()).await.brokers.remove(0);
        assert_eq!((found.host.as_str(), found.port), ("inside.example", 19094));
    });
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    with_broker(1, &[("max.connections.per.ip", "2")], async |ram, shared, mut first| {
        let mut second = Peer::connect(&ram, &shared).await;
        assert!(is_served(&mut first).await && is_served(&mut second).await);
        let mut third = Peer::connect(&ram, &shared).await;
        assert!(!is_served(&mut third).await, "closed at once");
        drop(second);
        ram.sleep(SOON).await;
        let mut fourth = Peer::connect(&ram, &shared).await;
        assert!(is_served(&mut first).await && is_served(&mut fourth).await);
    });
}

#[test]
fn single_addresses_have_limits_of_their_own() {
    let settings =
        [("max.connections.per.ip", "0"), ("max.connections.per.ip.overrides", "127.0.0.1:2")];
    with_broker(1, &settings, async |ram, shared, mut first| {
        let mut second = Peer::connect(&ram, &shared).await;
        assert!(is_served(&mut first).await && is_served(&mut second).await);
        let mut third = Peer::connect(&ram, &shared).await;
        assert!(!is_served(&mut third).await);
    });
}

/// As in Kafka, it is not closed but waits.
#[test]
fn who_is_too_many_waits_until_others_have_ended() {
    with_broker(1, &[("max.connections", "1")], async |ram, shared, mut first| {
        assert!(is_served(&mut first).await);
        let mut second = Peer::connect(&ram, &shared).await;
        ask(&mut second).await;
        let began = ram.now();
        ram.sleep(Duration::from_secs(2)).await;
        assert!(is_served(&mut first).await);
        drop(first);
        assert!(second.receive().await.is_some());
        let waited = ram.now().since(began);
        assert!((2000..2200).contains(&waited.as_millis()), "{waited:?}");
    });
}

#[test]
fn limits_change_while_the_broker_runs() {
    with_broker(1, &[], async |ram, shared, mut first| {
        set_of_brokers(&mut first, "max.connections.per.ip", "1").await;
        ram.sleep(SOON).await;
        let mut second = Peer::connect(&ram, &shared).await;
        assert!(!is_served(&mut second).await);
        set_of_brokers(&mut first, "max.connections.per.ip", "2").await;
        ram.sleep(SOON).await;
        let mut third = Peer::connect(&ram, &shared).await;
        assert!(is_served(&mut third).await);
    });
}
