//! Who shares with others what there is little of.

use crate::Identity;
use http::{HeaderMap, header};
use std::net::{IpAddr, Ipv6Addr};

tokio::task_local! {
    /// The other end of the connection that a task drives. A request's extensions would cost every
    /// request two allocations.
    static PEER: IpAddr;
}

/// One of those between whom turns, places and memory are shared fairly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The subject of a token.
    Subject(String),
    /// Whoever asks from an address without a token, through trusted proxies or not; of IPv6, from a network that one subscriber
    /// is given.
    Network(IpAddr),
    /// There is no connection.
    Unknown,
}

impl Party {
    fn at(address: IpAddr) -> Self {
        const SUBSCRIBER: u128 = !0 << 64;
        Self::Network(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & SUBSCRIBER).into(),
            address => address,
        })
    }
}

impl Identity {
    /// Who asks, as far as sharing goes. A token that is not good names nobody.
    pub fn party(&self, headers: &HeaderMap) -> Party {
        if headers.contains_key(header::AUTHORIZATION)
            && let Ok(caller) = self.caller(headers)
        {
            return Party::Subject(caller.subject);
        }
        let proxies = &self.options.proxies;
        PEER.try_with(|peer| Party::at(proxies.client(*peer, headers))).unwrap_or(Party::Unknown)
    }
}

/// Drives a connection with this peer.
pub(crate) fn with_peer<F: Future>(peer: IpAddr, connection: F) -> impl Future<Output = F::Output> {
    PEER.scope(peer, connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrustedProxies, identity::IdentityOptions};
    use http::HeaderValue;

    #[tokio::test]
    async fn without_a_token_the_address_counts() {
        let identity = Identity::new(IdentityOptions::default()).unwrap();
        let party = async |peer: &str| {
            with_peer(peer.parse().unwrap(), async { identity.party(&HeaderMap::new()) }).await
        };
        assert_eq!(party("192.0.2.1").await, Party::Network("192.0.2.1".parse().unwrap()));
        assert_eq!(party("::ffff:192.0.2.1").await, party("192.0.2.1").await);
        assert_ne!(party("192.0.2.1").await, party("192.0.2.2").await);
        assert_eq!(party("2001:db8::1").await, party("2001:db8::ffff:1:2:3").await);
        assert_ne!(party("2001:db8::1").await, party("2001:db8:0:1::1").await);
        assert_eq!(identity.party(&HeaderMap::new()), Party::Unknown);
        let bad = HeaderMap::from_iter([(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer forged"),
        )]);
        let forged = with_peer("192.0.2.1".parse().unwrap(), async { identity.party(&bad) });
        assert_eq!(forged.await, party("192.0.2.1").await);
        let forwarded = HeaderMap::from_iter([(
            "x-forwarded-for".parse().unwrap(),
            HeaderValue::from_static("192.0.2.7"),
        )]);
        let through = async |identity: &Identity| {
            with_peer("10.0.0.1".parse().unwrap(), async { identity.party(&forwarded) }).await
        };
        assert_eq!(through(&identity).await, party("10.0.0.1").await, "nobody's proxy");
        let proxies = TrustedProxies::new(&["10.0.0.1".to_owned()], "x-forwarded-for").unwrap();
        let behind = Identity::new(IdentityOptions { proxies, ..Default::default() }).unwrap();
        assert_eq!(through(&behind).await, party("192.0.2.7").await);
    }
}
