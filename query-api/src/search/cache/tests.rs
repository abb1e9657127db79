use super::*;
use almanac_read_store::{Part, Row, Scanned, Table, Write};
use futures::stream::BoxStream;

#[test]
fn days_have_numbers() {
    for number in [-719_162, -1, 0, 18_808, 2_932_896] {
        assert_eq!(day_number(&day_name(number)), Some(number));
    }
    assert_eq!(day_number("days"), None);
}

#[test]
fn the_index_rests_while_more_changes_come() {
    let began = Instant::now();
    let after = |ms: u64| began + Duration::from_millis(ms);
    let mut pace = Pace { changed: began, next: began };
    assert!(pace.wait(began).is_zero(), "the first change is followed at once");
    pace.followed(began, after(100));
    pace.changed = after(100);
    assert_eq!(pace.wait(after(200)), QUIET - Duration::from_millis(100));
    pace.changed = after(500);
    assert_eq!(pace.wait(after(500)), after(100) + RESTS * Duration::from_millis(100) - after(500));
    pace.changed = after(800);
    assert!(pace.wait(after(800)).is_zero(), "it has its turn however many changes come");
}

/// Answers with an empty day once it is let, and counts.
struct Gated {
    gate: Semaphore,
    asked: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait::async_trait]
impl ReadStore for Gated {
    async fn slice(&self, _: &Table, _: &str, _: &Slice) -> StoreResult<Vec<Row>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        let _gate = self.gate.acquire().await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    async fn create_table(&self, _: &Table) -> StoreResult<()> {
        unreachable!("the cache only reads")
    }

    async fn tables(&self) -> StoreResult<Vec<Table>> {
        unreachable!("the cache only reads")
    }

    async fn table_id(&self, _: &Table) -> StoreResult<uuid::Uuid> {
        unreachable!("the cache only reads")
    }

    async fn drop_table(&self, _: &Table) -> StoreResult<()> {
        unreachable!("the cache only reads")
    }

    async fn write(&self, _: Vec<Write>) -> StoreResult<()> {
        unreachable!("the cache only reads")
    }

    async fn get(&self, _: &Table, _: &str, _: &str) -> StoreResult<Option<Row>> {
        unreachable!("the cache reads whole days")
    }

    fn scan(&self, _: &Table, _: Part) -> BoxStream<'static, StoreResult<Scanned>> {
        unreachable!("the cache reads whole days")
    }
}

/// What the store was asked, and at most at once, by these requests for days that exist.
async fn asked_for(days: impl Iterator<Item = i32>) -> (usize, usize) {
    let store = Arc::new(Gated {
        gate: Semaphore::new(0),
        asked: AtomicUsize::new(0),
        under_way: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let tables = Tables::of(almanac_tables::plans::VERSION).unwrap();
    let index = PlanIndex::new(1 << 20, tokio::runtime::Handle::current());
    let cache = Arc::new(SearchCache::new(store.clone(), tables, 1 << 20, index));
    let days: Vec<i32> = days.collect();
    cache.change(|shelves| shelves.with_days(days.clone()));
    let requests: Vec<_> = days
        .into_iter()
        .map(|day| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(day).await.unwrap() })
        })
        .collect();
    // On this one thread, all of them have come as far as they can.
    tokio::task::yield_now().await;
    store.gate.add_permits(Semaphore::MAX_PERMITS);
    for request in requests {
        request.await.unwrap();
    }
    (store.asked.load(Ordering::SeqCst), store.most.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_day_that_many_want_is_loaded_once() {
    assert_eq!(asked_for(std::iter::repeat_n(7, 50)).await, (1, 1));
}

#[tokio::test]
async fn a_bounded_number_of_days_is_loaded_at_once() {
    assert_eq!(asked_for(0..100).await, (100, LOADS as usize));
}

/// Whoever tells others that a change is shown waits until searches and lists do.
#[tokio::test]
async fn a_change_is_shown_once_its_day_is_loaded_again() {
    let store = Arc::new(Gated {
        gate: Semaphore::new(Semaphore::MAX_PERMITS),
        asked: AtomicUsize::new(0),
        under_way: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let tables = Tables::of(almanac_tables::plans::VERSION).unwrap();
    let index = PlanIndex::new(1 << 20, tokio::runtime::Handle::current());
    let cache = SearchCache::new(store.clone(), tables, 1 << 20, index);
    let is_shown = async || {
        let shown = tokio::time::timeout(Duration::from_millis(1), cache.shown());
        shown.await.is_ok()
    };
    assert!(is_shown().await, "nothing has changed");
    cache.get(7).await.unwrap();
    cache.changed(&day_name(7));
    assert!(!is_shown().await);
    cache.changed(&day_name(8));
    cache.refresh_once().await.unwrap();
    // The other is in nobody's memory.
    assert!(is_shown().await, "lists are made of rows as long as there is no index");
    cache.load_days().await.unwrap();
    while !cache.index.is_ready() {
        cache.index_some().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cache.changed(&day_name(8));
    assert!(!is_shown().await, "it is indexed");
    let (is_some, ()) = tokio::join!(cache.index_some(), cache.shown());
    assert!(is_some.unwrap());
    // What comes meanwhile is waited for by who asks then.
    cache.changed(&day_name(7));
    let awaiting = cache.shown();
    tokio::pin!(awaiting);
    assert!(futures::poll!(&mut awaiting).is_pending());
    cache.refresh_once().await.unwrap();
    cache.index_some().await.unwrap();
    cache.changed(&day_name(8));
    awaiting.await;
}
