use super::*;
use almanac_domain::weather::{Question, Series, SeriesDraft, Variable};
use almanac_schemas::json::weather::{AnalysisRequest, Subject, read_analysis};
use jiff::SignedDuration;
use quick_xml::{Reader, events::Event};
use rust_decimal::Decimal;

const SCHEDULE: &str = include_str!("../../../docs/examples/schedule.json");
const FORECAST: &str = include_str!("../../../docs/examples/forecast.json");

/// An analysis that is kept for drawing.
struct Analysed {
    schedule: Schedule,
    states: Vec<TaskState>,
    series: Vec<Series>,
    options: Options,
    now: Timestamp,
}

fn request(schedule: &str, forecast: &str, options: &str) -> AnalysisRequest {
    let body =
        format!(r#"{{"schedule": {schedule}, "forecast": {forecast}, "options": {options}}}"#);
    read_analysis(body.as_bytes()).unwrap().unwrap()
}

impl Analysed {
    fn new(schedule: &str, forecast: &str, options: &str) -> Self {
        let AnalysisRequest { subject, forecast, options, .. } =
            request(schedule, forecast, options);
        let Subject::Inline(schedule) = subject else { unreachable!("it is inline") };
        let states = vec![TaskState::Planned; schedule.tasks.len()];
        let series = vec![forecast.unwrap().series];
        let now = "2026-03-10T06:30:00Z".parse().unwrap();
        Self { schedule, states, series, options, now }
    }

    fn drawn(&self, width: u32) -> (String, String) {
        let analyst = Analyst::new(Question {
            schedule: &self.schedule,
            states: &self.states,
            series: &self.series,
            is_inline: true,
            options: self.options,
            now: self.now,
        });
        let analyst = analyst.unwrap();
        let analysis = analyst.analyse();
        let sources = [SourceNote {
            name: "met-<norway>".to_owned(),
            issued_at: Some(self.now),
            age_s: Some(5_400),
            position: Some(("61.5".parse().unwrap(), "4.8".parse().unwrap())),
            distance_m: Some(1_234),
            attribution: Some("Data from MET Norway, CC BY 4.0".to_owned()),
            ..SourceNote::default()
        }];
        let warnings = [("stale_forecast".to_owned(), "the forecast is old".to_owned())];
        let shown = Shown {
            schedule: &self.schedule,
            states: &self.states,
            analyst: &analyst,
            analysis: &analysis,
            sources: &sources,
            warnings: &warnings,
            asked: Asked {
                id: Some("0190f3a2-0000-7000-8000-000000000000"),
                schedule_id: None,
                schedule_version: None,
                requested_at: Some(self.now),
                now: self.now,
                options: self.options,
            },
        };
        let zone = Zone::named("Asia/Kolkata").unwrap();
        let view = View { width, zone: zone.clone(), now: self.now };
        (chart(&shown, &view), note(&shown, &zone))
    }
}

/// Names and classes of the elements, and all text, of a document that is well-formed.
fn read(svg: &str) -> (Vec<(String, String)>, String) {
    let mut reader = Reader::from_str(svg);
    let (mut elements, mut text) = (Vec::new(), String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) | Event::Empty(start) => {
                let class = start.try_get_attribute("class").unwrap();
                let class = class.map(|class| class.value.into_owned());
                let name = start.name().as_ref().to_owned();
                elements.push((name, class.unwrap_or_default()));
            }
            Event::Text(one) => text.push_str(&one),
            Event::GeneralRef(name) => text.push_str(&format!("&{};", &*name)),
            Event::Eof => return (elements, text),
            _ => {}
        }
        text.push('\n');
    }
}

fn count(elements: &[(String, String)], class: &str) -> usize {
    elements.iter().filter(|(_, known)| known == class).count()
}

#[test]
fn a_drawing_shows_values_limits_windows_and_the_plan() {
    let (svg, _) = Analysed::new(SCHEDULE, FORECAST, "{}").drawn(960);
    let (elements, text) = read(&svg);
    assert_eq!(count(&elements, "value"), 2, "waves and wind");
    assert_eq!(count(&elements, "limit"), 4, "2.5 m, 1.5 m, 12 m/s, 15 m/s");
    // The legend has one of each.
    assert_eq!(count(&elements, "plan"), 4 + 1, "{text}");
    assert_eq!(count(&elements, "now"), 1);
    assert_eq!(count(&elements, "go"), 4 + 1);
    for told in ["Lift and set down (5 h)", "max 1.5", "61.5° N, 4.8° E", "within limits"] {
        assert!(text.contains(told), "{told:?} is missing in {text}");
    }
    assert!(text.contains("1 h 30 min old at the analysis"), "{text}");
    // Half-hour zones exist: 06:00Z is 11:30 in India.
    assert!(text.contains("03-10 12:00") && text.contains("03-10 17:30"), "{text}");
}

#[test]
fn what_a_user_or_a_service_wrote_is_text() {
    let hostile = SCHEDULE
        .replace("Install the transition piece", "</title><script>alert(1)</script>")
        .replace("Bolt", "a | b *bold* [x](javascript:1)\\n# head");
    let (svg, note) = Analysed::new(&hostile, FORECAST, "{}").drawn(960);
    let (elements, text) = read(&svg);
    assert!(elements.iter().all(|(name, _)| name != "script"), "{svg}");
    assert!(text.contains("&lt;script&gt;") || text.contains("&lt;\n"), "{text}");
    assert!(
        !svg.contains("href") && !svg.contains("http://localhost") && !svg.contains("url(http")
    );
    assert!(note.contains(r"\</title\>\<script\>"), "{note}");
    assert!(note.contains(r"a \| b \*bold\* \[x\](javascript:1) \# head"), "{note}");
}

#[test]
fn a_note_says_what_was_decided_and_why() {
    let options = r#"{"uncertainty": "dnv-alpha"}"#;
    let (_, note) = Analysed::new(SCHEDULE, FORECAST, options).drawn(960);
    for told in [
        "# Weather windows: Install the transition piece",
        "table 4-1; superseded by DNV-ST-N001",
        "- Limit: significant wave height at most 1.5 m",
        "- **stale\\_forecast**: the forecast is old",
        "forecast met-\\<norway\\>, issued 2026-03-10 06:30Z",
        "| task | start | end | latest start | margin |",
        "- Wave height limit used: 1.0575 m (factor 0.705, row 12 h of table 4-1)",
        "local)",
    ] {
        assert!(note.contains(told), "{told:?} is missing in\n{note}");
    }
}

/// However long the forecast and however many the tasks, a drawing is a page.
#[test]
fn a_large_analysis_is_a_small_drawing() {
    let mut analysed = Analysed::new(SCHEDULE, FORECAST, "{}");
    let lift = analysed.schedule.tasks[2].clone();
    assert_eq!(lift.id, "lift");
    analysed.schedule.tasks = (0..250)
        .map(|number| almanac_domain::weather::Task {
            id: number.to_string(),
            predecessors: Vec::new(),
            ..lift.clone()
        })
        .collect();
    let hours = 20_000;
    let time = |hour: i64| analysed.now + SignedDuration::from_hours(hour);
    let value = |hour: i64| (hour % 7 != 6).then(|| Decimal::new(hour % 30, 1));
    let draft = SeriesDraft {
        source: "long".to_owned(),
        step_s: Some(3_600),
        times: (0..hours).map(time).collect(),
        untils: vec![None; hours as usize],
        columns: vec![
            (Variable::WaveHeight, (0..hours).map(value).collect()),
            (Variable::WindSpeed, (0..hours).map(value).collect()),
        ],
    };
    analysed.series = vec![draft.check().unwrap()];
    let (svg, note) = analysed.drawn(960);
    let (elements, text) = read(&svg);
    assert!(text.contains("150 more tasks are not drawn"));
    assert_eq!(count(&elements, "go"), 100 + 1);
    assert!(svg.len() < 4 << 20, "{} bytes", svg.len());
    assert!(note.len() < 8 << 20, "{} bytes", note.len());
    let narrow = analysed.drawn(10).0;
    let (_, text) = read(&narrow);
    assert!(
        text.contains("old at the\n") || text.contains("min old"),
        "nothing is cut off: {text}"
    );
    assert!(narrow.contains(r#"viewBox="0 0 320 "#), "as narrow as drawings get");
}
