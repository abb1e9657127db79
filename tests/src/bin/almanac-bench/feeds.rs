//! Feeds to measure with.

use std::fmt::Write;

/// Over how many days plans are spread: 24 months.
const DAYS: u64 = 730;

/// Plans spread evenly over [`DAYS`], with distinct starts; another version changes every plan.
pub(crate) fn feed(plans: u64, version: u64) -> String {
    with_zones(plans, version, 2)
}

/// The same with this many zones in each plan.
pub(crate) fn with_zones(plans: u64, version: u64, zones: u64) -> String {
    written(plans, DAYS, zones, |plan| About {
        title: format!("Camela en concierto {plan}"),
        sell_from: "2030-07-01T00:00:00",
        sold_out: false,
        capacity: 243 + version,
        highest_price: 20,
    })
}

/// Plans that questions tell apart: three words of [`WORDS`] in each title, prices up to
/// [`PRICES`], a third on sale, two thirds later, every fiftieth sold out.
pub(crate) fn varied(plans: u64) -> String {
    varied_within(plans, DAYS)
}

/// The same within the first so many days.
pub(crate) fn varied_within(plans: u64, days: u64) -> String {
    written(plans, days, 2, |plan| {
        let random = |salt: u64| scattered(plan * 8 + salt);
        let words = [0, 1, 2].map(|salt| word(random(salt) % WORDS));
        About {
            title: words.join(" "),
            sell_from: if random(3) % 3 == 0 {
                "2020-07-01T00:00:00"
            } else {
                "2030-07-01T00:00:00"
            },
            sold_out: random(4) % 50 == 0,
            capacity: 1 + random(5) % 500,
            highest_price: 10 + random(6) % PRICES,
        }
    })
}

/// Words that titles are made of, and prices that they have.
pub(crate) const WORDS: u64 = 2_000;
pub(crate) const PRICES: u64 = 200;

/// One of the words: three syllables.
pub(crate) fn word(number: u64) -> String {
    const SYLLABLES: [&str; 16] = [
        "ba", "co", "di", "fe", "gu", "la", "mo", "ni", "pe", "ru", "sa", "to", "vi", "ze", "ju",
        "ra",
    ];
    let places = [number % 16, number / 16 % 16, number / 256 % 16];
    places.map(|place| SYLLABLES[place as usize]).concat()
}

/// A number that does not tell which one it was made of.
pub(crate) fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

struct About {
    title: String,
    sell_from: &'static str,
    sold_out: bool,
    capacity: u64,
    highest_price: u64,
}

fn written(plans: u64, days: u64, zones: u64, about: impl Fn(u64) -> About) -> String {
    let mut out = String::with_capacity((plans * (250 + zones * 85)) as usize);
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><planList><output>\n");
    let step = days * 86_400 / plans.max(1);
    for plan in 0..plans {
        let second = plan * step;
        let (day, rest) = (second / 86_400, second % 86_400);
        let (year, month, day) = (2031 + day / 365, day % 365 / 31 + 1, day % 365 % 28 + 1);
        let (hour, minute, second) = (rest / 3_600, rest % 3_600 / 60, rest % 60);
        let date = format!("{year}-{month:02}-{day:02}");
        let start = format!("{date}T{hour:02}:{minute:02}:{second:02}");
        let About { title, sell_from, sold_out, capacity, highest_price } = about(plan);
        let _ = write!(
            out,
            "<base_plan base_plan_id=\"b{plan}\" sell_mode=\"online\" organizer_company_id=\"{}\" title=\"{title}\">\
             <plan plan_id=\"{plan}\" plan_start_date=\"{start}\" plan_end_date=\"{date}T23:59:59\" \
             sell_from=\"{sell_from}\" sell_to=\"{start}\" sold_out=\"{sold_out}\">",
            plan % 40,
        );
        for zone in 0..zones {
            let _ = write!(
                out,
                "<zone zone_id=\"{zone}\" capacity=\"{capacity}\" price=\"{}.00\" name=\"Platea\" numbered=\"{}\"/>",
                highest_price - zone % 10,
                zone % 2 == 0,
            );
        }
        out.push_str("</plan></base_plan>\n");
    }
    out.push_str("</output></planList>\n");
    out
}
