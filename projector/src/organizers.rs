//! From an event of `plans.events` to rows of organizers.

use crate::{
    plans::price_range,
    projection::{Event, FoldError, Folded, Projection, Rows},
};
use almanac_schemas::plans::{
    CHANGED, DELISTED, FEED_OBSERVED, LISTED, PlanEventRecord, RELISTED, TOPIC,
};
use almanac_tables::organizers::{Tables, key, month, owner_text};
use serde_json::json;

impl Projection for Tables {
    fn fold(&self, event: &Event<'_>) -> Result<Folded, FoldError> {
        let mut rows = event.rows();
        match event.decoded.record() {
            LISTED | CHANGED | DELISTED | RELISTED => {
                let read: PlanEventRecord<'_> = event.decoded.read()?;
                fold_plan(self, &read, &mut rows).ok_or(FoldError::OutsideDomain)?;
            }
            // How the provider does says nothing of an organizer.
            FEED_OBSERVED => {}
            _ => return Err(event.unknown(TOPIC)),
        }
        Ok(rows.folded())
    }
}

fn fold_plan(tables: &Tables, event: &PlanEventRecord<'_>, rows: &mut Rows) -> Option<()> {
    let plan = &event.plan;
    let organizer = plan.organizer_id.as_deref();
    let now = month(plan.starts_at.to_domain()?);
    let before = match event.previous_starts_at {
        Some(start) => month(start.to_domain()?),
        None => now.clone(),
    };
    let changes_hands = event.changed.iter().any(|field| field == "organizer_id");
    if before != now || changes_hands {
        rows.put(&tables.moves, &*now, &*plan.id, owner_text(organizer));
    }
    if before != now {
        if changes_hands {
            // The row under whoever had it before stays behind in that month.
            rows.put(&tables.moves, &*before, &*plan.id, owner_text(organizer));
        }
        if let Some(organizer) = organizer {
            rows.delete(&tables.plans, organizer, key(&before, &plan.id));
        }
    }
    // A plan that was never sellable online is listed nowhere.
    if let Some(organizer) = organizer.filter(|_| event.ever_online) {
        rows.put_own(&tables.plans, organizer, key(&now, &plan.id), body(event)?);
    }
    Some(())
}

/// Prices are texts: they keep the digits that the provider wrote.
fn body(event: &PlanEventRecord<'_>) -> Option<String> {
    let plan = &event.plan;
    let has_places = plan.zones.iter().any(|zone| zone.capacity > 0);
    let (low, high) = price_range(&plan.zones)?;
    let body = json!({
        "listed": event.listed,
        "sold_out": plan.sold_out || !has_places,
        "currency": plan.currency,
        "min_price": low,
        "max_price": high,
    });
    Some(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folding;
    use almanac_domain::plans::{
        Knowledge, LocalTime, Plan, PlanIdentity, SellMode, Zone, decide, delist,
    };
    use almanac_schemas::plans::{PlanEncoder, PlanRecord};
    use almanac_tables::organizers::{VERSION, counts, parse_key};
    use jiff::{Timestamp, tz::TimeZone};
    use std::collections::{BTreeMap, BTreeSet};

    fn plan(number: usize, organizer: Option<&str>, start: &str) -> Plan {
        Plan {
            identity: PlanIdentity {
                provider: "p".to_owned(),
                base_plan_id: "1".to_owned(),
                plan_id: number.to_string(),
            },
            title: "Night".to_owned(),
            organizer_id: organizer.map(str::to_owned),
            sell_mode: SellMode::Online,
            starts_at: LocalTime::parse(start, &TimeZone::get("Europe/Madrid").unwrap()).unwrap(),
            ends_at: None,
            sell_from: None,
            sell_to: None,
            sold_out: false,
            currency: Some("EUR".to_owned()),
            url: None,
            zones: Vec::new(),
        }
    }

    /// What the provider says of one plan, one feed after the other; `None` when it is not in one.
    async fn tell(folding: &mut Folding<Tables>, said: &[Option<Plan>]) {
        let encoder = PlanEncoder::new(folding.codec()).unwrap();
        let mut known: Option<Knowledge> = None;
        for said in said {
            let event = match said {
                Some(plan) => decide(known.as_ref(), plan.clone(), Timestamp::UNIX_EPOCH),
                None => known.as_ref().and_then(|known| delist(known, Timestamp::UNIX_EPOCH)),
            };
            let Some(event) = event else { continue };
            let id = event.after.plan.identity.public_id().to_string();
            let bytes = encoder.plan(&PlanRecord::from_domain(&event.after.plan, &id)).unwrap();
            folding.value(encoder.event(&event, &bytes).unwrap().1).await.unwrap();
            known = Some(event.after);
        }
    }

    /// Organizers and months that a reader finds each plan under.
    fn found(folding: &Folding<Tables>) -> BTreeMap<String, BTreeSet<(String, String)>> {
        let moves: BTreeMap<_, _> = (folding.of("organizer_moves").into_iter())
            .map(|(month, id, body)| ((month, id), body))
            .collect();
        let mut found = BTreeMap::<_, BTreeSet<_>>::new();
        for (organizer, clustering, _) in folding.of("organizer_plans") {
            let (month, id) = parse_key(&clustering).unwrap();
            let moved = moves.get(&(month.to_owned(), id.to_owned()));
            if counts(&organizer, moved.map(String::as_bytes)) {
                found.entry(id.to_owned()).or_default().insert((organizer, month.to_owned()));
            }
        }
        found
    }

    /// All stories of up to four statements: with organizers a, b or none, in two months, or away.
    #[tokio::test]
    async fn a_plan_is_found_where_it_was_said_last_and_nowhere_else() {
        let starts = ["2031-06-10T20:00:00", "2031-07-10T20:00:00"];
        let mut statements = vec![None];
        for organizer in [Some("a"), Some("b"), None] {
            statements.extend(starts.map(|start| Some((organizer, start))));
        }
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        let (mut number, mut expected) = (0, BTreeMap::new());
        for length in 1..=4_u32 {
            for story in 0..statements.len().pow(length) {
                let said: Vec<_> = (0..length)
                    .map(|place| statements[story / statements.len().pow(place) % statements.len()])
                    .collect();
                number += 1;
                let told = said
                    .iter()
                    .map(|said| said.map(|(organizer, start)| plan(number, organizer, start)));
                tell(&mut folding, &told.collect::<Vec<_>>()).await;
                if let Some((Some(organizer), start)) = said.iter().rev().find_map(|said| *said) {
                    let id = plan(number, None, start).identity.public_id().to_string();
                    let place = (organizer.to_owned(), start[..7].to_owned());
                    expected.insert(id, BTreeSet::from([place]));
                }
            }
        }
        assert!(number > 2_000);
        let found = found(&folding);
        assert_eq!(found.len(), expected.len());
        for (id, places) in &expected {
            assert_eq!(found.get(id), Some(places), "{id}");
        }
        folding.repeats().await;
    }

    #[tokio::test]
    async fn a_row_says_what_counts_of_a_plan() {
        let mut folding = Folding::new(Tables::of(VERSION).unwrap()).await;
        // The first of July on the provider's wall, and still June in UTC.
        let mut said = plan(1, Some("a"), "2031-07-01T01:00:00");
        said.sell_mode = SellMode::Offline;
        said.zones = ["20.00", "7.5", "1"]
            .iter()
            .zip([3, 1, 0])
            .map(|(price, capacity)| Zone {
                zone_id: "1".to_owned(),
                name: None,
                capacity,
                price: Some(price.parse().unwrap()),
                numbered: false,
            })
            .collect();
        tell(&mut folding, &[Some(said.clone())]).await;
        assert!(folding.rows().is_empty(), "it was never online");
        said.sell_mode = SellMode::Online;
        tell(&mut folding, &[Some(said.clone()), None]).await;
        let rows = folding.of("organizer_plans");
        assert_eq!((&*rows[0].0, &rows[0].1[..8]), ("a", "2031-07/"), "{rows:?}");
        let expected = json!({"listed": false, "sold_out": false, "currency": "EUR",
            "min_price": "7.5", "max_price": "20.00"});
        assert_eq!(folding.only("organizer_plans"), expected);
        said.zones.truncate(0);
        tell(&mut folding, &[Some(said)]).await;
        let row = folding.only("organizer_plans");
        assert_eq!((&row["sold_out"], &row["min_price"]), (&json!(true), &json!(null)), "{row}");
    }
}
