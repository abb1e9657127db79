//! `/v1/analyses`: where an analysis stands, what came of it, and what it rests on. An analysis is its
//! owner's; to others it is not there.

mod chart;
mod fresh;
mod list;
mod loaded;
mod model;
mod note;
mod one;
mod queue;
mod result;
mod steps;
mod stream;

pub(crate) use model::{Analyses, MODEL};

use super::{
    private::{may_read, parse_id},
    store_problem,
};
use almanac_edge::{Problem, ProblemType, identity::Caller};
use almanac_errors::Words;
use almanac_schemas::{
    analyses::{AnalysisCompletedRecord, AnalysisEventRecord, AnalysisRequestedRecord},
    json::weather::read_event,
};
use almanac_tables::{
    analyses::{history_bucket, id_bucket},
    history,
};
use bytes::Bytes;
use http::HeaderMap;

fn missing() -> Problem {
    Problem::new(ProblemType::NotFound, "there is no analysis with this id")
}

fn read(body: &Bytes, id: &str) -> Result<AnalysisEventRecord, Problem> {
    let event = std::str::from_utf8(body).ok().and_then(read_event);
    event.ok_or_else(|| {
        Problem::internal(&Words::from(format!("a row of analysis {id} cannot be read")))
    })
}

impl Analyses {
    /// The newest event of an analysis, as far as the tables are.
    async fn newest(&self, id: &str) -> Result<Option<AnalysisEventRecord>, Problem> {
        let row = self.store.get(&self.tables.analyses, id_bucket(id), id).await;
        let row = row.map_err(|error| store_problem(&error))?;
        row.map(|row| read(&row.body, id)).transpose()
    }

    /// The event that an analysis began with.
    async fn request(&self, id: &str) -> Result<Box<AnalysisRequestedRecord>, Problem> {
        let (bucket, key) = (history_bucket(id, 1), history::key(id, 1));
        let row = self.store.get(&self.tables.history, &bucket, &key).await;
        let row = row.map_err(|error| store_problem(&error))?;
        match row.map(|row| read(&row.body, id)).transpose()? {
            Some(AnalysisEventRecord::Requested(request)) => Ok(request),
            _ => Err(Problem::internal(&Words::from(format!(
                "analysis {id} has no request in its history"
            )))),
        }
    }

    /// What the caller may read of an analysis.
    async fn readable(&self, id: &str, caller: &Caller) -> Result<AnalysisEventRecord, Problem> {
        let newest = self.newest(id).await?.ok_or_else(missing)?;
        if !may_read(caller, &newest.head().owner) {
            return Err(missing());
        }
        Ok(newest)
    }

    /// The completed analysis of an address; 409 where it has no result.
    async fn completed(
        &self,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Box<AnalysisCompletedRecord>, Problem> {
        let caller = self.identity.caller(headers)?;
        let id = parse_id(id, missing)?;
        match self.readable(&id, &caller).await? {
            AnalysisEventRecord::Completed(completed) => Ok(completed),
            other => {
                let state = other.knowledge().map_or("open", |known| known.state.as_str());
                let detail = format!("the analysis is {state}: it has no result");
                Err(Problem::new(ProblemType::Conflict, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests;
