//! The address at which clients are told to find this broker.

use std::net::{IpAddr, SocketAddr};

use tracing::info;

use super::Core;
use super::dispatch::Client;
use crate::io::Io;

/// This broker as the client can reach it: at the address that it used, unless another one is
/// configured for the listener that it came through.
pub fn address<I: Io>(core: &Core<I>, client: &Client) -> (String, u16) {
    let mut advertised = core.shared.config.advertised_listeners.iter();
    match advertised.find(|one| *one.name == *client.listener) {
        Some(advertised) => (advertised.host.clone(), advertised.port),
        None => {
            if looks_mapped(client.local, client.address) && !core.hinted_mapping.replace(true) {
                info!(local = %client.local, client = %client.address,
                    "clients seem to come through a port mapping; if they cannot connect a \
                     second time, give the address they use with \
                     --set advertised.listeners={}://HOST:PORT", client.listener);
            }
            (client.local.ip().to_string(), client.local.port())
        }
    }
}

/// A container's gateway: the peer is the first address of the private network of this side.
fn looks_mapped(local: SocketAddr, peer: SocketAddr) -> bool {
    match (local.ip(), peer.ip()) {
        (IpAddr::V4(local), IpAddr::V4(peer)) => {
            let [a, b, _, last] = peer.octets();
            local.is_private() && local != peer && local.octets()[..2] == [a, b] && last == 1
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_gateway_looks_like_a_port_mapping() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mapped = |local, peer| looks_mapped(address(local), address(peer));
        assert!(mapped("172.17.0.2:9092", "172.17.0.1:4000"));
        assert!(!mapped("127.0.0.1:9092", "127.0.0.1:4000"));
        assert!(!mapped("10.0.0.7:9092", "10.0.0.8:4000"));
        assert!(!mapped("10.0.0.1:9092", "10.0.0.1:4000"));
    }
}
