//! The demonstration providers of `almanac up`: a feed on loopback that lists, changes and delists
//! plans, and fails now and then, so that a newcomer sees all of it within a minute; and forecasts.

mod weather;

use almanac_ingestor::config::{IngestOptions, ProviderConfig, ProviderKind};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use jiff::{ToSpan, Zoned, civil::Date};
use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const FEED_1: &str = include_str!("../demo/feed-1.xml");
const FEED_2: &str = include_str!("../demo/feed-2.xml");
/// Generated plans stand before it.
const END: &str = "</output>";
const GENERATED_PLANS: u64 = 3_000;
/// How often the generated feed changes.
const TICK: Duration = Duration::from_secs(5);

struct Demo {
    requests: AtomicU64,
    started: Instant,
    /// Of the generated plans.
    first_month: Date,
}

/// Two months before today's, so that some plans are over and most are ahead.
fn first_month(today: Date) -> Date {
    today.first_of_month().saturating_sub(2.months())
}

/// A free port of loopback, and what serves it.
pub(crate) async fn start(
    shutdown: CancellationToken,
) -> anyhow::Result<(SocketAddr, impl Future<Output = ()>)> {
    let (listener, address) = almanac_edge::bind("127.0.0.1:0").await?;
    let demo = Arc::new(Demo {
        requests: AtomicU64::new(0),
        started: Instant::now(),
        first_month: first_month(Zoned::now().date()),
    });
    let router = Router::new().route("/plans.xml", get(feed)).merge(weather::router());
    let router = router.with_state(demo);
    Ok((address, almanac_edge::serve(listener, router, Default::default(), shutdown)))
}

/// How `almanac up` asks them.
pub(crate) fn providers(address: SocketAddr) -> Vec<ProviderConfig> {
    let feed = provider("demo", ProviderKind::FeverPlans, format!("http://{address}/plans.xml"));
    let mut providers = vec![feed];
    providers.extend(weather::providers(address, provider));
    providers
}

/// Fetched more often than anything real.
fn provider(name: &str, kind: ProviderKind, url: String) -> ProviderConfig {
    ProviderConfig {
        name: name.to_owned(),
        kind,
        url: url.into(),
        timezone: "Europe/Madrid".to_owned(),
        interval: Duration::from_secs(2),
        max_interval: Duration::from_secs(20),
        freshness: Duration::from_secs(30),
        priority: 1,
        currency: Some("EUR".to_owned()),
        url_template: Some("https://tickets.example/{base_plan_id}/{plan_id}".to_owned()),
        headers: Default::default(),
        header_files: Default::default(),
        allow_redirects_to_other_hosts: false,
        obey_cache_headers: false,
        paused: false,
        forecasts: Default::default(),
    }
}

pub(crate) fn options(options: IngestOptions) -> IngestOptions {
    IngestOptions {
        backoff: Duration::from_millis(500),
        breaker_failures: 3,
        breaker_pause: Duration::from_secs(4),
        ..options
    }
}

async fn feed(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> Response {
    let request = demo.requests.fetch_add(1, Ordering::Relaxed);
    // A single failure, later enough in a row to open the breaker, then now and then.
    let fails = matches!(request, 5 | 12..=15) || (request > 20 && request % 9 == 0);
    if fails {
        return (StatusCode::SERVICE_UNAVAILABLE, "the demonstration fails on purpose\n")
            .into_response();
    }
    let (sample, plans) = if request < 2 { (1, FEED_1) } else { (2, FEED_2) };
    let tick = demo.started.elapsed().as_secs() / TICK.as_secs();
    let tag = format!("\"sample-{sample}-tick-{tick}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let kind = "application/xml".to_owned();
    let body = with_generated(plans, tick, demo.first_month);
    ([(header::CONTENT_TYPE, kind), (header::ETAG, tag)], body).into_response()
}

const ARTISTS: [&str; 12] = [
    "Camela en concierto",
    "Pantomima Full",
    "Los Morancos",
    "Orquesta de Cámara",
    "Noche de Jazz",
    "Ópera en la Plaza",
    "Flamenco íntimo",
    "Improvisación",
    "Cine de Verano",
    "Danza Española",
    "Magia para Todos",
    "Monólogos",
];
const ZONES: [&str; 3] = ["Platea", "Amfiteatre", "Grada 2"];

/// The plans of a sample, and generated ones of two years from `first_month` on. These change a little
/// with every tick: capacities fall, some are missing for a while.
fn with_generated(sample: &str, tick: u64, first_month: Date) -> String {
    let (before, after) = sample.split_once(END).unwrap_or((sample, ""));
    let mut out = String::with_capacity(sample.len() + GENERATED_PLANS as usize * 420);
    out.push_str(before);
    for plan in 0..GENERATED_PLANS {
        let mut random = mix(plan);
        // One in two hundred is away during any tick.
        if (plan + tick).is_multiple_of(200) {
            continue;
        }
        let (months, day, hour) = ((plan % 24) as i64, (random % 28) as i64, 17 + random / 28 % 5);
        let date = first_month.saturating_add(months.months()).saturating_add(day.days());
        let title = ARTISTS[(random % 12) as usize];
        let _ = write!(
            out,
            "<base_plan base_plan_id=\"g{plan}\" sell_mode=\"online\" organizer_company_id=\"{}\" title=\"{title} {plan}\">\
             <plan plan_id=\"{plan}\" plan_start_date=\"{date}T{hour}:00:00\" \
             plan_end_date=\"{date}T{}:30:00\" sell_from=\"{first_month}T00:00:00\" \
             sell_to=\"{date}T16:00:00\" sold_out=\"false\">",
            plan % 40,
            hour + 1,
        );
        for (zone, name) in ZONES.iter().enumerate() {
            random = mix(random);
            // One plan in a hundred sells with every tick.
            let sold = if plan % 100 == tick % 100 { tick % 50 } else { plan % 7 };
            let _ = write!(
                out,
                "<zone zone_id=\"{}\" capacity=\"{}\" price=\"{}.00\" name=\"{name}\" numbered=\"{}\"/>",
                plan * 3 + zone as u64,
                60 - sold,
                10 + random % 60,
                zone == 0,
            );
        }
        out.push_str("</plan></base_plan>\n");
    }
    out.push_str(END);
    out.push_str(after);
    out
}

/// SplitMix64: the same numbers everywhere, for ever.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_newcomer_meets_plans_of_these_weeks() {
        let today = date(2031, 1, 31);
        let body = with_generated(FEED_1, 3, first_month(today));
        assert_eq!(body.matches(END).count(), 1);
        assert!(body.contains("Camela en concierto\">"), "the sample's own plans are in it");
        let starts = body.split("plan_start_date=\"").skip(1);
        let dates = starts.filter_map(|rest| rest.get(..10)?.parse::<Date>().ok());
        let soon = dates.filter(|date| *date >= today && *date < today.saturating_add(7.days()));
        assert!(soon.count() > 10, "the coming week has plans");
    }
}
