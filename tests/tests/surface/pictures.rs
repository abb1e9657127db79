//! Pictures of recipes: set, shown in sizes, replaced, taken away; and what of a deleted recipe is
//! shown to whom.

use super::{ENGINES, SAMPLE, png, read};
use almanac_tests::process::{Installation, Process};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_pixel(width, height, image::Rgb([90, 140, 30]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

pub(super) fn bearer(installation: &Installation, scope: &str, subject: &str) -> String {
    let output = installation.command("up", &["token", "--scope", scope, "--subject", subject]);
    assert!(output.status.success(), "{output:?}");
    format!("Bearer {}", String::from_utf8(output.stdout).unwrap().trim())
}

async fn put_picture(
    process: &Process,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> (StatusCode, Value) {
    let request = almanac_tests::process::client().put(process.url(path));
    let answer = request.header("content-type", kind).body(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_have_pictures() {
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let mut process = installation.up().await;
        let created = process.send("POST", "/v1/recipes", &[], SAMPLE.to_owned()).await.unwrap();
        let path = format!("{}/thumbnail", created.header("location"));
        let (status, set) = put_picture(&process, &path, "image/png", png(1_600, 900)).await;
        assert_eq!((status, &set["version"]), (StatusCode::OK, &json!(2)), "{set}");
        let address = set["thumbnail"].as_str().unwrap().to_owned();
        let client = almanac_tests::process::client();
        let get = async |address: &str| client.get(process.url(address)).send().await.unwrap();
        process
            .until("the picture", || async {
                (get(&address).await.status() == StatusCode::OK).then_some(())
            })
            .await;
        for (query, width) in [("", 1_024), ("&width=200", 256), ("&width=1024", 1_024)] {
            let answer = get(&format!("{address}{query}")).await;
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), "image/jpeg");
            assert!(header("cache-control").contains("immutable"), "{engine:?}");
            let tag = header("etag");
            let bytes = answer.bytes().await.unwrap();
            assert!(bytes.len() < 256_000);
            assert_eq!(image::load_from_memory(&bytes).unwrap().width(), width, "{query}");
            let again = client.get(process.url(&format!("{address}{query}")));
            let again = again.header("if-none-match", tag).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        }
        assert!(
            !get(&path).await.headers()["cache-control"].to_str().unwrap().contains("immutable")
        );
        // The same picture is no event; what is none changes nothing.
        let (_, same) = put_picture(&process, &path, "image/png", png(1_600, 900)).await;
        assert_eq!(same["version"], 2);
        for (kind, body, expected) in [
            ("image/jpeg", png(8, 8), 422),
            ("image/gif", b"GIF89a".to_vec(), 415),
            ("image/png", png(8, 8)[..40].to_vec(), 422),
            ("image/png", vec![0; 9 << 20], 413),
        ] {
            let (status, problem) = put_picture(&process, &path, kind, body).await;
            assert_eq!(status.as_u16(), expected, "{kind}: {problem}");
        }
        assert_eq!(get(&format!("{path}?width=0")).await.status(), StatusCode::BAD_REQUEST);
        let (_, history) = process.get(&format!("{}/history", created.header("location"))).await;
        assert_eq!(history["items"][1]["type"], "recipe.thumbnail_set");
        let (_, events) = process.get("/v1/events/recipes.events?type=recipe.thumbnail_set").await;
        assert!(events["items"][0]["data"]["image"].as_str().unwrap().starts_with("/9j/"));

        // The address of the picture before shows the newest, which nobody keeps for it.
        let (status, set) = put_picture(&process, &path, "image/jpg", jpeg(640, 480)).await;
        assert_eq!((status, &set["version"]), (StatusCode::OK, &json!(3)), "{set}");
        let newest = set["thumbnail"].as_str().unwrap().to_owned();
        process
            .until("the newest picture", || async {
                let caching = get(&newest).await.headers()["cache-control"].clone();
                (caching == "public, max-age=31536000, immutable").then_some(())
            })
            .await;
        for query in ["", "&width=64"] {
            let (older, newest) = (format!("{address}{query}"), format!("{newest}{query}"));
            let (older, newest) = (get(&older).await, get(&newest).await);
            assert_eq!(older.headers()["cache-control"], "no-cache", "{query}");
            assert_eq!(older.headers()["etag"], newest.headers()["etag"]);
            assert_eq!(older.bytes().await.unwrap(), newest.bytes().await.unwrap());
        }

        // It is taken away with all that a write promises.
        let stale = [("if-match", "\"1\"")];
        let stale = process.send("DELETE", &path, &stale, "").await.unwrap();
        assert_eq!(
            (stale.status, stale.header("etag")),
            (StatusCode::PRECONDITION_FAILED, "\"3\"")
        );
        let once = [("if-match", "\"3\""), ("idempotency-key", "once")];
        let removed = process.send("DELETE", &path, &once, "").await.unwrap();
        assert_eq!((removed.status, removed.version()), (StatusCode::OK, Some(4)), "{removed:?}");
        assert_eq!((removed.header("etag"), &removed.body["thumbnail"]), ("\"4\"", &Value::Null));
        let again = process.send("DELETE", &path, &once, "").await.unwrap();
        assert_eq!((&again.body, again.header("idempotent-replayed")), (&removed.body, "true"));
        let token = [("consistency-token", removed.header("consistency-token"))];
        let gone = read(&process, &path, &token).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{gone:?}");
        let none = process.send("DELETE", &path, &[], "").await.unwrap();
        assert_eq!((none.status, none.version()), (StatusCode::OK, Some(4)), "there is none");
        let (_, history) = process.get(&format!("{}/history", created.header("location"))).await;
        assert_eq!(history["items"][3]["type"], "recipe.thumbnail_removed");
        assert_eq!(history["items"][3]["changed"], json!(["thumbnail"]));
        let (_, set) = put_picture(&process, &path, "image/png", png(1_600, 900)).await;
        assert_eq!((&set["version"], &set["thumbnail"]), (&json!(5), &json!(address)));
        assert!(process.stop().success());
    }
}

/// What a deleted recipe was is its owner's and admins' to see, until it is restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_recipe_is_nobody_elses() {
    for engine in ENGINES {
        let installation = Installation::new(engine);
        let process = installation.up().await;
        let [mary, tom, admin] = ["mary", "tom", "ann"].map(|subject| {
            let scope = if subject == "ann" { "admin" } else { "recipes:write" };
            bearer(&installation, scope, subject)
        });
        let [mary, tom, admin] =
            [&mary, &tom, &admin].map(|bearer| ("authorization", bearer.as_str()));
        let created =
            process.send("POST", "/v1/recipes", &[mary], SAMPLE.to_owned()).await.unwrap();
        let path = created.header("location").to_owned();
        let thumbnail = format!("{path}/thumbnail");
        let picture = almanac_tests::process::client().put(process.url(&thumbnail));
        let picture = picture.header(mary.0, mary.1).header("content-type", "image/png");
        let picture: Value = picture.body(png(80, 60)).send().await.unwrap().json().await.unwrap();
        let shown = [
            format!("{path}?version=1"),
            format!("{path}?version=1&serves=3"),
            format!("{path}/history"),
            format!("{path}?as_of={}", created.body["created_at"].as_str().unwrap()),
            thumbnail.clone(),
            format!("{thumbnail}?width=64"),
            picture["thumbnail"].as_str().unwrap().to_owned(),
        ];
        let deleted = process.send("DELETE", &path, &[mary], "").await.unwrap();
        let token = ("consistency-token", deleted.header("consistency-token"));
        for address in &shown {
            let refused = read(&process, address, &[token, tom]).await;
            assert_eq!(refused.status, StatusCode::GONE, "{address}: {refused:?}");
            let bad = read(&process, address, &[token, ("authorization", "Bearer x")]).await;
            assert_eq!(bad.status, StatusCode::UNAUTHORIZED, "{address}: {bad:?}");
            for who in [mary, admin] {
                let answer = read(&process, address, &[token, who]).await;
                assert_eq!(answer.status, StatusCode::OK, "{address}");
                assert_eq!(answer.header("cache-control"), "private, no-store", "{address}");
                assert!(answer.header("vary").contains("Authorization"), "{address}");
            }
        }
        assert_eq!(read(&process, &path, &[mary]).await.status, StatusCode::GONE, "itself is gone");
        let restore = format!("{path}/restore");
        let restored = process.send("POST", &restore, &[mary], "").await.unwrap();
        let token = [("consistency-token", restored.header("consistency-token")), tom];
        for address in &shown[..4] {
            let answer = read(&process, address, &token).await;
            assert_eq!(answer.status, StatusCode::OK, "{address}");
            assert_eq!(answer.header("cache-control"), "public, no-cache", "{address}");
        }
    }
}
