//! Limits of what one caller may ask for, and of what is answered at once.
//!
//! Each class of operations has a token bucket per caller and, where configured, a quota per day.
//! Instances do not know of each other's callers: each enforces its share, the limit divided by the
//! number of instances.

mod at_once;
mod bucket;
mod days;
mod fields;
mod page;
mod shedding;

pub(crate) use at_once::Place;
pub(crate) use fields::Taken;
pub use page::{Documented, OPENAPI, routes};

use crate::Party;
use at_once::{AtOnce, Full};
use bucket::Buckets;
use days::Days;
use governor::clock::{Clock, MonotonicClock};
use http::Method;
use shedding::Shedding;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

/// What requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Search,
    Read,
    Write,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::Search, Self::Read, Self::Write];

    /// Probes, metrics, documents, preflights and the page about limits are in no class.
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        match *method {
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Some(Self::Write),
            Method::OPTIONS => None,
            _ if path == SEARCH => Some(Self::Search),
            _ if path.starts_with("/v1/") && path != page::PATH => Some(Self::Read),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// The operations of the class, for people.
    fn operations(self) -> &'static str {
        match self {
            Self::Search => "GET /search",
            Self::Read => "all other reads under /v1",
            Self::Write => "POST, PUT, PATCH and DELETE",
        }
    }
}

pub(crate) const SEARCH: &str = "/search";

/// The limit of a class for one caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests a second, on the average.
    pub rate: f64,
    /// Requests at once after a pause.
    pub burst: u32,
    pub per_day: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct LimitOptions {
    pub search: Option<Rate>,
    pub read: Option<Rate>,
    pub write: Option<Rate>,
    /// Live instances that share the limits.
    pub instances: u32,
    /// Callers remembered per class.
    pub callers: usize,
    /// Requests answered at once, in all and of one caller; 0 sets no bound.
    pub concurrency: usize,
    pub concurrency_per_caller: usize,
    /// Requests are refused when others wait for the processor for longer than this; 0 for never.
    pub shed_above: Duration,
    /// Where to ask for more.
    pub contact: Option<String>,
}

impl Default for LimitOptions {
    /// No limits.
    fn default() -> Self {
        Self {
            search: None,
            read: None,
            write: None,
            instances: 1,
            callers: 20_000,
            concurrency: 0,
            concurrency_per_caller: 0,
            shed_above: Duration::ZERO,
            contact: None,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// The bucket is empty, or the day used up: the caller may come back after so long.
    Rate { retry_after_s: u64, is_day: bool },
    /// The caller has too many requests under way.
    Caller,
    /// All callers together have.
    All,
    /// Requests wait for the processor.
    Queue,
}

pub struct Limits<C: Clock = MonotonicClock> {
    options: LimitOptions,
    search: Option<Limited<C>>,
    read: Option<Limited<C>>,
    write: Option<Limited<C>>,
    at_once: Option<AtOnce>,
    shedding: Option<Arc<Shedding>>,
    /// Callers are known by a hash that nobody outside can aim at.
    callers: RandomState,
}

/// A class with a limit.
struct Limited<C: Clock> {
    buckets: Buckets<C>,
    days: Option<Days>,
    fields: fields::Policy,
}

impl Limits {
    /// `None` where nothing is limited.
    pub fn new(options: LimitOptions) -> Option<Self> {
        Self::with_clock(options, &MonotonicClock)
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn with_clock(options: LimitOptions, clock: &C) -> Option<Self> {
        let limited = |class, rate: Option<Rate>| {
            rate.map(|rate| Limited::new(class, rate, &options, clock.clone()))
        };
        let at_once = (options.concurrency > 0 || options.concurrency_per_caller > 0).then(|| {
            let bound = |most: usize| if most == 0 { usize::MAX } else { most };
            AtOnce::new(bound(options.concurrency), bound(options.concurrency_per_caller))
        });
        let shedding =
            (!options.shed_above.is_zero()).then(|| Arc::new(Shedding::new(options.shed_above)));
        let limits = Self {
            search: limited(Class::Search, options.search),
            read: limited(Class::Read, options.read),
            write: limited(Class::Write, options.write),
            at_once,
            shedding,
            callers: RandomState::new(),
            options,
        };
        let is_limited = Class::ALL.iter().any(|class| limits.limited(*class).is_some())
            || limits.at_once.is_some()
            || limits.shedding.is_some();
        is_limited.then_some(limits)
    }

    fn limited(&self, class: Class) -> Option<&Limited<C>> {
        match class {
            Class::Search => self.search.as_ref(),
            Class::Read => self.read.as_ref(),
            Class::Write => self.write.as_ref(),
        }
    }

    /// The caller as the limits know it.
    pub(crate) fn key(&self, caller: &Party) -> u64 {
        self.callers.hash_one(caller)
    }

    /// Takes one request of the caller's limit.
    pub(crate) fn take(
        &self,
        class: Class,
        caller: u64,
    ) -> Result<Option<Taken<'_>>, (Excess, Taken<'_>)> {
        match self.limited(class) {
            Some(limited) => limited.take(caller).map(Some),
            None => Ok(None),
        }
    }

    /// A place among the requests that are answered at once.
    pub(crate) fn enter(&self, caller: u64) -> Result<Option<Place<'_>>, Excess> {
        match self.at_once.as_ref().map(|at_once| at_once.enter(caller)).transpose() {
            Ok(place) => Ok(place),
            Err(Full::Caller) => Err(Excess::Caller),
            Err(Full::All) => Err(Excess::All),
        }
    }

    /// Whether too much waits for the processor to take this request as well.
    pub(crate) fn sheds(&self) -> bool {
        self.shedding.as_ref().is_some_and(|shedding| shedding.refuses())
    }

    /// Follows how busy the runtime is, where requests are shed.
    pub(crate) fn watch(&self) -> Option<impl Future<Output = ()> + Send + use<C>> {
        self.shedding.clone().map(Shedding::watch)
    }
}

/// An instance's share of a limit.
fn share(rate: Rate, instances: u32) -> Rate {
    let instances = instances.max(1);
    Rate {
        rate: rate.rate / f64::from(instances),
        burst: (rate.burst / instances).max(1),
        per_day: rate.per_day.map(|quota| quota / u64::from(instances)),
    }
}

impl<C: Clock> Limited<C> {
    fn new(class: Class, rate: Rate, options: &LimitOptions, clock: C) -> Self {
        let share = share(rate, options.instances);
        let buckets = Buckets::new(share.rate, share.burst, options.callers, clock);
        let days = share.per_day.map(|quota| Days::new(quota, options.callers));
        let fields = fields::Policy::new(class, &share);
        Self { buckets, days, fields }
    }

    fn take(&self, caller: u64) -> Result<Taken<'_>, (Excess, Taken<'_>)> {
        let (left, wait) = match self.buckets.take(caller) {
            Ok(left) => (left, None),
            Err(wait) => (0, Some(wait)),
        };
        let mut taken = Taken::of(&self.fields, left, self.buckets.full_in(left));
        if let Some(wait) = wait {
            taken.day = self.days.as_ref().map(|days| days.left(caller, days::now()));
            let excess =
                Excess::Rate { retry_after_s: fields::seconds(wait).max(1), is_day: false };
            return Err((excess, taken));
        }
        let Some(days) = &self.days else { return Ok(taken) };
        match days.take(caller, days::now()) {
            Ok(left) => {
                taken.day = Some(left);
                Ok(taken)
            }
            Err(left) => {
                taken.day = Some(left);
                Err((Excess::Rate { retry_after_s: left.reset_s, is_day: true }, taken))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use http::HeaderMap;

    fn rate(rate: f64, burst: u32) -> Option<Rate> {
        Some(Rate { rate, burst, per_day: None })
    }

    #[test]
    fn operations_have_their_classes() {
        for (method, path, class) in [
            (Method::GET, "/search", Some(Class::Search)),
            (Method::HEAD, "/search", Some(Class::Search)),
            (Method::GET, "/v1/plans", Some(Class::Read)),
            (Method::GET, "/v1/recipes/x/history", Some(Class::Read)),
            (Method::POST, "/v1/recipes", Some(Class::Write)),
            (Method::DELETE, "/v1/recipes/x", Some(Class::Write)),
            (Method::POST, "/search", Some(Class::Write)),
            (Method::OPTIONS, "/v1/recipes", None),
            (Method::GET, "/v1/limits", None),
            (Method::GET, "/healthz", None),
            (Method::GET, "/readyz", None),
            (Method::GET, "/metrics", None),
            (Method::GET, "/openapi.json", None),
        ] {
            assert_eq!(Class::of(&method, path), class, "{method} {path}");
        }
    }

    #[test]
    fn without_limits_there_is_nothing() {
        assert!(Limits::new(LimitOptions::default()).is_none());
        let some = LimitOptions { write: rate(1.0, 1), ..LimitOptions::default() };
        assert!(Limits::new(some).is_some());
        let some = LimitOptions { concurrency: 1, ..LimitOptions::default() };
        assert!(Limits::new(some).is_some());
    }

    #[test]
    fn each_instance_enforces_its_share() {
        let clock = FakeRelativeClock::default();
        let options = LimitOptions { read: rate(9.0, 9), instances: 3, ..LimitOptions::default() };
        let limits = Limits::with_clock(options, &clock).unwrap();
        let caller = limits.key(&Party::Unknown);
        for left in [2, 1, 0] {
            let taken = limits.take(Class::Read, caller).unwrap().unwrap();
            let mut headers = HeaderMap::new();
            taken.tell(&mut headers);
            assert_eq!(headers["ratelimit-policy"], "\"read\";q=3;w=1");
            assert_eq!(headers["ratelimit"], format!("\"read\";r={left};t=1").as_str());
        }
        let (excess, _) = limits.take(Class::Read, caller).err().unwrap();
        assert_eq!(excess, Excess::Rate { retry_after_s: 1, is_day: false });
        assert!(limits.take(Class::Search, caller).unwrap().is_none(), "no limit of its own");
    }

    #[test]
    fn a_quota_per_day_is_told_beside_the_rate() {
        let options = LimitOptions {
            search: Some(Rate { rate: 100.0, burst: 100, per_day: Some(2) }),
            ..LimitOptions::default()
        };
        let limits = Limits::with_clock(options, &FakeRelativeClock::default()).unwrap();
        let caller = limits.key(&Party::Subject("mary".to_owned()));
        let mut headers = HeaderMap::new();
        limits.take(Class::Search, caller).unwrap().unwrap().tell(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"search\";q=100;w=1, \"search-day\";q=2;w=86400");
        let told = headers["ratelimit"].to_str().unwrap();
        assert!(told.starts_with("\"search\";r=99;t=1, \"search-day\";r=1;t="), "{told}");
        limits.take(Class::Search, caller).unwrap();
        let (excess, taken) = limits.take(Class::Search, caller).err().unwrap();
        assert!(matches!(excess, Excess::Rate { retry_after_s: 1..=86_400, is_day: true }));
        taken.tell(&mut headers);
        assert!(headers["ratelimit"].to_str().unwrap().contains("\"search-day\";r=0;t="));
    }
}
