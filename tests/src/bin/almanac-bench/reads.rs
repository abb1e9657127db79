//! Reads of recipes, beside a bare server that answers the same bytes.

use crate::{
    bare::Bare,
    line,
    load::{Load, choosing_script, wrk_with},
    median,
};
use almanac_tests::process::{Engine, Installation};
use serde_json::Value;

const ROUNDS: usize = 3;
const SECONDS: u32 = 3;
const RECIPES: usize = 10_000;
/// Each is in as many recipes.
const INGREDIENTS: usize = 500;
const RECIPE: &str = include_str!("../../../data/recipe.json");

pub(crate) async fn report(out: &mut String) {
    let installation = Installation::new(Engine::Embedded);
    let process = installation.up().await;
    let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let (mut ids, mut token) = (Vec::new(), String::new());
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..RECIPES {
        let body = RECIPE.replace("GARLIC_CLOVE", &format!("SPICE_{}", number % INGREDIENTS));
        let request = client.post(process.url("/v1/recipes")).body(body).send();
        writes.spawn(async move {
            let answer = request.await.unwrap();
            let token = answer.headers()["consistency-token"].to_str().unwrap().to_owned();
            let recipe: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            (recipe["id"].as_str().unwrap().to_owned(), token)
        });
        if writes.len() >= 64 || number + 1 == RECIPES {
            while let Some(written) = writes.join_next().await {
                let (id, last) = written.unwrap();
                token = last;
                ids.push(id);
                if number + 1 < RECIPES {
                    break;
                }
            }
        }
    }
    let wait = client.get(process.url("/v1/recipes?limit=1")).header("consistency-token", token);
    wait.header("prefer", "wait=30").send().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let by_id: Vec<String> = ids.iter().take(5_000).map(|id| format!("/v1/recipes/{id}")).collect();
    let by_ingredient: Vec<String> =
        (0..INGREDIENTS).map(|n| format!("/v1/recipes?ingredient=spice_{n}")).collect();
    let by_four: Vec<String> = by_ingredient
        .iter()
        .map(|path| format!("{path}&difficulty=easy&author=mary&tool=instant_pot"))
        .collect();
    line!(
        out,
        "## Reads of recipes\n`wrk -t1 -c64`, {RECIPES} recipes, embedded, beside a bare axum server that answers as many bytes from memory, in turns, medians of {ROUNDS} rounds.\n\n| by | bytes | Almanac | bare | ratio | p99 | p99 bare |\n|---|---|---|---|---|---|---|"
    );
    for (what, paths) in [
        ("id", &by_id),
        ("ingredient, 20 recipes each", &by_ingredient),
        ("ingredient, difficulty, author and tool", &by_four),
    ] {
        let script = choosing_script(what, paths);
        let sample = client.get(process.url(&paths[0])).send().await.unwrap();
        let bare = Bare::start(&sample.bytes().await.unwrap());
        let _ = wrk_with(&process.url(""), &script, 1, 64);
        let mut loads: [Vec<Load>; 2] = Default::default();
        for _ in 0..ROUNDS {
            loads[0].push(wrk_with(&process.url(""), &script, SECONDS, 64));
            loads[1].push(wrk_with(&bare.url, &script, SECONDS, 64));
        }
        let [own, bare] = loads.map(|loads| {
            let of = |part: fn(&Load) -> f64| median(loads.iter().map(part).collect());
            (of(|load| load.rate), of(|load| load.p99_ms), of(|load| load.bytes))
        });
        line!(
            out,
            "| {what} | {:.0} | {:.0}/s | {:.0}/s | {:.2} | {:.1} ms | {:.1} ms |",
            own.2,
            own.0,
            bare.0,
            own.0 / bare.0,
            own.1,
            bare.1
        );
    }
}
