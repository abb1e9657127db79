//! Lists of plans without the index: every row of the days that may matter is looked at. The answers
//! are the same and take longer with every plan. This is the way until the index knows every day, and
//! where it does not fit into its memory.

use super::{Plans, plan_of};
use crate::{
    answers::Room,
    search::{cache::day_name, partition::day_of},
    v1::{
        filter::{Filter, PlanView, Sort},
        store_problem,
    },
};
use almanac_edge::{Problem, ProblemType};
use almanac_read_store::{Direction, ReadStore, Row, Slice, StoreResult, Table};
use futures::{Stream, TryStreamExt, stream};
use rust_decimal::Decimal;
use std::{collections::BTreeMap, pin::pin};

/// Rows that one request looks at; then the page ends, however short, with a cursor to go on.
const MAX_SCANNED: usize = 50_000;
/// A page by price follows from all rows within the times asked for: more are too many.
const MAX_SORTED: usize = 500_000;
/// Rows looked at before others have their turn.
const LOOKED_AT: usize = 100;
const AHEAD: usize = 8;
/// Rows of a day that are read at once.
const PART: usize = 500;

/// The page behind a cursor's key.
pub(super) async fn page(
    state: &Plans,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, Problem> {
    match filter.sort {
        Sort::Start => by_start(state, filter, after, limit).await,
        Sort::Price => by_price(state, filter, after, limit, MAX_SORTED).await,
    }
}

pub(super) struct Page {
    pub(super) items: Vec<String>,
    pub(super) next: Option<String>,
    /// Memory for it.
    pub(super) room: Room,
}

/// Start and id: where a page by start ends. Clustering keys begin with both.
pub(super) fn start_and_id(clustering: &str) -> &str {
    let end = clustering.match_indices('/').nth(1).map_or(clustering.len(), |(at, _)| at);
    &clustering[..end]
}

/// Partitions of the index whose starts may lie between two instants, both inclusive.
fn day_partitions(state: &Plans, low: i64, high: i64) -> Vec<String> {
    let shelves = state.search.shelves();
    shelves.days(day_of(low), day_of(high)).iter().map(|day| day_name(*day)).collect()
}

/// The plan of a row, if the filter accepts it.
fn accepted<'a>(row: &'a Row, filter: &Filter) -> Option<&'a str> {
    let text = plan_of(row)?;
    let plan: PlanView<'_> = serde_json::from_str(text).ok()?;
    filter.accepts(&plan).then_some(text)
}

async fn by_start(
    state: &Plans,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, Problem> {
    let (mut low, mut high) = filter.start_range();
    if let Some(start) =
        after.and_then(|key| key.get(..20)).and_then(|at| at.parse::<jiff::Timestamp>().ok())
    {
        if filter.descending {
            high = high.min(start.as_second());
        } else {
            low = low.max(start.as_second());
        }
    }
    let mut days = day_partitions(state, low, high);
    let mut slice = Slice { limit: PART, ..Slice::all() };
    if filter.descending {
        days.reverse();
        slice.direction = Direction::Descending;
    }
    let mut parts = pin!(parts(&*state.store, &state.tables.by_start, days, &slice));
    let mut page = Page { items: Vec::new(), next: None, room: state.answers.page() };
    let mut scanned = 0;
    let mut last = None;
    while let Some(rows) = parts.try_next().await.map_err(|error| store_problem(&error))? {
        for rows in rows.chunks(LOOKED_AT) {
            let look = || {
                for row in rows {
                    let key = start_and_id(&row.clustering);
                    let is_passed = |after| match filter.descending {
                        true => key >= after,
                        false => key <= after,
                    };
                    if after.is_some_and(is_passed) {
                        continue;
                    }
                    // One more than the page holds was found, or enough was looked at: it goes on
                    // there.
                    let text = accepted(row, filter);
                    let is_full = page.items.len() == limit || scanned >= MAX_SCANNED;
                    if is_full || text.is_some_and(|text| !page.room.add(text.len() + 1)) {
                        page.next = last.take();
                        return true;
                    }
                    scanned += 1;
                    last = Some(key.to_owned());
                    page.items.extend(text.map(str::to_owned));
                }
                false
            };
            if state.look(look).await {
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// The rows of days, one day after the other, in parts: a day may have very many.
fn parts<'a>(
    store: &'a dyn ReadStore,
    table: &'a Table,
    days: Vec<String>,
    slice: &'a Slice,
) -> impl Stream<Item = StoreResult<Vec<Row>>> + 'a {
    let first_parts = store.slices(table, days, slice, AHEAD);
    let all_parts = first_parts.map_ok(move |(day, first)| {
        stream::try_unfold((day, Some(first)), move |(day, part)| async move {
            let Some(part) = part else { return Ok(None) };
            let next = match part.last() {
                Some(last) if part.len() == slice.limit => {
                    let behind = behind(&last.clustering, slice);
                    Some(store.slice(table, &day, &behind).await?)
                }
                _ => None,
            };
            Ok(Some((part, (day, next))))
        })
    });
    all_parts.try_flatten()
}

/// The same slice from behind a row on.
fn behind(clustering: &str, slice: &Slice) -> Slice {
    match slice.direction {
        // No key has this character.
        Direction::Ascending => Slice { from: Some(format!("{clustering}\u{1}")), ..slice.clone() },
        Direction::Descending => Slice { until: Some(clustering.to_owned()), ..slice.clone() },
    }
}

/// Price first, those without one last in either direction, then id. It looks at everything that
/// the filters' times allow, `most` rows, and keeps one page.
async fn by_price(
    state: &Plans,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
    most: usize,
) -> Result<Page, Problem> {
    type Key = (bool, Decimal, String);
    let bad_cursor = || Problem::new(ProblemType::BadCursor, "it does not fit the sort order");
    let after: Option<Key> = match after {
        None => None,
        Some(text) => {
            let (price, id) = text.split_once('/').ok_or_else(bad_cursor)?;
            let price: Option<Decimal> = match price {
                "-" => None,
                price => Some(price.parse().map_err(|_| bad_cursor())?),
            };
            Some((price.is_none(), signed(price, filter.descending), id.to_owned()))
        }
    };
    let (low, high) = filter.start_range();
    let days = day_partitions(state, low, high);
    let slice = Slice { limit: PART, ..Slice::all() };
    let mut parts = pin!(parts(&*state.store, &state.tables.by_start, days, &slice));
    let mut best: BTreeMap<Key, (Option<Decimal>, String)> = BTreeMap::new();
    let (mut room, mut sorted) = (state.answers.page(), 0);
    // The least that found no room: what comes behind it is behind the page.
    let mut cut: Option<Key> = None;
    while let Some(rows) = parts.try_next().await.map_err(|error| store_problem(&error))? {
        sorted += rows.len();
        if sorted > most {
            let detail = format!(
                "more than {most} plans are too many to sort by price: narrow the times with \
                 starts_from and starts_until"
            );
            return Err(Problem::new(ProblemType::BadRequest, detail));
        }
        for rows in rows.chunks(LOOKED_AT) {
            let look = || {
                'rows: for row in rows {
                    let Some(text) = plan_of(row) else { continue };
                    let Ok(plan) = serde_json::from_str::<PlanView<'_>>(text) else { continue };
                    let price = plan.min_price();
                    let signed = signed(price, filter.descending);
                    let key = (price.is_none(), signed, plan.id.to_string());
                    let is_outside = after.as_ref().is_some_and(|after| key <= *after)
                        || cut.as_ref().is_some_and(|cut| key >= *cut);
                    if is_outside || !filter.accepts(&plan) {
                        continue;
                    }
                    while best.len() == limit || !room.add(text.len() + 1) {
                        // The last one makes room, unless this would be the last.
                        if best.last_key_value().is_none_or(|(last, _)| *last < key) {
                            cut = Some(key);
                            continue 'rows;
                        }
                        let Some((last, (_, text))) = best.pop_last() else { continue 'rows };
                        room.remove(text.len() + 1);
                        cut = Some(last);
                    }
                    best.insert(key, (price, text.to_owned()));
                }
            };
            state.look(look).await;
        }
    }
    let next =
        best.last_key_value().filter(|_| cut.is_some()).map(
            |((_, _, id), (price, _))| match price {
                Some(price) => format!("{price}/{id}"),
                None => format!("-/{id}"),
            },
        );
    Ok(Page { items: best.into_values().map(|(_, text)| text).collect(), next, room })
}

fn signed(price: Option<Decimal>, descending: bool) -> Decimal {
    let price = price.unwrap_or_default();
    if descending { -price } else { price }
}
/// Keeps the page format honest: keys of the index begin with start and id.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answers::UNCOUNTED,
        testing::{installation, list_plans},
        v1::filter::KNOWN,
    };
    use almanac_edge::query::Parameters;
    use almanac_read_store::{Change, Write, embedded::EmbeddedStore};
    use almanac_schemas::plans::LocalTimeRecord;
    use almanac_tables::plans::StartKey;

    #[test]
    fn pages_end_at_start_and_id() {
        let starts_at = LocalTimeRecord { unix_seconds: 1_625_079_600, utc_offset_seconds: 7_200 };
        let key = StartKey { id: "0a", starts_at, ends_at: None }.clustering();
        assert_eq!(start_and_id(&key), "2021-06-30T19:00:00Z/0a");
    }

    #[tokio::test]
    async fn days_are_read_whole_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), 1 << 20).unwrap();
        let table = Table::new("days", 1).unwrap();
        store.create_table(&table).await.unwrap();
        let days = [("1", 2 * PART + 7), ("2", 0), ("3", PART), ("4", 1)];
        let mut expected = Vec::new();
        for (day, rows) in days {
            let keys: Vec<String> = (0..rows).map(|row| format!("{day}/{row:06}")).collect();
            let write = |key: &String| {
                let (partition, clustering) = (day.to_owned(), key.clone());
                let change = Change::Put { partition, clustering, timestamp: 1, body: "{}".into() };
                Write { table: table.clone(), change }
            };
            store.write(keys.iter().map(write).collect()).await.unwrap();
            expected.extend(keys);
        }
        let names = days.map(|(day, _)| day.to_owned());
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut names = names.to_vec();
            if direction == Direction::Descending {
                names.reverse();
                expected.reverse();
            }
            let slice = Slice { limit: PART, direction, ..Slice::all() };
            let read: Vec<Vec<Row>> =
                parts(&store, &table, names, &slice).try_collect().await.unwrap();
            assert!(read.iter().all(|part| part.len() <= PART));
            let keys: Vec<String> = read.into_iter().flatten().map(|row| row.clustering).collect();
            assert_eq!(keys, expected, "{direction:?}");
        }
    }

    /// How often others could have had their turn while a page was put together.
    async fn turns_of(page: impl Future<Output = Result<Page, Problem>>) -> (usize, Page) {
        let (mut page, mut turns) = (pin!(page), 0);
        let page = std::future::poll_fn(|context| {
            turns += 1;
            page.as_mut().poll(context)
        });
        let page = page.await;
        (turns, page.expect("a page"))
    }

    fn filter(query: &str) -> Filter {
        Filter::parse(&Parameters::parse(Some(query), KNOWN).unwrap()).ok().unwrap()
    }

    #[tokio::test]
    async fn scans_stop_for_others() {
        const PLANS: usize = 5_000;
        let installation = installation().await;
        let state = &installation.plans;
        list_plans(state, PLANS).await;
        let filter = filter("q=nothing");
        let (turns, page) = turns_of(by_start(state, &filter, None, 50)).await;
        assert_eq!((page.items.len(), page.next), (0, None));
        assert!(turns > PLANS / LOOKED_AT, "{turns}");
        let (turns, page) = turns_of(by_price(state, &filter, None, 50, PLANS)).await;
        assert_eq!((page.items.len(), page.next), (0, None));
        assert!(turns > PLANS / LOOKED_AT, "{turns}");
    }

    #[tokio::test]
    async fn what_is_sorted_by_price_is_bounded() {
        let installation = installation().await;
        let state = &installation.plans;
        list_plans(state, 1_000).await;
        let all = filter("");
        let page = by_price(state, &all, None, 50, 1_000).await.ok().unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (50, true));
        let refused = by_price(state, &all, None, 50, 999).await.err().unwrap();
        assert_eq!(refused.status(), 400);
        assert!(refused.detail().contains("starts_from"), "{}", refused.detail());
    }

    /// Pages that nobody takes make those of others shorter, and none of them is lost.
    #[tokio::test]
    async fn little_memory_makes_short_pages() {
        const PLANS: usize = 1_000;
        let installation = installation().await;
        let state = &installation.plans;
        list_plans(state, PLANS).await;
        let _others = state.answers.part(64 << 20).unwrap();
        let query = filter("");
        for sort in [Sort::Start, Sort::Price] {
            let (mut found, mut pages, mut after) = (Vec::new(), 0, None::<String>);
            loop {
                let page = match sort {
                    Sort::Start => by_start(state, &query, after.as_deref(), 500).await,
                    Sort::Price => by_price(state, &query, after.as_deref(), 500, PLANS).await,
                };
                let page = page.ok().unwrap();
                let bytes: usize = page.items.iter().map(String::len).sum();
                assert!(bytes <= UNCOUNTED + 1_000, "{bytes}");
                found.extend(page.items);
                pages += 1;
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            found.sort();
            found.dedup();
            assert_eq!(found.len(), PLANS, "{sort:?}: each is there");
            assert!(pages > 4, "{sort:?}: {pages}");
        }
    }
}
