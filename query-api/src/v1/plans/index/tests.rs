//! The index is held against looking at every row: whatever is asked, both have the same answer.

use super::*;
use crate::{
    answers::UNCOUNTED,
    testing::{Installation, installation, list_plans},
    v1::{
        filter::{Filter, KNOWN},
        plans::{Plans, list, providers::LastSeen},
    },
};
use almanac_edge::query::Parameters;
use almanac_schemas::plans::LocalTimeRecord;
use almanac_tables::plans::StartKey;
use proptest::prelude::*;
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

const WORDS: [&str; 10] =
    ["Jazz", "jazzfest", "Fest", "festival", "Noche", "Café", "麻婆豆腐", "大show", "x", "Night"];
const PROVIDERS: [&str; 3] = ["fever", "a\\\"b", "other"];

/// A plan as tests make it: everything small, so that much is alike.
#[derive(Clone, Debug)]
struct Made {
    hour: i64,
    hours: Option<i64>,
    words: Vec<usize>,
    provider: usize,
    base: u8,
    organizer: Option<u8>,
    price: Option<(u8, u8)>,
    sale: (Option<i64>, Option<i64>, bool, u8),
    listed: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let words = prop::collection::vec(0..WORDS.len(), 0..4);
    let sale = (
        prop::option::of(-200_i64..200),
        prop::option::of(-200_i64..200),
        prop::bool::weighted(0.2),
        0_u8..3,
    );
    let labels = (0..PROVIDERS.len(), 0_u8..6, prop::option::of(0_u8..3));
    let times = (-200_i64..200, prop::option::of(0_i64..60));
    let price = prop::option::of((0_u8..20, 0_u8..9));
    (times, words, labels, price, sale, prop::bool::weighted(0.8)).prop_map(
        |((hour, hours), words, (provider, base, organizer), price, sale, listed)| Made {
            hour,
            hours,
            words,
            provider,
            base,
            organizer,
            price,
            sale,
            listed,
        },
    )
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second() / 3_600 * 3_600
}

fn time(hour: i64) -> String {
    jiff::Timestamp::from_second(now() + hour * 3_600).unwrap().to_string()
}

impl Made {
    fn plain(number: usize) -> Self {
        Self {
            hour: number as i64 / 100,
            hours: None,
            words: vec![0, 1],
            provider: 0,
            base: 1,
            organizer: None,
            price: Some((number as u8, 0)),
            sale: (None, None, false, 1),
            listed: true,
        }
    }

    /// Partition, clustering key and body of its row.
    fn row(&self, number: usize) -> (String, String, String) {
        let id = uuid::Uuid::from_u128(number as u128 * 7 % 64).to_string();
        let at = |hour: i64| LocalTimeRecord {
            unix_seconds: now() + hour * 3_600,
            utc_offset_seconds: 0,
        };
        let end = self.hours.map(|hours| self.hour + hours);
        let key = StartKey { id: &id, starts_at: at(self.hour), ends_at: end.map(at) };
        let title = self.words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" ");
        let (from, to, sold_out, capacity) = self.sale;
        let optional = |hour: Option<i64>| match hour {
            Some(hour) => format!("\"{}\"", time(hour)),
            None => "null".to_owned(),
        };
        let organizer = self.organizer.map_or("null".to_owned(), |one| format!("\"{one}\""));
        let prices = self.price.map(|(low, more)| (low, low + more));
        let price =
            |price: Option<u8>| price.map_or("null".to_owned(), |price| format!("{price}.50"));
        let mut body = String::new();
        write!(
            body,
            r#"{{"summary":{{"id":"{id}"}},"plan":{{"id":"{id}","provider":"{}","base_plan_id":"{}","organizer_id":{organizer},"title":"{title}","starts_at":"{}","ends_at":{},"sell_from":{},"sell_to":{},"sold_out":{sold_out},"capacity":{capacity},"min_price":{},"max_price":{},"listed":{},"last_seen_at":"2021-01-01T00:00:00.000Z"}}}}"#,
            PROVIDERS[self.provider].replace('\\', "\\\\").replace('"', "\\\""),
            self.base,
            time(self.hour),
            optional(end),
            optional(from),
            optional(to),
            price(prices.map(|(low, _)| low)),
            price(prices.map(|(_, high)| high)),
            self.listed,
        )
        .unwrap();
        (key.day(), key.clustering(), body)
    }
}

/// What a table should have, and writes it.
struct Written<'i> {
    installation: &'i Installation,
    places: BTreeMap<usize, (String, String)>,
    at: u64,
}

impl Written<'_> {
    /// Puts a plan where another of its number may have been, as a fold does, and names the days.
    async fn put(&mut self, number: usize, plan: &Made) {
        self.at += 1;
        let (plans, store) = (&self.installation.plans, &self.installation.store);
        let (day, clustering, body) = plan.row(number);
        let before = self.places.insert(number, (day.clone(), clustering.clone()));
        if let Some((old_day, old)) = before.filter(|(_, old)| *old != clustering) {
            store.delete(&plans.tables.by_start, &old_day, &old, self.at).await;
            plans.search.changed(&old_day);
        }
        store.put(&plans.tables.days, "days", &format!("{day}/0"), self.at, "{}").await;
        store.put(&plans.tables.by_start, &day, &clustering, self.at, &body).await;
        plans.search.changed(&day);
    }

    /// Until nothing that was said of changes is left to be loaded.
    async fn settle(&self) {
        let plans = &self.installation.plans;
        while plans.search.refresh_once().await.unwrap()
            || plans.search.index_some().await.unwrap()
            || !plans.index.is_ready()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A question, without its sort.
fn question() -> impl Strategy<Value = String> {
    let hour = || (-210_i64..210).prop_map(time);
    let one = prop_oneof![
        hour().prop_map(|time| format!("starts_from={time}")),
        hour().prop_map(|time| format!("starts_until={time}")),
        hour().prop_map(|time| format!("ends_until={}", time.replace(":00Z", ":00.5Z"))),
        (-210_i64..210, 1_i64..50).prop_map(|(from, hours)| {
            format!("overlaps_from={}&overlaps_until={}", time(from), time(from + hours))
        }),
        hour().prop_map(|time| format!("overlaps_from={time}")),
        (0..PROVIDERS.len()).prop_map(|one| {
            let name = PROVIDERS[one].replace('\\', "%5C").replace('"', "%22");
            format!("provider={name}&provider=nobody")
        }),
        (0_u8..7).prop_map(|one| format!("base_plan_id={one}")),
        (0_u8..4, 0_u8..4).prop_map(|(one, two)| format!("organizer_id={one}&organizer_id={two}")),
        (0_u128..70).prop_map(|id| format!("id={}", uuid::Uuid::from_u128(id))),
        prop::sample::select(vec![
            "ja",
            "fes",
            "jazz",
            "x",
            "cafe+n",
            "豆腐",
            "婆豆腐",
            "麻腐",
            "show",
            "zz"
        ])
        .prop_map(|words| format!("q={words}")),
        (0_u8..30).prop_map(|price| format!("min_price={price}.5")),
        (0_u8..30).prop_map(|price| format!("max_price={price}.50")),
        prop::sample::select(vec!["on", "over", "sold_out", "upcoming", "on&sale=upcoming"])
            .prop_map(|sale| format!("sale={sale}")),
        any::<bool>().prop_map(|listed| format!("listed={listed}")),
    ];
    let name = |one: &String| one.split('=').next().unwrap_or_default().to_owned();
    prop::collection::vec(one, 0..4).prop_map(move |mut parts| {
        parts.sort();
        parts.dedup_by_key(|one| name(one));
        let clash = parts.iter().any(|one| one.starts_with("overlaps_from") && one.contains('&'));
        parts.retain(|one| !clash || one.contains('&') || !one.starts_with("overlaps_from"));
        parts.join("&")
    })
}

/// All pages of both ways, as they are sent. Each goes on from a cursor of either.
async fn compare(written: &Written<'_>, query: &str, limit: usize) {
    let plans = &written.installation.plans;
    let filter = filter(query);
    let seen = LastSeen::from([("fever".to_owned(), "2031-01-01T00:00:00.000Z".to_owned())]);
    let text = |page: &list::Page| String::from_utf8(page.body.clone()).unwrap();
    let mut after: Option<String> = None;
    for number in 0.. {
        let snapshot = plans.index.snapshot().clone().unwrap();
        let indexed = list::indexed(plans, &snapshot, &filter, after.as_deref(), limit, &seen);
        let indexed = indexed.await.ok().unwrap();
        let scanned = list::looked_through(plans, &filter, after.as_deref(), limit, &seen);
        let scanned = scanned.await.ok().unwrap();
        assert_eq!(text(&indexed), text(&scanned), "{query} page {number}");
        // Rows that are not wanted may follow, which the index does not take for more.
        assert!(indexed.next.is_none() || scanned.next.is_some(), "{query} page {number}");
        let is_last = indexed.next.is_none();
        after = if number % 2 == 0 { scanned.next } else { indexed.next };
        if after.is_none() {
            return;
        }
        if is_last {
            assert_eq!(
                text(&indexed_page(plans, &filter, after.as_deref(), limit).await),
                "{\"items\":["
            );
        }
    }
}

async fn indexed_page(
    plans: &Plans,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> list::Page {
    let snapshot = plans.index.snapshot().clone().unwrap();
    list::indexed(plans, &snapshot, filter, after, limit, &LastSeen::new()).await.ok().unwrap()
}

fn filter(query: &str) -> Filter {
    Filter::parse(&Parameters::parse(Some(query), KNOWN).unwrap()).ok().unwrap()
}

/// Many plans of one day, and the index of them.
async fn many(plans: usize) -> Installation {
    let installation = installation().await;
    list_plans(&installation.plans, plans).await;
    Written { installation: &installation, places: BTreeMap::new(), at: 0 }.settle().await;
    installation
}

/// Pages that nobody takes make those of others shorter, and none of them is lost.
#[tokio::test]
async fn little_memory_makes_short_pages() {
    let installation = many(1_000).await;
    let plans = &installation.plans;
    let _others = plans.answers.part(64 << 20).unwrap();
    for query in ["", "sort=price", "sort=-price&q=plan", "sort=-start"] {
        let (mut found, mut pages, mut after) = (0, 0, None::<String>);
        loop {
            let page = indexed_page(plans, &filter(query), after.as_deref(), 500).await;
            assert!(page.body.len() <= UNCOUNTED + 1_000, "{}", page.body.len());
            found += String::from_utf8(page.body).unwrap().matches("\"title\":").count();
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, 1_000, "{query}: each is there once");
        assert!(pages > 4, "{query}: {pages}");
    }
}

/// A question costs what its most selective filter selects, however it is sorted.
#[tokio::test]
async fn few_are_found_among_many_by_looking_at_few() {
    const PLANS: usize = 5_000;
    let installation = many(PLANS).await;
    let snapshot = installation.plans.index.snapshot().clone().unwrap();
    for sort in ["start", "-start", "price", "-price"] {
        for (query, most) in [
            ("", 200),
            ("base_plan_id=77", 200),
            ("q=77", 500),
            ("q=plan+77&provider=p", 500),
            ("id=00000000-0000-0000-0000-000000000000", 200),
            ("min_price=4999.5", 400),
            ("max_price=3", 400),
            ("min_price=100&max_price=101&provider=p", 400),
            ("sale=over", 200),
            ("listed=false", 200),
            ("q=nothing", 200),
            ("provider=nobody", 200),
            ("overlaps_from=2031-07-01T00:00:00Z", 200),
            ("starts_until=2031-06-30T00:01:00Z", 400),
        ] {
            let filter = filter(&format!("{query}&sort={sort}"));
            let asked = Asked::of(&filter);
            let mut search = snapshot.search(&asked, None, 51);
            assert!(search.look(most), "{query} {sort}");
        }
    }
}

/// What does not fit is dropped, and lists are read from the tables.
#[tokio::test]
async fn an_index_that_does_not_fit_is_off() {
    let installation = many(1_000).await;
    let used = installation.plans.index.used_bytes();
    for (limit, is_off) in [(used / 10, true), (used / 2, true), (used * 2, false)] {
        let index = PlanIndex::new(limit, Handle::current());
        let day = |number: i32| {
            let body = |id: usize| Made::plain(id).row(id).2;
            let rows = (0..500).map(|id| almanac_read_store::Row {
                clustering: Made::plain(id).row(id).1,
                timestamp: 1,
                body: body(id).into(),
            });
            index.day(number, &rows.collect::<Vec<_>>())
        };
        index.put(vec![day(1)]);
        index.put(vec![day(2)]);
        while !index.is_off() && !index.is_ready() {
            index.complete();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(index.is_off(), is_off, "{limit} of {used}");
        assert_eq!(index.snapshot().is_none(), is_off);
        assert!(index.used_bytes() <= limit);
        index.put(vec![day(3)]);
        assert_eq!(index.is_off(), is_off, "once and for all");
    }
}

/// Who asks before every day is known is answered from the tables.
#[tokio::test]
async fn a_list_is_never_of_some_days() {
    let installation = installation().await;
    let plans = &installation.plans;
    assert!(!plans.search.index_some().await.unwrap(), "no days are known");
    assert!(plans.index.snapshot().is_none());
    list_plans(plans, 10).await;
    assert!(plans.search.index_some().await.unwrap());
    assert!(plans.index.snapshot().is_none(), "until the last one was looked for");
    Written { installation: &installation, places: BTreeMap::new(), at: 0 }.settle().await;
    assert!(plans.index.snapshot().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn answers_are_those_of_looking_at_every_row(
        first in prop::collection::vec(made(), 0..64),
        changes in prop::collection::vec((0_usize..64, made()), 0..40),
        batch in 1_usize..12,
        questions in prop::collection::vec((question(), prop::sample::select(vec!["start", "-start", "price", "-price"])), 8),
        limit in 1_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let installation = installation().await;
            let mut written = Written { installation: &installation, places: BTreeMap::new(), at: 0 };
            for (number, plan) in first.iter().enumerate() {
                written.put(number, plan).await;
            }
            installation.plans.search.load_days().await.unwrap();
            written.settle().await;
            let ask = async |written: &Written<'_>| {
                for (question, sort) in &questions {
                    compare(written, &format!("{question}&sort={sort}"), limit).await;
                }
            };
            ask(&written).await;
            // Changes between pages: as many segments as they make.
            for changes in changes.chunks(batch) {
                for (number, plan) in changes {
                    written.put(*number, plan).await;
                }
                written.settle().await;
                let (question, sort) = &questions[0];
                compare(&written, &format!("{question}&sort={sort}"), limit).await;
            }
            ask(&written).await;
        });
    }
}
