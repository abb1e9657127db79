//! Debian's Varnish before instances of Almanac, as deploy/varnish/almanac.vcl configures it.

use almanac_tests::{
    process::{PATIENCE, Process, client},
    root,
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) struct Varnish {
    child: Child,
    base: String,
}

/// An answer out of the cache.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    /// Whose request filled the cache.
    pub(crate) filled_by: String,
    pub(crate) body: Value,
}

impl Varnish {
    pub(crate) async fn start(folder: &Path, port: u16, [first, second]: [&Process; 2]) -> Self {
        let vcl = std::fs::read_to_string(root().join("deploy/varnish/almanac.vcl")).unwrap();
        let port_of = |process: &Process| process.url("").rsplit(':').next().unwrap().to_owned();
        let vcl = vcl.replace("\"8080\"", &format!("{:?}", port_of(first)));
        let vcl = vcl.replace("\"8081\"", &format!("{:?}", port_of(second)));
        let (file, own) = (folder.join("almanac.vcl"), folder.join("varnish"));
        std::fs::write(&file, vcl).unwrap();
        let log = std::fs::File::create(folder.join("varnish.log")).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("varnishd");
        command.env("PATH", format!("{path}:/usr/sbin")).args(["-F", "-j", "none", "-n"]).arg(own);
        command.arg("-a").arg(format!("127.0.0.1:{port}")).arg("-f").arg(file);
        command.args(["-s", "malloc,16m", "-p", "thread_pools=1", "-p", "thread_pool_min=20"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("varnishd; install varnish and varnish-modules");
        let mut varnish = Self { child, base: format!("http://127.0.0.1:{port}") };
        let deadline = Instant::now() + PATIENCE;
        while varnish.get("/healthz").await.is_none() {
            let ended = varnish.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(folder.join("varnish.log")).unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "Varnish: {}", log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        varnish
    }

    pub(crate) async fn get(&self, path: &str) -> Option<reqwest::Response> {
        client().get(format!("{}{path}", self.base)).send().await.ok()
    }

    /// What becomes of a purge from an address of this machine.
    pub(crate) async fn purge_from(&self, address: &str) -> u16 {
        let from = reqwest::Client::builder().local_address(Some(address.parse().unwrap()));
        let purge = from.build().unwrap().request("PURGE".parse().unwrap(), &self.base);
        let answer = purge.header("surrogate-key", "plans recipes").send().await;
        answer.unwrap().status().as_u16()
    }

    /// What Varnish has of an address; nothing where it had to ask for it.
    pub(crate) async fn kept(&self, path: &str) -> Option<Kept> {
        let answer = self.get(path).await?;
        if answer.headers().get("cache-status")? != "HIT" {
            return None;
        }
        assert_eq!(answer.status(), 200, "{path}");
        for name in ["surrogate-key", "xkey", "ratelimit"] {
            assert!(!answer.headers().contains_key(name), "{name} is nobody's business");
        }
        let (_, filled_by) = answer.headers()["x-varnish"].to_str().unwrap().split_once(' ')?;
        let filled_by = filled_by.to_owned();
        Some(Kept { filled_by, body: answer.json().await.unwrap() })
    }
}

impl Drop for Varnish {
    /// In order: its worker would be left behind.
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
    }
}
