//! The real binary, launched, killed and asked.

use crate::address;
use reqwest::StatusCode;
use scylla::client::session_builder::SessionBuilder;
use serde_json::Value;
use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Beyond this a test has failed: far beyond what the slowest machine takes.
pub const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Embedded,
    Cluster,
}

/// One client for all: making one reads the system's certificates.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: std::sync::OnceLock<reqwest::Client> = std::sync::OnceLock::new();
    CLIENT.get_or_init(|| {
        let builder = reqwest::Client::builder().no_gzip().no_brotli();
        builder.pool_max_idle_per_host(0).build().unwrap()
    })
}

/// One installation: its folder, and the names it has on shared servers.
pub struct Installation {
    pub engine: Engine,
    folder: tempfile::TempDir,
    /// Of its keyspace; its topics begin with this and a full stop.
    pub name: String,
    providers: Vec<(String, String)>,
    extra: String,
    demo: bool,
    /// What the providers' naive times mean.
    pub timezone: String,
}

impl Installation {
    pub fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = crate::unique('t');
        Self {
            engine,
            folder,
            name,
            providers: Vec::new(),
            extra: String::new(),
            demo: false,
            timezone: "Europe/Madrid".to_owned(),
        }
    }

    pub fn with_provider(mut self, name: &str, url: &str) -> Self {
        self.providers.push((name.to_owned(), url.to_owned()));
        self
    }

    /// Lines of configuration for the top of the file, such as `http.lists = 1`.
    pub fn with(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// With the demonstration: thousands of plans that change every few seconds, and forecasts.
    pub fn with_demo(mut self) -> Self {
        self.demo = true;
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The full name of a topic.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// Writes the configuration of one process and returns its file.
    fn configure(&self, process: &str, port: u16) -> PathBuf {
        let data = self.folder.path().join(process);
        let mut text = format!(
            "{}demo = {}\ndata_dir = {:?}\npartitions = 4\nsession_timeout = \"2s\"\ncommands.wait = \"20s\"\ntopic_prefix = \"{}.\"\n\
             http.listen = \"127.0.0.1:{port}\"\n\
             ingest.backoff = \"50ms\"\ningest.breaker_pause = \"200ms\"\n",
            self.extra, self.demo, data, self.name
        );
        if self.engine == Engine::Cluster {
            text = format!(
                "engine = \"cluster\"\n{text}\
                 [kafka]\nbootstrap_servers = \"{}\"\nreplication_factor = 1\nmin_insync_replicas = 1\n\
                 [schema_registry]\nurl = \"{}\"\n\
                 [scylla]\nnodes = [\"{}\"]\nkeyspace = \"{}\"\n\
                 replication = \"{{'class': 'SimpleStrategy', 'replication_factor': 1}}\"\n",
                address("ALMANAC_TEST_KAFKA"),
                address("ALMANAC_TEST_REGISTRY"),
                address("ALMANAC_TEST_SCYLLA"),
                self.name,
            );
        }
        for (name, url) in &self.providers {
            let timezone = &self.timezone;
            text.push_str(&format!(
                "[[providers]]\nname = {name:?}\nkind = \"fever-plans\"\nurl = {url:?}\n\
                 timezone = \"{timezone}\"\ninterval = \"50ms\"\nmax_interval = \"300ms\"\n"
            ));
        }
        let file = self.folder.path().join(format!("{process}.toml"));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Runs a command of the binary against a process that was started under this name.
    pub fn command(&self, process: &str, arguments: &[&str]) -> std::process::Output {
        let config = self.folder.path().join(format!("{process}.toml"));
        Command::new(binary()).arg("--config").arg(config).args(arguments).output().unwrap()
    }

    /// Starts a process; `name` names its data folder and log.
    pub fn start(&self, role: &str, name: &str) -> Process {
        self.start_with(role, name, &[])
    }

    /// Starts a process with variables in its environment.
    pub fn start_with(&self, role: &str, name: &str, variables: &[(&str, &str)]) -> Process {
        self.start_of(&binary(), role, name, variables)
    }

    /// Starts a process of another binary.
    pub fn start_of(
        &self,
        binary: &Path,
        role: &str,
        name: &str,
        variables: &[(&str, &str)],
    ) -> Process {
        let port = free_port();
        let config = self.configure(name, port);
        let mut command = Command::new(binary);
        command.arg("--config").arg(&config).arg(role).envs(variables.iter().copied());
        self.spawn(command, port, name)
    }

    /// Starts a process that somebody else configured; `name` names its log.
    pub fn spawn(&self, mut command: Command, port: u16, name: &str) -> Process {
        let log_path = self.folder.path().join(format!("{name}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the binary starts; `make test` builds it");
        Process { child, base: format!("http://127.0.0.1:{port}"), log_path }
    }

    /// Starts everything in one process and waits until it is ready.
    pub async fn up(&self) -> Process {
        let process = self.start("up", "up");
        process.ready().await;
        process
    }
}

/// Each table costs Cassandra about a megabyte for as long as it is there.
impl Drop for Installation {
    fn drop(&mut self) {
        if self.engine == Engine::Cluster {
            drop(Keyspace(self.name.clone()));
        }
    }
}

/// A keyspace that goes with its test.
pub struct Keyspace(pub String);

impl Drop for Keyspace {
    fn drop(&mut self) {
        let drop_keyspace = format!("DROP KEYSPACE IF EXISTS {}", self.0);
        // Of a thread of its own: a runtime may not be started within another.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let node = address("ALMANAC_TEST_SCYLLA");
                let session = SessionBuilder::new().known_node(node).build().await;
                let result = match session {
                    Ok(session) => session.query_unpaged(drop_keyspace, ()).await.map(drop),
                    // A test may have stopped the server.
                    Err(error) => return eprintln!("the keyspace of a test stays: {error}"),
                };
                if let Err(error) = result {
                    eprintln!("the keyspace of a test stays: {error}");
                }
            });
        });
        let _ = dropping.join();
    }
}

/// Outside the range that the system gives to clients: nothing else takes it before the process
/// does.
pub fn free_port() -> u16 {
    use rand::RngExt;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut random = rand::rng();
    let ports = std::iter::repeat_with(|| random.random_range(15_000..32_000));
    ports.take(1_000).find(is_free).expect("a free port")
}

/// `target/<profile>/almanac`: beside a program, or beside the tests' own `deps` folder.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().unwrap();
    let profile = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    profile.join("almanac")
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn version(&self) -> Option<u64> {
        self.body["version"].as_u64()
    }
}

pub struct Process {
    child: Child,
    base: String,
    log_path: PathBuf,
}

impl Process {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log_path).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and its end awaited.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The same, of one that must be alive until then.
    pub fn kill_alive(&mut self) {
        self.kill();
        let ended = self.child.try_wait().unwrap().expect("its end was awaited");
        assert_eq!(ended.signal(), Some(9), "it had ended before, {ended}:\n{}", self.log());
    }

    /// Stops all its threads, and returns once they stand still.
    pub async fn pause(&self) {
        self.signal("STOP");
        let stands = async || (self.state() == Some('T')).then_some(());
        self.until("standstill", stands).await;
    }

    /// A signal by name, to this process.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap();
        assert!(status.success());
    }

    /// Ends in order, within the patience.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What ended is a zombie until its end is awaited.
    fn is_alive(&self) -> bool {
        self.state().is_some_and(|state| state != 'Z')
    }

    /// The letter that the system has for it, such as R, S, or T while it is stopped.
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    pub async fn ready(&self) {
        let what = "readiness";
        self.until(what, || async {
            let answer = client().get(self.url("/readyz")).send().await.ok();
            assert!(answer.is_some() || self.is_alive(), "it ended");
            let answer = answer?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = client().get(self.url(path)).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A request with a body and headers; the answer with its headers.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> reqwest::Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = client().request(method, self.url(path)).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await?;
        Ok(Answer {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }

    /// The events of a search.
    pub async fn search(&self, query: &str) -> Vec<Value> {
        let (status, body) = self.get(&format!("/search?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["error"], Value::Null);
        body["data"]["events"].as_array().unwrap().clone()
    }

    /// What the provider's page says, once it was ever fetched.
    pub async fn provider(&self, name: &str) -> Option<Value> {
        let (status, body) = self.get(&format!("/v1/providers/{name}")).await;
        (status == StatusCode::OK).then_some(body)
    }

    /// A recipe, once the tables are as far as this version.
    pub async fn recipe_at(&self, id: &str, version: u64) -> Value {
        self.until(&format!("version {version} of {id}"), || async {
            let (status, body) = self.get(&format!("/v1/recipes/{id}")).await;
            (status == StatusCode::OK && body["version"] == version).then_some(body)
        })
        .await
    }

    /// Keys that the projectors of all partitions have set aside.
    pub async fn parked_keys(&self, projection: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let lines = text.as_str().unwrap().lines();
        lines
            .filter(|line| line.starts_with("almanac_projector_parked_keys{"))
            .filter(|line| line.contains(&format!("projection=\"{projection}\"")))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Tries until there is an answer; panics with the log past the patience.
    pub async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> F,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            if Instant::now() >= deadline {
                let log = self.log();
                let end = log.len().saturating_sub(6_000);
                let end = (end..log.len()).find(|at| log.is_char_boundary(*at));
                panic!("no {what} in time; the log ends:\n{}", &log[end.unwrap_or(log.len())..]);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log_path.display(), self.log());
        }
    }
}
