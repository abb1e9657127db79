//! From an event of `analyses.events`, or a piece of `analyses.inputs`, to row changes.

use crate::projection::{Event, FoldError, Folded, Projection, Rows};
use almanac_schemas::{
    analyses::{AnalysisEventRecord, INPUT_CHUNK, TOPIC},
    json::weather::{self, InputPiece},
};
use almanac_tables::{
    analyses::{List, Tables, history_bucket, id_bucket, input_key, place},
    history,
};
use jiff::Timestamp;
use serde_json::json;

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        let mut rows = event.rows();
        if event.decoded.record() == INPUT_CHUNK {
            let piece: almanac_schemas::analyses::InputChunkRecord<'_> = event.decoded.read()?;
            let body = InputPiece::of(&piece).render();
            rows.put(&self.inputs, piece.analysis_id, input_key(event.position), body);
            return Ok(rows.folded());
        }
        let record = AnalysisEventRecord::read(event.decoded)?;
        let record = record.ok_or_else(|| event.unknown(TOPIC))?;
        let done = fold_event(self, &record, event.partition, &mut rows);
        done.map(|()| rows.folded()).ok_or(FoldError::OutsideDomain)
    }
}

fn fold_event(
    tables: &Tables,
    record: &AnalysisEventRecord,
    source_partition: u32,
    rows: &mut Rows,
) -> Option<()> {
    let known = record.knowledge()?;
    let head = record.head();
    let id = head.id.as_str();
    let requested_at = known.requested_at;
    let key = place(head.requested_at, id);
    let month = requested_at.strftime("%Y-%m").to_string();
    let item = weather::render_listed(record)?;
    let lists = [
        Some((List::Owner(&head.owner), &tables.by_owner)),
        head.schedule_id.as_deref().map(|id| (List::Schedule(id), &tables.by_schedule)),
    ];
    for (list, table) in lists.into_iter().flatten() {
        let place = format!("{month}/{source_partition:06}");
        rows.put(&tables.months, list.months(), place, "{}");
        rows.put(table, list.partition(&month), key.clone(), item.clone());
    }
    let partition = open_partition(requested_at, id);
    if known.state.is_ended() {
        rows.delete(&tables.open, partition, key);
    } else {
        let (owner, origin) = (&head.owner, &head.origin);
        let body = json!({"owner": owner, "origin": origin, "state": known.state.as_str()});
        rows.put(&tables.open, partition, key, body.to_string());
    }
    let text = weather::render_event(record)?;
    let (bucket, version) = (history_bucket(id, known.version), history::key(id, known.version));
    rows.put(&tables.history, bucket, version, text.clone());
    rows.put_own(&tables.analyses, id_bucket(id), id, text);
    Some(())
}

fn open_partition(requested_at: Timestamp, id: &str) -> String {
    let digit = id.get(id.len().saturating_sub(1)..).unwrap_or("0");
    format!("{}/{digit}", requested_at.strftime("%Y-%m-%d"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folding;
    use almanac_schemas::analyses::{
        AnalysisHead, AnalysisProgressedRecord, AnalysisRequestedRecord, CANCELLED,
        InputChunkRecord, OptionsRecord, PROGRESSED, REQUESTED,
    };
    use almanac_tables::analyses::{VERSION, open_partitions};

    const ID: &str = "0190f3a2-0000-7000-8000-0000000000ab";
    const DAY_MS: i64 = 86_400_000;

    fn head(version: i64) -> AnalysisHead {
        AnalysisHead {
            id: ID.to_owned(),
            version,
            occurred_at: DAY_MS + version,
            requested_at: DAY_MS,
            owner: "mary".to_owned(),
            schedule_id: Some("s".to_owned()),
            origin: "request".to_owned(),
        }
    }

    fn requested() -> AnalysisRequestedRecord {
        let AnalysisHead { id, version, occurred_at, requested_at, owner, schedule_id, origin } =
            head(1);
        let options = OptionsRecord {
            between: "worst".to_owned(),
            combine: "first".to_owned(),
            ..OptionsRecord::default()
        };
        AnalysisRequestedRecord {
            id,
            version,
            occurred_at,
            requested_at,
            owner,
            schedule_id,
            origin,
            options,
            ..AnalysisRequestedRecord::default()
        }
    }

    fn progressed() -> AnalysisProgressedRecord {
        let AnalysisHead { id, version, occurred_at, requested_at, owner, schedule_id, origin } =
            head(2);
        AnalysisProgressedRecord {
            id,
            version,
            occurred_at,
            requested_at,
            owner,
            schedule_id,
            origin,
            progress: 0.5,
            stage: "computing".to_owned(),
        }
    }

    #[tokio::test]
    async fn an_analysis_is_open_until_it_ends_and_listed_from_its_request_on() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        folding.event(REQUESTED, &requested()).await;
        let open = folding.of("analyses_open");
        assert_eq!(open.len(), 1);
        let day = Timestamp::from_millisecond(DAY_MS).unwrap();
        assert!(open_partitions(day).any(|partition| partition == open[0].0), "{open:?}");
        assert_eq!(folding.only("analyses_open")["state"], "queued");
        folding.event(PROGRESSED, &progressed()).await;
        assert_eq!(folding.only("analyses_open")["state"], "running");
        assert_eq!(folding.only("analyses")["state"], "running");
        assert_eq!(
            folding.only("analyses_by_owner")["state"],
            "running",
            "one row, kept up to date"
        );
        folding.event(CANCELLED, &head(3)).await;
        assert!(folding.of("analyses_open").is_empty());
        assert_eq!(folding.only("analyses")["state"], "cancelled");
        let by_schedule = folding.of("analyses_by_schedule");
        assert_eq!(by_schedule[0].0, "s/1970-01");
        assert_eq!(by_schedule[0].1, format!("000000086400000/{ID}"));
        let months: Vec<_> = folding.of("analysis_months").into_iter().map(|row| row.0).collect();
        assert_eq!(months, ["owner/mary", "schedule/s"]);
        let history: Vec<_> = (folding.of("analysis_history").into_iter())
            .map(|(.., body)| weather::read_event(&body).unwrap())
            .collect();
        assert_eq!(history[0], AnalysisEventRecord::Requested(Box::new(requested())));
        assert_eq!(history[1], AnalysisEventRecord::Progressed(progressed()));
        assert_eq!(history[2], AnalysisEventRecord::Cancelled(head(3)));
        folding.repeats().await;
    }

    /// Who repeats an id with other bytes does not take those of the first away.
    #[tokio::test]
    async fn pieces_of_a_forecast_stay_where_their_request_names_them() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        for bytes in [&b"first"[..], b"\xff\x00other"] {
            let (analysis_id, owner) = (ID.to_owned(), "mary".to_owned());
            let piece = InputChunkRecord { analysis_id, owner, chunk: 0, chunks: 1, bytes };
            folding.event(INPUT_CHUNK, &piece).await;
        }
        let rows = folding.of("analysis_inputs");
        let keys: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
        assert_eq!(keys, [input_key(0), input_key(1)]);
        let bytes: Vec<_> =
            rows.iter().map(|row| InputPiece::read(&row.2).unwrap().bytes).collect();
        assert_eq!(bytes, [&b"first"[..], b"\xff\x00other"]);
        folding.repeats().await;
    }
}
