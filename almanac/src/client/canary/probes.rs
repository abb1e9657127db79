//! The steps of a run. A step that needs one that failed is not tried, and counts as failed.

use super::{super::Client, Tried};
use almanac_errors::chain;
use anyhow::{Context, bail, ensure};
use jiff::{Timestamp, ToSpan};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

pub(super) const READY: &str = "ready";

/// What is left of earlier runs has this tag.
const TAG: &str = "almanac-canary";
/// A recipe that old is of no run that goes on.
const LEFT_HOURS: i64 = 1;
/// Of what is left, so much is deleted in a run.
const LEFT_AT_ONCE: &str = "20";

/// Tries each step and tells of it.
pub(super) async fn all(client: &Client, patience: Duration, tell: &mut impl FnMut(Tried)) {
    let probes = Probes { client, patience };
    step(READY, tell, probes.ready()).await;
    step("search", tell, probes.search()).await;
    step("plans", tell, probes.plans()).await;
    let written = step("write", tell, probes.write()).await;
    match &written {
        Some(written) => {
            step("read", tell, probes.read(written)).await;
            step("find", tell, probes.find(written)).await;
            step("delete", tell, probes.delete(written)).await;
        }
        None => {
            for name in ["read", "find", "delete"] {
                let untried = async { bail!("not tried, since the write failed") };
                step::<()>(name, tell, untried).await;
            }
        }
    }
    step("analysis", tell, probes.analysis()).await;
    // Its failure is that of nobody's request.
    if let Err(error) = probes.delete_left().await {
        tracing::warn!(error = %chain(error.as_ref()), "cannot delete what earlier runs left");
    }
}

async fn step<T>(
    step: &'static str,
    tell: &mut impl FnMut(Tried),
    trying: impl Future<Output = anyhow::Result<T>>,
) -> Option<T> {
    let started = Instant::now();
    let outcome = trying.await;
    let took = started.elapsed();
    let (done, outcome) = match outcome {
        Ok(done) => (Some(done), Ok(())),
        Err(error) => (None, Err(chain(error.as_ref()).to_string())),
    };
    tell(Tried { step, took, outcome });
    done
}

struct Written {
    id: String,
    name: String,
    token: String,
}

struct Probes<'a> {
    client: &'a Client,
    patience: Duration,
}

impl Probes<'_> {
    async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let request = self.client.request(Method::GET, path, query).timeout(self.patience);
        self.client.send_json(request).await
    }

    async fn ready(&self) -> anyhow::Result<()> {
        self.get(&["readyz"], &[]).await.map(drop)
    }

    async fn search(&self) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let (from, to) = (format!("{now:.0}"), format!("{:.0}", now + (24 * 30).hours()));
        let found = self.get(&["search"], &[("starts_at", &from), ("ends_at", &to)]).await?;
        ensure!(found["data"]["events"].is_array(), "the answer has no list of events");
        Ok(())
    }

    async fn plans(&self) -> anyhow::Result<()> {
        let page = self.get(&["v1", "plans"], &[("limit", "1")]).await?;
        ensure!(page["items"].is_array(), "the answer has no items");
        Ok(())
    }

    async fn write(&self) -> anyhow::Result<Written> {
        let name = format!("canary {}", Uuid::now_v7());
        let recipe = json!({
            "name": name,
            "tags": [TAG],
            "ingredients": [{ "ingredient": "SALT" }],
            "steps": [{ "text": "Wait." }],
        });
        let request = self.client.request(Method::POST, &["v1", "recipes"], &[]);
        let request = request.timeout(self.patience).header("idempotency-key", &name);
        let answer = self.client.send(request.json(&recipe)).await?;
        ensure!(answer.status() == 201, "{} instead of 201", answer.status());
        let token = answer.headers().get("consistency-token").context("no Consistency-Token")?;
        let token = token.to_str()?.to_owned();
        let answer: Value = answer.json().await?;
        let id = answer["id"].as_str().context("the answer has no id")?.to_owned();
        Ok(Written { id, name, token })
    }

    /// A read with the write's token waits until that is visible.
    async fn after(
        &self,
        written: &Written,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<Value> {
        let strict = format!("handling=strict, wait={}", self.patience.as_secs().min(30));
        let request = self.client.request(Method::GET, path, query).timeout(self.patience);
        let request = request.header("consistency-token", &written.token).header("prefer", strict);
        self.client.send_json(request).await
    }

    async fn read(&self, written: &Written) -> anyhow::Result<()> {
        let recipe = self.after(written, &["v1", "recipes", &written.id], &[]).await?;
        ensure!(recipe["name"] == *written.name, "it does not show what was written");
        Ok(())
    }

    async fn find(&self, written: &Written) -> anyhow::Result<()> {
        let page = self.after(written, &["v1", "recipes"], &[("q", &written.name)]).await?;
        let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_there = items.iter().any(|item| item["id"] == *written.id);
        ensure!(is_there, "a search for its name does not find it");
        Ok(())
    }

    async fn delete(&self, written: &Written) -> anyhow::Result<()> {
        let path = ["v1", "recipes", &written.id];
        let request = self.client.request(Method::DELETE, &path, &[]).timeout(self.patience);
        self.client.send(request).await.map(drop)
    }

    async fn analysis(&self) -> anyhow::Result<()> {
        let schedule: Value =
            serde_json::from_str(include_str!("../../../../docs/examples/schedule.json"))?;
        let forecast: Value =
            serde_json::from_str(include_str!("../../../../docs/examples/forecast.json"))?;
        let request = self.client.request(Method::POST, &["v1", "analyses"], &[]);
        let body = json!({ "schedule": schedule, "forecast": forecast });
        let accepted = self.client.send_json(request.timeout(self.patience).json(&body)).await?;
        let id = accepted["request_id"].as_str().context("the answer has no request_id")?;
        let until = Instant::now() + self.patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait = format!("wait={}", left.as_secs().clamp(1, 30));
            let request = self.client.request(Method::GET, &["v1", "analyses", id], &[]);
            let answer = self.client.send_json(request.header("prefer", wait)).await?;
            match answer["state"].as_str() {
                Some("completed") => {
                    let tasks = answer["result"]["tasks"].as_array().map_or(0, Vec::len);
                    ensure!(tasks > 0, "its result has no tasks");
                    return Ok(());
                }
                Some("queued" | "running") if !left.is_zero() => {}
                state => bail!("the analysis {id} is {}", state.unwrap_or("without a state")),
            }
            tokio::time::sleep(Duration::from_millis(100).min(left)).await;
        }
    }

    async fn delete_left(&self) -> anyhow::Result<()> {
        let page = self.get(&["v1", "recipes"], &[("tag", TAG), ("limit", LEFT_AT_ONCE)]).await?;
        let before = Timestamp::now() - LEFT_HOURS.hours();
        for recipe in page["items"].as_array().into_iter().flatten() {
            let made =
                recipe["created_at"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
            if let (Some(id), true) =
                (recipe["id"].as_str(), made.is_some_and(|made| made < before))
            {
                let request = self.client.request(Method::DELETE, &["v1", "recipes", id], &[]);
                self.client.send(request.timeout(self.patience)).await?;
            }
        }
        Ok(())
    }
}
