//! The feed's parser on real, nasty and random bodies.

use almanac_domain::plans::Plan;
use almanac_fuzzing::fuzz;
use almanac_ingestor::{
    config::FeedSettings,
    fever_plans::{BodyError, Fault, FeedItem, read},
};
use jiff::tz::TimeZone;

const FEED: &str = include_str!("../../tests/data/feed-1.xml");

fn settings() -> FeedSettings {
    FeedSettings {
        provider: "fever".to_owned(),
        timezone: TimeZone::get("Europe/Madrid").unwrap(),
        currency: Some("EUR".to_owned()),
        url_template: Some("https://tickets.example/{base_plan_id}/{plan_id}".to_owned()),
        max_tag_bytes: 64 << 10,
        max_zones: 100,
        max_plan_bytes: 100_000,
    }
}

fn items(body: &[u8]) -> Result<Vec<FeedItem>, BodyError> {
    items_in(body, None)
}

fn items_in(body: &[u8], charset: Option<&str>) -> Result<Vec<FeedItem>, BodyError> {
    let mut items = Vec::new();
    read(body, charset, &settings(), &mut |item| {
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

fn faults(body: &str) -> Vec<Fault> {
    let fault = |item| match item {
        FeedItem::Fault { fault, .. } => Some(fault),
        FeedItem::Plan { .. } => None,
    };
    items(body.as_bytes()).unwrap().into_iter().filter_map(fault).collect()
}

#[test]
fn a_real_feed_is_read() {
    let found = items(FEED.as_bytes()).unwrap();
    assert_eq!(found.len(), 4);
    let FeedItem::Plan { plan, place } = &found[3] else { panic!("{:?}", found[3]) };
    assert_eq!(plan.title, "Los Morancos");
    assert_eq!(plan.zones.len(), 2, "a zone_id may stand twice");
    assert_eq!(plan.starts_at.to_string(), "2021-07-31T20:00:00+02:00");
    assert_eq!(plan.url.as_deref(), Some("https://tickets.example/1591/1642"));
    assert_eq!(place.line, 20);
}

/// The plans of a feed with one base plan.
fn plans(base: &str, plans: &str) -> Vec<Plan> {
    let body = format!(
        "<planList><output><base_plan base_plan_id=\"1\" sell_mode=\"online\" title=\"T\" {base}>\
         {plans}</base_plan></output></planList>"
    );
    let plan = |item| match item {
        FeedItem::Plan { plan, .. } => *plan,
        FeedItem::Fault { fault, .. } => panic!("{fault:?}"),
    };
    items(body.as_bytes()).unwrap().into_iter().map(plan).collect()
}

/// One title in many encodings, said by a mark, by the header, by the declaration.
#[test]
fn bodies_are_read_in_their_encodings() {
    let title = |body: &[u8], charset| {
        let found = items_in(body, charset).unwrap_or_else(|error| panic!("{error}"));
        let FeedItem::Plan { plan, .. } = &found[0] else { panic!("{found:?}") };
        plan.title.clone()
    };
    let feed = |declaration: &str, title: &str| {
        format!(
            "{declaration}<planList><output><base_plan base_plan_id=\"1\" sell_mode=\"online\" \
             title=\"{title}\"><plan plan_id=\"1\" plan_start_date=\"2021-06-30T21:00:00\"/>\
             </base_plan></output></planList>"
        )
    };
    for (label, text) in [
        ("ISO-8859-1", "Año nuevo en Málaga"),
        ("windows-1252", "Camión – 20 €"),
        ("windows-1251", "Чайка"),
        ("KOI8-R", "Чайка"),
        ("ISO-8859-2", "Žižkov"),
        ("iso-8859-15", "20 €"),
        ("Shift_JIS", "歌舞伎"),
        ("EUC-JP", "歌舞伎"),
        ("ISO-2022-JP", "歌舞伎"),
        ("GB18030", "京剧"),
        ("Big5", "京劇"),
        ("EUC-KR", "판소리"),
        ("macintosh", "Málaga"),
        ("utf-8", "Málaga, 京劇"),
    ] {
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
        // Longer than what the parser looks at first, too.
        let spaces = " ".repeat(100);
        let declaration = format!("<?xml version=\"1.0\" {spaces} encoding=\"{label}\"?>");
        let body = encoding.encode(&feed(&declaration, text)).0.into_owned();
        assert_eq!(title(&body, None), text, "{label} declared");
        let body = encoding.encode(&feed("", text)).0.into_owned();
        assert_eq!(title(&body, Some(label)), text, "{label} in the header");
    }
    let declared = feed("<?xml version=\"1.0\" encoding=\"utf-16\"?>", "Málaga");
    let utf16 = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
        [mark, &declared.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()].concat()
    };
    for body in [
        utf16(b"\xff\xfe", u16::to_le_bytes),
        utf16(b"\xfe\xff", u16::to_be_bytes),
        utf16(b"", u16::to_le_bytes),
        utf16(b"", u16::to_be_bytes),
        declared.clone().into_bytes(),
    ] {
        assert_eq!(title(&body, None), "Málaga");
    }
    let contradicted = feed("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>", "Málaga");
    assert_eq!(title(contradicted.as_bytes(), Some("UTF-8")), "Málaga", "the header counts first");
    let latin = encoding_rs::WINDOWS_1252.encode(&feed("", "Málaga")).0.into_owned();
    assert!(matches!(items(&latin), Err(BodyError::NotDecodable { .. })), "nobody said so");
    let klingon = feed("<?xml version=\"1.0\" encoding=\"x-klingon\"?>", "Qapla'");
    assert!(matches!(items(klingon.as_bytes()), Err(BodyError::UnknownEncoding { .. })));
}

#[test]
fn a_plans_time_zone_goes_before_the_providers() {
    let plan = |id: u32, more: &str| {
        format!(
            "<plan plan_id=\"{id}\" plan_start_date=\"2021-06-30T21:00:00\" plan_end_date=\"2021-06-30T24:00:00\" {more}/>"
        )
    };
    let four = [
        plan(1, ""),
        plan(2, "timezone=\"Asia/Kolkata\" sell_from=\"2021-01-01T10:00:00\""),
        plan(3, "tz=\"-03:00\""),
        plan(4, "time_zone=\"\""),
    ];
    let starts = |base| -> Vec<String> {
        plans(base, &four.concat()).iter().map(|plan| plan.starts_at.to_string()).collect()
    };
    let of_plans = ["2021-06-30T21:00:00+05:30", "2021-06-30T21:00:00-03:00"];
    let [madrid, york] = ["2021-06-30T21:00:00+02:00", "2021-06-30T21:00:00-04:00"];
    assert_eq!(starts(""), [madrid, of_plans[0], of_plans[1], madrid]);
    assert_eq!(starts("timezone=\"America/New_York\"")[..3], [york, of_plans[0], of_plans[1]]);
    let found = plans("", &four[1]);
    assert_eq!(found[0].ends_at.unwrap().to_string(), "2021-07-01T00:00:00+05:30");
    assert_eq!(found[0].sell_from.unwrap().to_string(), "2021-01-01T10:00:00+05:30");
    let unknown = faults(&FEED.replacen("<plan ", "<plan timezone=\"Mars/Base\" ", 1));
    assert!(unknown.len() == 1 && unknown[0].reason.contains("Mars/Base"), "{unknown:?}");
}

#[test]
fn a_plan_that_begins_in_a_skipped_hour_keeps_its_end() {
    let found = plans(
        "",
        "<plan plan_id=\"1\" plan_start_date=\"2021-03-28T02:30:00\" plan_end_date=\"2021-03-28T03:15:00\"/>",
    );
    assert_eq!(found[0].starts_at.to_string(), "2021-03-28T03:30:00+02:00");
    assert_eq!(found[0].ends_at.unwrap().to_string(), "2021-03-28T04:15:00+02:00");
}

#[test]
fn addresses_are_encoded_as_paths() {
    let found = plans("", "<plan plan_id=\"a b+c/ñ~*\" plan_start_date=\"2021-06-30T21:00:00\"/>");
    let url = found[0].url.as_deref();
    assert_eq!(url, Some("https://tickets.example/1/a%20b%2Bc%2F%C3%B1~%2A"));
}

/// A reason may quote what is wrong, and a name may be as long as a tag.
#[test]
fn reasons_are_bounded() {
    let long = "n".repeat(60_000);
    let bad = FEED.replacen("<zone ", &format!("<zone {long}=\"&x;\" "), 1).replacen(
        "<plan ",
        &format!("<plan a=\"&{long};\" "),
        1,
    );
    let found = faults(&bad);
    assert_eq!(found.len(), 2);
    for fault in found {
        let bytes = fault.reason.len() + fault.subject.len() + fault.fragment.len();
        assert!(bytes < 2_000, "{bytes}");
    }
    let error = items(format!("<planList><{long}></wrong>").as_bytes()).unwrap_err().told();
    assert!(error.len() < 1_000, "{}", error.len());
}

#[test]
fn faults_say_where_and_why() {
    let bad = FEED
        .replace("capacity=\"243\"", "capacity=\"-3\"")
        .replace("plan_id=\"1643\"", "plan_id=\"\"");
    let found = faults(&bad);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].place.line, found[0].subject.as_str()), (6, "plan 291/291 zone 40"));
    assert!(found[0].reason.contains("-3"), "{}", found[0].reason);
    assert!(found[0].fragment.contains("zone_id=\"40\""), "{}", found[0].fragment);
    assert_eq!(
        (found[1].subject.as_str(), found[1].reason.as_str()),
        ("plan 322/", "plan_id is missing")
    );
}

#[test]
fn bounds_hold() {
    let deep = format!("<planList>{}", "<a>".repeat(10_000));
    assert!(matches!(items(deep.as_bytes()), Err(BodyError::TooDeep { .. })));
    let long = format!("<planList><output><base_plan title=\"{}\"/>", "x".repeat(200_000));
    assert!(matches!(items(long.as_bytes()), Err(BodyError::TagTooLong { .. })));
    let zones = "<zone zone_id=\"1\" capacity=\"1\"/>".repeat(500);
    let many = FEED.replacen("<zone zone_id=\"40\"", &format!("{zones}<zone zone_id=\"40\""), 1);
    let found = faults(&many);
    assert!(found.len() == 1 && found[0].reason.contains("more than 100 zones"), "{found:?}");
}

#[test]
fn entities_are_not_expanded() {
    let bomb = format!(
        "<!DOCTYPE planList [<!ENTITY a \"{}\"><!ENTITY b \"&a;&a;&a;\">]>{}",
        "x".repeat(1_000),
        FEED.split_once("?>").unwrap().1.replace("Camela en concierto", "&b;")
    );
    let found = faults(&bomb);
    assert_eq!(found.len(), 1, "the plan that refers to it, and nothing else");
}

/// However a feed is damaged, and whatever encoding it claims, it is read or refused: no panic, and no item
/// beyond the body.
#[test]
fn damage_is_read_or_refused() {
    let second = include_str!("../../tests/data/feed-2.xml");
    let charsets = [None, Some("utf-16"), Some("iso-8859-1"), Some("shift_jis"), Some("nonsense")];
    fuzz("feeds", [FEED, second], |body: &[u8]| {
        let charset = charsets[body.len() % charsets.len()];
        // An encoding may make three bytes of one.
        let most = 3 * body.len() as u64 + 1;
        for item in items_in(body, charset).unwrap_or_default() {
            let (FeedItem::Plan { place, .. } | FeedItem::Fault { fault: Fault { place, .. }, .. }) =
                item;
            assert!(place.line <= most, "{place:?}");
        }
    });
}
