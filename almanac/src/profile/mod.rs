//! What the process does with its time and memory, on demand: `/v1/admin/profile`.
//!
//! Profiles are of this process alone, and of the seconds that somebody asked for. One is made at a time.

mod cpu;
mod encoded;
mod heap;
mod stacks;

pub(crate) use heap::Allocator;

use almanac_edge::{
    Identity, Problem, ProblemType, Routes, Scope, method_not_allowed,
    openapi::Fragment,
    openapi_fragment,
    query::{Parameters, bad},
};
use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, header};
use stacks::Stacks;
use std::{io::Write, sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) const OPENAPI: Fragment = openapi_fragment!("profile.openapi.json");

/// Unless the request says how long.
const USUAL: Duration = Duration::from_secs(10);

/// What profiling needs of a process.
pub(crate) struct Profiles {
    pub(crate) identity: Arc<Identity>,
    /// No profile is longer; zero: there are none.
    pub(crate) longest: Duration,
    /// Held while one is made.
    pub(crate) under_way: Arc<Mutex<()>>,
}

pub(crate) fn routes(profiles: Arc<Profiles>) -> Routes {
    declared().map(|router| router.with_state(profiles))
}

fn declared() -> Routes<Arc<Profiles>> {
    Routes::new()
        .get("/v1/admin/profile", get)
        .map(|router| router.method_not_allowed_fallback(method_not_allowed))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cpu,
    Heap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Pprof,
    Folded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    kind: Kind,
    format: Format,
    time: Duration,
}

impl Asked {
    fn read(query: Option<&str>, longest: Duration) -> Result<Self, Problem> {
        let parameters = Parameters::parse(query, &["kind", "seconds", "format"])?;
        let kind = match parameters.one("kind")? {
            None | Some("cpu") => Kind::Cpu,
            Some("heap") => Kind::Heap,
            Some(_) => return Err(bad("kind", "it must be cpu or heap")),
        };
        let format = match parameters.one("format")? {
            None | Some("pprof") => Format::Pprof,
            Some("folded") => Format::Folded,
            Some(_) => return Err(bad("format", "it must be pprof or folded")),
        };
        let most = longest.as_secs();
        let time = match parameters.one("seconds")? {
            None => USUAL.min(longest),
            Some(text) => match text.parse() {
                Ok(seconds) if (1..=most).contains(&seconds) => Duration::from_secs(seconds),
                _ => return Err(bad("seconds", &format!("it must be a number from 1 to {most}"))),
            },
        };
        Ok(Self { kind, format, time })
    }
}

async fn get(
    State(profiles): State<Arc<Profiles>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = Asked::read(query.as_deref(), profiles.longest)?;
    let caller = profiles.identity.require(&headers, Scope::OperatorRead)?;
    if profiles.longest.is_zero() {
        let detail = "http.profile_time is 0: this process makes no profiles";
        return Err(Problem::new(ProblemType::Conflict, detail));
    }
    let Ok(under_way) = profiles.under_way.clone().try_lock_owned() else {
        let detail = "a profile of this process is being made; ask again when it is there";
        return Err(Problem::new(ProblemType::Conflict, detail));
    };
    let (kind, seconds) = (asked.kind, asked.time.as_secs());
    tracing::info!(who = caller.subject, ?kind, seconds, "making a profile");
    let making = beside(move || Making::start(asked, under_way)).await??;
    // Who goes away ends it: it is dropped with this.
    tokio::time::sleep(asked.time).await;
    beside(move || answer(asked, making.end())).await?
}

enum Sampling {
    Cpu(cpu::Sampling),
    Heap(heap::Sampling),
}

struct Making {
    sampling: Sampling,
    /// Let go when the sampling is over.
    _under_way: OwnedMutexGuard<()>,
}

impl Making {
    fn start(asked: Asked, under_way: OwnedMutexGuard<()>) -> Result<Self, Problem> {
        let failed = |error: std::io::Error| Problem::unavailable("the profiler", &error);
        let sampling = match asked.kind {
            Kind::Cpu => Sampling::Cpu(cpu::Sampling::start(asked.time).map_err(failed)?),
            Kind::Heap => Sampling::Heap(heap::Sampling::start()),
        };
        Ok(Self { sampling, _under_way: under_way })
    }

    fn end(self) -> Stacks {
        match self.sampling {
            Sampling::Cpu(sampling) => sampling.end(),
            Sampling::Heap(sampling) => sampling.end(),
        }
    }
}

/// Names are looked up in the program's file: not on a thread that answers requests.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))
}

fn answer(asked: Asked, stacks: Stacks) -> Result<Response, Problem> {
    let Asked { kind, format, .. } = asked;
    let name = match kind {
        Kind::Cpu => "cpu",
        Kind::Heap => "heap",
    };
    let (content_type, file, body) = match format {
        Format::Folded => {
            ("text/plain; charset=utf-8", format!("{name}.folded"), stacks.folded().into_bytes())
        }
        Format::Pprof => {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            let written = packed.write_all(&stacks.encoded());
            let body = written.and_then(|()| packed.finish());
            let body = body.map_err(|error| Problem::internal(&error))?;
            ("application/octet-stream", format!("{name}.pb.gz"), body)
        }
    };
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"almanac-{file}\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let differences = almanac_edge::openapi::differences(&declared(), [OPENAPI]).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        let minute = Duration::from_secs(60);
        let read = |query: &str| Asked::read(Some(query), minute);
        let usual = Asked { kind: Kind::Cpu, format: Format::Pprof, time: USUAL };
        assert_eq!(read("").unwrap(), usual);
        let heap = Asked { kind: Kind::Heap, format: Format::Folded, time: minute };
        assert_eq!(read("kind=heap&seconds=60&format=folded").unwrap(), heap);
        for bad in [
            "seconds=0",
            "seconds=61",
            "seconds=-1",
            "seconds=1.5",
            "seconds=",
            "seconds=1&seconds=2",
            "kind=",
            "kind=disk",
            "format=svg",
            "second=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let short = Duration::from_secs(1);
        assert_eq!(Asked::read(None, short).unwrap().time, short);
        assert!(Asked::read(Some("seconds=2"), short).is_err());
    }
}
