//! The public JSON of a subscription.

use super::walk::{NotJson, Part, Walk, merged, parse};
use almanac_domain::{
    Fault,
    subscriptions::{Draft, Knowledge, Secret, Subscription, is_private},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;
use serde::Serialize;
use serde_json::value::RawValue;
use std::{collections::BTreeSet, net::IpAddr};

/// What the base64 of a secret begins with.
const SECRET: &str = "whsec_";

/// Where notifications may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// To public addresses, by https.
    #[default]
    Public,
    /// Into private networks as well, and there by http too.
    Anywhere,
}

impl Reach {
    pub fn permits(self, address: IpAddr) -> bool {
        self == Self::Anywhere || !is_private(address)
    }
}

/// An address that notifications may go to, or the rule that it breaks. Where a name leads, only who
/// sends knows.
pub fn address(text: &str, reach: Reach) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it must be an https address")?;
    let is_http = url.scheme() == "http" && reach == Reach::Anywhere;
    if url.scheme() != "https" && !is_http {
        return Err("it must be an https address");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not hold a user name or password");
    }
    // A name that is written like an address is one to the parser already.
    let host = url.host_str().ok_or("it must name a host")?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_local = host == "localhost" || host.ends_with(".localhost");
    let leads_inside = address.map_or(is_local, is_private);
    if leads_inside && reach == Reach::Public {
        return Err("it must not lead into a private network");
    }
    Ok(url)
}

/// A subscription from a body and its secret, or all that is wrong with it. `known` are the types of
/// events that there are.
pub fn read(
    body: &[u8],
    known: &BTreeSet<String>,
    reach: Reach,
) -> Result<Result<(Subscription, Secret), Vec<Fault>>, NotJson> {
    let raw = parse(body)?;
    let mut walk = Walk::default();
    let Some(object) = walk.object(raw, &["types", "subject", "url", "secret"]) else {
        return Ok(Err(walk.faults));
    };
    let text = |walk: &mut Walk, raw: &RawValue| Some(walk.text(raw).unwrap_or_default());
    let secret = walk.property(&object, "secret", Walk::text);
    let draft = Draft {
        types: walk
            .property(&object, "types", |walk, raw| walk.list(raw, text))
            .unwrap_or_default(),
        subject: walk.property(&object, "subject", Walk::text),
        url: walk.property(&object, "url", Walk::text),
        secret: secret.map(|secret| STANDARD.decode(secret.strip_prefix(SECRET)?).ok()),
    };
    if let Some(url) = &draft.url
        && let Err(rule) = address(url, reach)
    {
        walk.at(Part::Name("url"), |walk| walk.fault(rule));
    }
    Ok(merged(walk.faults, draft.check(known)))
}

/// A subscription as its owner reads it: without its secret.
pub fn render(id: &str, known: &Knowledge) -> String {
    #[derive(Serialize)]
    struct DisabledJson<'a> {
        at: String,
        reason: &'a str,
    }
    #[derive(Serialize)]
    struct SubscriptionJson<'a> {
        id: &'a str,
        version: u64,
        created_at: String,
        updated_at: String,
        types: &'a [String],
        subject: Option<&'a str>,
        url: &'a str,
        disabled: Option<DisabledJson<'a>>,
    }
    let Subscription { types, subject, url } = &known.subscription;
    let disabled = known.disabled.as_ref();
    let json = SubscriptionJson {
        id,
        version: known.version,
        created_at: format!("{:.3}", known.created_at),
        updated_at: format!("{:.3}", known.updated_at),
        types,
        subject: subject.as_deref(),
        url,
        disabled: disabled.map(|disabled| DisabledJson {
            at: format!("{:.3}", disabled.at),
            reason: &disabled.reason,
        }),
    };
    serde_json::to_string(&json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_outside_by_https() {
        for text in
            ["https://example.com/hook?a=b", "https://1.1.1.1:8443/", "https://[2606:4700::1]/"]
        {
            assert!(address(text, Reach::Public).is_ok(), "{text}");
        }
        for text in [
            "http://example.com/",
            "ftp://example.com/",
            "example.com",
            "/hook",
            "https://user@example.com/",
            "https://:secret@example.com/",
            "https://localhost/",
            "https://a.localhost/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(address(text, Reach::Public).is_err(), "{text}");
        }
        assert!(address("http://127.0.0.1:8080/", Reach::Anywhere).is_ok());
        assert!(address("ftp://127.0.0.1/", Reach::Anywhere).is_err());
    }

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let known = BTreeSet::from(["task.started".to_owned()]);
        let body = format!(
            r#"{{"types": ["task.started"], "subject": null, "url": "https://example.com/", "secret": "whsec_{}"}}"#,
            STANDARD.encode([7; 32])
        );
        let (subscription, secret) = read(body.as_bytes(), &known, Reach::Public).unwrap().unwrap();
        assert_eq!((secret.0, subscription.subject), (vec![7; 32], None));
        for secret in ["whsec_AAAA", "hello", "whsec_%%"] {
            let body = format!(
                r#"{{"types": ["task.started"], "url": "https://localhost/", "secret": "{secret}"}}"#
            );
            let faults = read(body.as_bytes(), &known, Reach::Public).unwrap().unwrap_err();
            let places: Vec<String> =
                faults.into_iter().map(|fault| fault.place.join("/")).collect();
            assert_eq!(places, ["secret", "url"], "{secret}");
        }
    }
}
