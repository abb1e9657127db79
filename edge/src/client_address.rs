//! The address a request comes from, seen through the proxies an installation trusts.

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("{0:?} is neither an address nor a network such as 10.0.0.0/8")]
    Network(String),
    #[error("{0:?} is no name of a header")]
    Header(String),
}

/// Proxies whose word about the client's address is taken.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// Where they write it. Only one header is read: a proxy passes on what its client wrote into
    /// the others.
    header: HeaderName,
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self { networks: Vec::new(), header: HeaderName::from_static("x-forwarded-for") }
    }
}

impl TrustedProxies {
    /// Of addresses and networks.
    pub fn new(networks: &[String], header: &str) -> Result<Self, ProxyError> {
        let network = |text: &String| {
            let address = || text.parse().map(|address: IpAddr| address.to_canonical().into());
            text.parse().or_else(|_| address()).map_err(|_| ProxyError::Network(text.clone()))
        };
        Ok(Self {
            networks: networks.iter().map(network).collect::<Result<_, _>>()?,
            header: header.parse().map_err(|_| ProxyError::Header(header.to_owned()))?,
        })
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The last address that no trusted proxy has. Each proxy adds, at the end, the address it was
    /// asked from; what stands before the first one that is not trusted is anybody's invention.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        if self.networks.is_empty() || !self.trusts(client) {
            return client;
        }
        let values = headers.get_all(&self.header).iter().rev();
        let hops = values.filter_map(|value| value.to_str().ok());
        for hop in hops.flat_map(|value| value.rsplit(',')) {
            let hop = if self.header == header::FORWARDED { forwarded_for(hop) } else { Some(hop) };
            // A name, or nothing: what is before it cannot be followed.
            let Some(address) = hop.and_then(address_of) else { return client };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// The `for` of one hop in `Forwarded` (RFC 7239).
fn forwarded_for(hop: &str) -> Option<&str> {
    hop.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })
}

/// An address with a port or without, as proxies write it.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn client(header: &str, peer: &str, values: &[&'static str]) -> String {
        let trusted = ["10.0.0.0/8".to_owned(), "2001:db8::1".to_owned()];
        let proxies = TrustedProxies::new(&trusted, header).unwrap();
        let name: HeaderName = header.parse().unwrap();
        let values = values.iter().map(|value| (name.clone(), HeaderValue::from_static(value)));
        proxies.client(peer.parse().unwrap(), &values.collect()).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_add_counts() {
        let through = |peer: &str, values: &[&'static str]| client("X-Forwarded-For", peer, values);
        assert_eq!(through("192.0.2.1", &["198.51.100.1"]), "192.0.2.1", "nobody's proxy");
        assert_eq!(through("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(through("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(through("10.0.0.1", &["1.1.1.1", "198.51.100.1"]), "198.51.100.1", "two lines");
        assert_eq!(through("::ffff:10.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(through("2001:db8::1", &["[2001:db8::2]:80"]), "2001:db8::2");
        assert_eq!(through("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "all are trusted");
        assert_eq!(through("10.0.0.1", &["1.1.1.1, unknown"]), "10.0.0.1", "cannot be followed");
        assert_eq!(through("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_where_it_is_configured() {
        let through = |values: &[&'static str]| client("forwarded", "10.0.0.1", values);
        assert_eq!(through(&["for=192.0.2.43, for=198.51.100.17;proto=https"]), "198.51.100.17");
        assert_eq!(through(&["proto=https;For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(through(&["for=_hidden"]), "10.0.0.1");
    }

    #[test]
    fn mistakes_are_told() {
        let of = |network: &str, header| TrustedProxies::new(&[network.to_owned()], header);
        assert!(of("10.0.0.0/33", "forwarded").unwrap_err().to_string().contains("10.0.0.0/33"));
        assert!(of("10.0.0.0", "a b").unwrap_err().to_string().contains("a b"));
        assert!(TrustedProxies::default().networks.is_empty());
    }
}
