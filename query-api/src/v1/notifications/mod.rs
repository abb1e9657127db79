//! `/v1/notifications`: what subscribers are told, as server-sent events, and the tickets with which
//! browsers come, since their `EventSource` sends no token.

mod position;
mod stream;
mod tickets;

use almanac_edge::{openapi::Fragment, openapi_fragment};
pub(crate) use stream::get;
pub(crate) use tickets::{Tickets, post};

pub(crate) const OPENAPI: Fragment = openapi_fragment!("openapi.json");
