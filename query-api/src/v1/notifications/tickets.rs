//! Tickets: who has a token gets one, and opens one stream with it from where no token can be sent.

use crate::{state::ApiState, v1::private::of_the_caller};
use almanac_edge::{Caller, Problem, query::Parameters};
use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A ticket is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Tickets that are good at once, and of one subject.
const MOST: usize = 1_000;
const MOST_OF_ONE: usize = 20;

/// The tickets that are good. They are known to the process that gave them out alone, since one that
/// others know as well could be used twice.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<Uuid, Ticket>>);

struct Ticket {
    caller: Caller,
    until: Instant,
}

impl Tickets {
    /// `None` where too many are good already.
    fn issue(&self, caller: Caller, now: Instant) -> Option<Uuid> {
        let mut good = self.0.lock();
        good.retain(|_, ticket| ticket.until > now);
        let of_caller = good.iter().filter(|(_, ticket)| ticket.caller.subject == caller.subject);
        if of_caller.clone().count() >= MOST_OF_ONE {
            let oldest = of_caller.min_by_key(|(_, ticket)| ticket.until).map(|(id, _)| *id);
            oldest.and_then(|oldest| good.remove(&oldest));
        }
        if good.len() >= MOST {
            return None;
        }
        // 122 random bits of the operating system.
        let id = Uuid::new_v4();
        good.insert(id, Ticket { caller, until: now + GOOD_FOR });
        Some(id)
    }

    /// Whose a ticket is; it is good no longer.
    fn use_up(&self, text: &str, now: Instant) -> Option<Caller> {
        let ticket = self.0.lock().remove(&text.parse().ok()?)?;
        (ticket.until > now).then_some(ticket.caller)
    }

    pub(super) fn redeem(&self, text: &str) -> Result<Caller, Problem> {
        self.use_up(text, Instant::now()).ok_or_else(|| {
            let detail = "the ticket was used, is too old, or was never given out here";
            Problem::new(almanac_edge::ProblemType::Unauthorized, detail)
        })
    }
}

pub(crate) async fn post(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let caller = state.identity.caller(&headers)?;
    let ticket = state.tickets.issue(caller, Instant::now());
    let ticket = ticket.ok_or_else(|| Problem::busy("too many tickets have not been used"))?;
    let until = Timestamp::now() + GOOD_FOR;
    let body = json!({"ticket": ticket.simple().to_string(), "expires_at": format!("{until:.3}")});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::CREATED;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(of_the_caller(response, "Authorization"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_edge::identity::{Identity, IdentityOptions};

    fn caller(subject: &str) -> Caller {
        let options = IdentityOptions { local_user: true, ..IdentityOptions::default() };
        let host = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
        let mut caller = Identity::new(options).unwrap().caller(&host).unwrap();
        caller.subject = subject.to_owned();
        caller
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket = tickets.issue(caller("mary"), now).unwrap().simple().to_string();
        let other = tickets.issue(caller("tom"), now).unwrap().to_string();
        assert_eq!(tickets.use_up(&ticket, now).unwrap().subject, "mary");
        assert!(tickets.use_up(&ticket, now).is_none(), "it was used");
        assert!(tickets.use_up(&other, now + GOOD_FOR).is_none(), "it is too old");
        assert!(tickets.use_up("x", now).is_none());
        assert_eq!(tickets.redeem(&ticket).unwrap_err().status().as_u16(), 401);
    }

    #[test]
    fn tickets_are_bounded_in_all_and_for_each() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let first = tickets.issue(caller("mary"), now).unwrap().to_string();
        let later = now + Duration::from_secs(1);
        for _ in 0..MOST_OF_ONE {
            tickets.issue(caller("mary"), later).unwrap();
        }
        assert!(tickets.use_up(&first, later).is_none(), "the oldest made room");
        for number in MOST_OF_ONE..MOST {
            tickets.issue(caller(&number.to_string()), later).unwrap();
        }
        assert!(tickets.issue(caller("tom"), later).is_none());
        assert!(tickets.issue(caller("tom"), later + GOOD_FOR).is_some(), "they have expired");
    }
}
