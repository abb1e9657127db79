//! Plans and events as lines for people.

use super::{clean, text};
use serde_json::Value;

/// A line of `GET /v1/plans`.
pub(super) fn of_list(plan: &Value) -> String {
    let when = when(text(plan, "starts_at"));
    let price = price(&plan["min_price"], &plan["max_price"], text(plan, "currency"));
    let state = match (plan["listed"].as_bool(), plan["sold_out"].as_bool()) {
        (Some(false), _) => "  delisted",
        (_, Some(true)) => "  sold out",
        _ => "",
    };
    format!("{}  {when}  {price:>16}  {}{state}", text(plan, "id"), clean(text(plan, "title")))
}

/// A line of `GET /search`, whose times are dates and wall times apart.
pub(super) fn of_search(plan: &Value) -> String {
    let when = format!("{} {:.5}", text(plan, "start_date"), text(plan, "start_time"));
    let price = price(&plan["min_price"], &plan["max_price"], "");
    format!("{}  {when}  {price:>16}  {}", text(plan, "id"), clean(text(plan, "title")))
}

/// An event of a topic.
pub(super) fn event(event: &Value) -> String {
    let (time, kind, subject) = (text(event, "time"), text(event, "type"), text(event, "subject"));
    let data = serde_json::to_string(&event["data"]).unwrap_or_default();
    format!("{time}  {kind:<22}  {}  {}", clean(subject), clean(&data))
}

/// Local time to the minute, with its offset.
fn when(time: &str) -> String {
    let (date, rest) = time.split_once('T').unwrap_or((time, ""));
    let offset = rest.get(8..).unwrap_or_default();
    format!("{date} {:.5}{offset}", rest)
}

fn price(min: &Value, max: &Value, currency: &str) -> String {
    let range = match (min.as_f64(), max.as_f64()) {
        (Some(min), Some(max)) if min < max => format!("{min:.2}-{max:.2}"),
        (Some(min), _) => format!("{min:.2}"),
        _ => return "no price".to_owned(),
    };
    format!("{range} {}", clean(currency)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_is_a_line() {
        let plan = json!({
            "id": "p", "title": "Jazz\u{1b}[31m", "starts_at": "2026-12-01T21:00:00+01:00",
            "min_price": 20.0, "max_price": 30.5, "currency": "EUR", "listed": true, "sold_out": true,
        });
        let line = of_list(&plan);
        assert_eq!(line, "p  2026-12-01 21:00+01:00   20.00-30.50 EUR  Jazz\u{fffd}[31m  sold out");
        let found = json!({
            "id": "p", "title": "Jazz", "start_date": "2026-12-01", "start_time": "21:00:00",
            "min_price": null, "max_price": null,
        });
        assert_eq!(of_search(&found), "p  2026-12-01 21:00          no price  Jazz");
    }

    #[test]
    fn an_event_is_a_line() {
        let told = json!({
            "time": "2026-12-01T00:00:00Z", "type": "recipe.deleted", "subject": "r", "data": {"id": "r"},
        });
        let line = "2026-12-01T00:00:00Z  recipe.deleted          r  {\"id\":\"r\"}";
        assert_eq!(event(&told), line);
    }
}
