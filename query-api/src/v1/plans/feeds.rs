//! `/v1/plans.ics` and `/v1/plans.rss`: lists of plans for others' calendars and feed readers.

use super::{
    Plans,
    list::{Page, Question},
    providers::LastSeen,
};
use crate::{answers::Room, calendar, rss};
use almanac_edge::{Problem, conditional};
use axum::{extract::State, response::Response};
use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Plans of one answer, unless fewer are asked for: who subscribes turns no pages.
const MOST: usize = 500;

/// A plan as lists have it.
#[derive(Deserialize)]
struct Plan {
    id: String,
    provider: String,
    title: String,
    starts_at: String,
    ends_at: Option<String>,
    sell_from: Option<String>,
    sell_to: Option<String>,
    sold_out: bool,
    capacity: i64,
    /// In the provider's digits.
    min_price: Option<Box<RawValue>>,
    max_price: Option<Box<RawValue>>,
    currency: Option<String>,
    url: Option<String>,
    listed: bool,
    first_seen_at: Timestamp,
    /// In the tables it is the time of the newest event.
    #[serde(rename = "last_seen_at")]
    changed_at: Timestamp,
}

#[derive(Deserialize)]
struct Plural {
    items: Vec<Plan>,
}

/// The plans that are asked for, and where more of them are.
struct Found {
    plans: Vec<Plan>,
    /// Where the installation is.
    origin: String,
    path_and_query: String,
    next: Option<String>,
    /// Memory for the answer.
    room: Room,
}

pub(super) async fn calendar(
    State(state): State<Arc<Plans>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = Found::of(&state, &uri, &headers).await?;
    answer(&state, &headers, found, calendar::CONTENT_TYPE, |found| {
        let about = found.about();
        let entries = found.plans.iter().filter_map(|plan| plan.entry(&found.origin));
        Ok(calendar::render("Plans", Some(&about), entries).into_bytes())
    })
    .await
}

pub(super) async fn news(
    State(state): State<Arc<Plans>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = Found::of(&state, &uri, &headers).await?;
    answer(&state, &headers, found, rss::CONTENT_TYPE, |found| {
        let origin = &found.origin;
        let channel = rss::Channel {
            title: "Plans".to_owned(),
            about: found.about(),
            home: format!("{origin}/#/plans"),
            here: format!("{origin}{}", found.path_and_query),
            next: found.next.as_ref().map(|next| format!("{origin}{next}")),
        };
        let items: Vec<rss::Item> = found.plans.iter().map(|plan| plan.item(origin)).collect();
        rss::render(&channel, &items).map_err(|error| Problem::internal(&error))
    })
    .await
}

/// Written behind the threads that answer: five hundred plans take some milliseconds.
async fn answer(
    state: &Plans,
    headers: &HeaderMap,
    found: Found,
    kind: &'static str,
    write: fn(&Found) -> Result<Vec<u8>, Problem>,
) -> Result<Response, Problem> {
    let written = state.options.packing.background.spawn_blocking(move || {
        let text = write(&found)?;
        Ok::<_, Problem>((found.room.hold(text)?, found.next))
    });
    let (body, next) = written.await.map_err(|error| Problem::internal(&error))??;
    let mut answer = conditional::of_type(headers, kind, body);
    let next = next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok());
    if let Some(next) = next {
        answer.headers_mut().insert(header::LINK, next);
    }
    Ok(answer)
}

impl Found {
    async fn of(state: &Plans, uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let question = Question::parse(uri.query(), Some(MOST))?;
        let _turn = state.turn(headers).await?;
        // A plan that is seen once more is the same plan: no reader is to be told of that.
        let mut page = question.page(state, &LastSeen::default()).await?;
        let cursor = question.cursor(&mut page);
        let Page { mut body, room, .. } = page;
        body.extend_from_slice(b"]}");
        let read = serde_json::from_slice::<Plural>(&body);
        Ok(Self {
            plans: read.map_err(|error| Problem::internal(&error))?.items,
            origin: origin(state, uri, headers),
            path_and_query: uri.path_and_query().map_or_else(String::new, ToString::to_string),
            next: serde_json::from_str(&cursor).ok().map(|cursor: String| behind(uri, &cursor)),
            room,
        })
    }

    fn about(&self) -> String {
        let shown = self.plans.len();
        match self.next {
            None => "Plans of Almanac, as asked for by the filters in the address.".to_owned(),
            Some(_) => format!(
                "The first {shown} plans of more: narrow the filters in the address, or follow \
                 its Link header."
            ),
        }
    }
}

/// The same question from behind a page on.
fn behind(uri: &Uri, cursor: &str) -> String {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.filter(|(name, _)| name != "cursor"));
    format!("{}?{}", uri.path(), query.append_pair("cursor", cursor).finish())
}

/// As configured, or where the request was sent to.
fn origin(state: &Plans, uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(url) = &state.options.page.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let host: Option<Authority> = uri.authority().cloned().or(named);
    let host = host.filter(|host| !host.as_str().contains('@'));
    format!("http://{}", host.as_ref().map_or("localhost", Authority::as_str))
}

impl Plan {
    fn entry(&self, origin: &str) -> Option<calendar::Entry<'_>> {
        let starts = self.starts_at.parse().ok()?;
        let ends = self.ends_at.as_ref().and_then(|ends| ends.parse().ok());
        Some(calendar::Entry {
            uid: format!("{}@almanac", self.id),
            summary: self.title.clone(),
            description: self.told().join("\n"),
            location: None,
            place: None,
            category: &self.provider,
            url: Some(self.link(origin)),
            starts,
            // Some end before they start; a calendar with such an event is refused whole.
            ends: ends.filter(|ends| *ends > starts),
            is_certain: self.listed,
            created: self.first_seen_at,
            changed: self.changed_at,
        })
    }

    fn item(&self, origin: &str) -> rss::Item {
        rss::Item {
            id: format!("urn:uuid:{}", self.id),
            title: self.title.clone(),
            link: self.link(origin),
            lines: self.told(),
            category: self.provider.clone(),
            published: self.first_seen_at,
            changed: self.changed_at,
        }
    }

    /// Where to buy, or where the plan is shown.
    fn link(&self, origin: &str) -> String {
        let is_of_the_web = |url: &&String| {
            let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
            scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
        };
        match self.url.as_ref().filter(is_of_the_web) {
            Some(url) => url.clone(),
            None => format!("{origin}/#/plans/{}", self.id),
        }
    }

    fn told(&self) -> Vec<String> {
        let until = self.ends_at.as_ref().map(|ends| format!(" until {}", spoken(ends)));
        let mut lines =
            vec![format!("{}{}, local time.", spoken(&self.starts_at), until.unwrap_or_default())];
        if let Some(low) = &self.min_price {
            let high = self.max_price.as_ref().filter(|high| high.get() != low.get());
            let high = high.map_or_else(String::new, |high| format!(" to {high}"));
            let currency = self.currency.as_ref().map(|currency| format!(" {currency}"));
            lines.push(format!("Price: {low}{high}{}.", currency.unwrap_or_default()));
        }
        if self.sold_out || self.capacity == 0 {
            lines.push("Sold out.".to_owned());
        } else if let Some(from) = &self.sell_from {
            let to = self.sell_to.as_ref().map(|to| format!(" until {}", spoken(to)));
            lines.push(format!("On sale from {}{}.", spoken(from), to.unwrap_or_default()));
        }
        if !self.listed {
            lines.push("It is no longer in its provider's feed.".to_owned());
        }
        lines.push(format!("Provider: {}.", self.provider));
        lines
    }
}

/// `2021-06-30 21:00` of a date-time with an offset.
fn spoken(time: &str) -> String {
    time.get(..16).unwrap_or(time).replace('T', " ")
}
