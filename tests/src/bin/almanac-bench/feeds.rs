//! Feeds to measure with.

use std::fmt::Write;

/// Plans spread evenly over 24 months, with distinct starts; another version changes every plan.
pub(crate) fn feed(plans: u64, version: u64) -> String {
    with_zones(plans, version, 2)
}

/// The same with this many zones in each plan.
pub(crate) fn with_zones(plans: u64, version: u64, zones: u64) -> String {
    let mut out = String::with_capacity((plans * (250 + zones * 85)) as usize);
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><planList><output>\n");
    let step = 730 * 86_400 / plans.max(1);
    for plan in 0..plans {
        let second = plan * step;
        let (day, rest) = (second / 86_400, second % 86_400);
        let (year, month, day) = (2031 + day / 365, day % 365 / 31 + 1, day % 365 % 28 + 1);
        let (hour, minute, second) = (rest / 3_600, rest % 3_600 / 60, rest % 60);
        let date = format!("{year}-{month:02}-{day:02}");
        let start = format!("{date}T{hour:02}:{minute:02}:{second:02}");
        let _ = write!(
            out,
            "<base_plan base_plan_id=\"b{plan}\" sell_mode=\"online\" organizer_company_id=\"{}\" title=\"Camela en concierto {plan}\">\
             <plan plan_id=\"{plan}\" plan_start_date=\"{start}\" plan_end_date=\"{date}T23:59:59\" \
             sell_from=\"2030-07-01T00:00:00\" sell_to=\"{start}\" sold_out=\"false\">",
            plan % 40,
        );
        for zone in 0..zones {
            let _ = write!(
                out,
                "<zone zone_id=\"{zone}\" capacity=\"{}\" price=\"{}.00\" name=\"Platea\" numbered=\"{}\"/>",
                243 + version,
                20 - zone % 10,
                zone % 2 == 0,
            );
        }
        out.push_str("</plan></base_plan>\n");
    }
    out.push_str("</output></planList>\n");
    out
}
