//! Questions and cursors as hostile clients may send them.

use super::{
    cursor,
    filter::{Filter, KNOWN},
};
use almanac_edge::query::Parameters;
use almanac_fuzzing::fuzz;

#[test]
fn any_text_is_a_cursor_or_a_problem() {
    let next = cursor::next("q=a", Some("2021/\u{f1}"));
    fuzz("cursors", [next.trim_matches('"')], |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(key) = cursor::decode::<String>("q=a", &text) {
            let again = cursor::next("q=a", Some(key));
            assert!(again.trim_matches('"').eq_ignore_ascii_case(&text), "{again} {text}");
        }
    });
}

/// Whatever is asked of plans is a filter or a problem.
#[test]
fn any_query_is_a_filter_or_a_problem() {
    let query = "q=jazz+festival&min_price=10.5&max_price=20&sale=on&provider=fever&organizer_id=7\
        &base_plan_id=291&starts_from=2021-06-30T00:00:00Z&starts_until=2022-01-01T00:00:00%2B01:00\
        &sort=-price&limit=20";
    assert!(Filter::parse(&Parameters::parse(Some(query), KNOWN).unwrap()).is_ok());
    fuzz("plan-filters", [query], |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(parameters) = Parameters::parse(Some(&text), KNOWN)
            && let Ok(filter) = Filter::parse(&parameters)
        {
            let _ = filter.start_range();
        }
    });
}
