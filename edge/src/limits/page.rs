//! `GET /v1/limits`: the caller's limits, for programs as JSON and for people as a page.

use super::{Class, LimitOptions, Limits, Rate, days, fields, share};
use crate::{
    Identity, Party, Problem, Routes, cors, method_not_allowed, openapi::Fragment,
    openapi_fragment, query::Parameters,
};
use axum::{
    body::Body,
    extract::{Request, State},
    middleware,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use std::sync::Arc;

pub(super) const PATH: &str = "/v1/limits";

/// What the page is made of.
#[derive(Clone)]
pub struct Documented {
    pub identity: Arc<Identity>,
    pub limits: Option<Arc<Limits>>,
}

pub const OPENAPI: Fragment = openapi_fragment!("openapi.json");

/// The one route.
pub fn routes(documented: Documented) -> Routes {
    let origins = cors::Origins::of(&documented.identity);
    Routes::new().get(PATH, page).map(|router| {
        router
            .method_not_allowed_fallback(method_not_allowed)
            .route_layer(middleware::from_fn_with_state(origins, cors::writes))
            .with_state(documented)
    })
}

#[derive(Serialize)]
struct Page {
    caller: CallerView,
    /// Live instances; each enforces its share.
    instances: u32,
    classes: Vec<ClassView>,
    concurrency: Option<ConcurrencyView>,
    /// Where to ask for more.
    contact: Option<String>,
}

#[derive(Serialize)]
struct CallerView {
    by: &'static str,
    name: Option<String>,
}

#[derive(Serialize)]
struct ClassView {
    name: &'static str,
    operations: &'static str,
    /// Of all instances together; null where nothing is limited.
    limit: Option<LimitView>,
    /// Of the instance that answers.
    here: Option<HereView>,
}

#[derive(Serialize)]
struct LimitView {
    rate: f64,
    burst: u32,
    window_s: u64,
    per_day: Option<u64>,
}

#[derive(Serialize)]
struct HereView {
    #[serde(flatten)]
    limit: LimitView,
    remaining: u32,
    full_in_s: u64,
    remaining_today: Option<u64>,
    day_ends_in_s: Option<u64>,
}

#[derive(Serialize)]
struct ConcurrencyView {
    all: Option<usize>,
    per_caller: Option<usize>,
}

impl LimitView {
    fn of(rate: Rate) -> Self {
        let Rate { rate: per_second, burst, per_day } = rate;
        Self { rate: per_second, burst, window_s: fields::window_s(&rate), per_day }
    }
}

impl LimitOptions {
    fn rate(&self, class: Class) -> Option<Rate> {
        match class {
            Class::Search => self.search,
            Class::Read => self.read,
            Class::Write => self.write,
        }
    }
}

impl Limits {
    fn view(&self, class: Class, caller: u64) -> ClassView {
        let rate = self.options.rate(class);
        let here = rate.zip(self.limited(class)).map(|(rate, limited)| {
            let remaining = limited.buckets.left(caller);
            let day = limited.days.as_ref().map(|days| days.left(caller, days::now()));
            HereView {
                limit: LimitView::of(share(rate, self.options.instances)),
                remaining,
                full_in_s: fields::seconds(limited.buckets.full_in(remaining)),
                remaining_today: day.map(|day| day.requests),
                day_ends_in_s: day.map(|day| day.reset_s),
            }
        });
        let (name, operations) = (class.name(), class.operations());
        ClassView { name, operations, limit: rate.map(LimitView::of), here }
    }
}

impl Documented {
    fn describe(&self, caller: &Party) -> Page {
        let none = LimitOptions::default();
        let options = self.limits.as_ref().map_or(&none, |limits| &limits.options);
        let bound = |most: usize| (most > 0).then_some(most);
        let (all, per_caller) = (bound(options.concurrency), bound(options.concurrency_per_caller));
        let classes = Class::ALL.map(|class| match &self.limits {
            Some(limits) => limits.view(class, limits.key(caller)),
            None => {
                let (name, operations) = (class.name(), class.operations());
                ClassView { name, operations, limit: None, here: None }
            }
        });
        let caller = match caller {
            Party::Subject(name) => CallerView { by: "subject", name: Some(name.clone()) },
            Party::Network(address) => {
                CallerView { by: "address", name: Some(address.to_string()) }
            }
            Party::Unknown => CallerView { by: "address", name: None },
        };
        Page {
            caller,
            instances: options.instances,
            classes: classes.into(),
            concurrency: (all.is_some() || per_caller.is_some())
                .then_some(ConcurrencyView { all, per_caller }),
            contact: options.contact.clone(),
        }
    }
}

async fn page(State(documented): State<Documented>, request: Request) -> Result<Response, Problem> {
    Parameters::parse(request.uri().query(), &[])?;
    let headers = request.headers();
    documented.identity.prepare(headers).await;
    // A token that is not good is told here, rather than answered with the limits of its address.
    if headers.contains_key(header::AUTHORIZATION) {
        documented.identity.caller(headers)?;
    }
    let page = documented.describe(&documented.identity.party(headers));
    let (kind, body) = match wants_html(headers) {
        true => ("text/html; charset=utf-8", page.html()),
        false => ("application/json", serde_json::to_string(&page).unwrap_or_default()),
    };
    let mut response = Body::from(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Authorization"));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// Browsers name HTML, programs do not.
fn wants_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = values.flat_map(|value| value.split(',')).map(|kind| kind.trim());
    kinds.any(|kind| kind.starts_with("text/html"))
}

impl Page {
    fn html(&self) -> String {
        let mut rows = String::new();
        for class in &self.classes {
            let cells = match (&class.limit, &class.here) {
                (Some(limit), Some(here)) => {
                    let day = limit.per_day.map_or("any number".to_owned(), |day| day.to_string());
                    format!(
                        "<td>{} a second<td>{}<td>{day}<td>{} of {}",
                        limit.rate, limit.burst, here.remaining, here.limit.burst
                    )
                }
                _ => "<td>not limited<td><td><td>".to_owned(),
            };
            rows += &format!("<tr><th>{}<td>{}{cells}", class.name, class.operations);
        }
        let caller = escaped(self.caller.name.as_deref().unwrap_or("unknown"));
        let instances = match self.instances {
            1 => String::new(),
            n => format!("<p>There are {n} instances; each enforces a share of 1/{n}."),
        };
        let contact = self
            .contact
            .as_deref()
            .map_or(String::new(), |contact| format!("<p>To ask for more: {}", escaped(contact)));
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Limits</title>\
             <style>body{{font:16px/1.5 system-ui;margin:2rem}}td,th{{padding:.2rem 1rem;\
             text-align:left}}</style><h1>Limits</h1><p>Of the {} {caller}. Beyond a limit, answers \
             are 429 with Retry-After.<table><tr><th>class<th>operations<th>rate<th>at once after a \
             pause<th>a day<th>left here{rows}</table>{instances}{contact}</html>",
            self.caller.by
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityOptions;

    fn documented(options: LimitOptions) -> Documented {
        let identity = Arc::new(Identity::new(IdentityOptions::default()).unwrap());
        Documented { identity, limits: Limits::new(options).map(Arc::new) }
    }

    #[test]
    fn a_caller_sees_limits_and_shares() {
        let read = Some(Rate { rate: 500.0, burst: 1_000, per_day: Some(10_000) });
        let contact = Some("<limits@example.org>".to_owned());
        let documented = documented(LimitOptions {
            read,
            instances: 2,
            concurrency: 64,
            contact,
            ..LimitOptions::default()
        });
        let caller = Party::Subject("mary <script>".to_owned());
        let limits = documented.limits.as_ref().unwrap();
        limits.take(Class::Read, limits.key(&caller)).ok().unwrap();
        let page = serde_json::to_value(documented.describe(&caller)).unwrap();
        assert_eq!(page["caller"]["by"], "subject");
        assert_eq!(page["instances"], 2);
        assert_eq!(page["concurrency"]["all"], 64);
        assert!(page["classes"][0]["limit"].is_null(), "search");
        let read = &page["classes"][1];
        assert_eq!((&read["name"], &read["limit"]["rate"]), (&"read".into(), &500.0.into()));
        assert_eq!((&read["here"]["rate"], &read["here"]["burst"]), (&250.0.into(), &500.into()));
        assert_eq!(read["here"]["remaining"], 499);
        assert_eq!(read["here"]["remaining_today"], 4_999);
        let html = documented.describe(&caller).html();
        assert!(html.contains("mary &lt;script>") && html.contains("&lt;limits@"), "{html}");
        assert!(html.contains("499 of 500"), "{html}");
    }

    #[test]
    fn without_limits_the_page_says_so() {
        let page = documented(LimitOptions::default()).describe(&Party::Unknown);
        let page = serde_json::to_value(page).unwrap();
        let classes = page["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 3);
        assert!(classes.iter().all(|class| class["limit"].is_null()));
    }

    #[test]
    fn browsers_get_html() {
        let accept = |value: &'static str| {
            HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
        };
        assert!(wants_html(&accept("text/html,application/xhtml+xml,*/*;q=0.8")));
        assert!(!wants_html(&accept("application/json")) && !wants_html(&accept("*/*")));
        assert!(!wants_html(&HeaderMap::new()));
    }
}
