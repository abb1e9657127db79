//! Two releases at once, of which the later has one schema version more of every record. Members of each role are
//! replaced one by one while clients write and read, forward and in part back again: every write that was
//! acknowledged is there, every read is answered, and each release reads what the other wrote.

use almanac_event_log::{EventLog, kafka::KafkaLog};
use almanac_schemas::{Registry, schema_id};
use almanac_tests::{
    bare_cluster::{ends_of, records_from, registry},
    changing::{Changing, settled},
    next_release::NextRelease,
    oracle,
    process::{Engine, Installation, Process, binary},
    readers::{CutOff, Readers},
    writers::{Addresses, Writers, check},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

const PLANS: u64 = 40;
/// Who reads a version is replaced before who writes it.
const MEMBERS: [&str; 6] =
    ["projector", "projector", "ingestor", "command-api", "command-api", "query-api"];
/// Writes go to command APIs, and reads to these and the query API.
const ANSWERING: [usize; 3] = [3, 4, 5];
/// What both releases write while each has a member of the role.
const SHARED: [&str; 4] = ["commands", "replies", "recipes.events", "projections.changes"];

#[derive(Clone, Copy)]
enum Release {
    This,
    Next,
}

struct Fleet<'a> {
    installation: &'a Installation,
    next: NextRelease,
    processes: Vec<Process>,
    writes: Addresses,
    reads: Addresses,
    log: Arc<KafkaLog>,
}

impl<'a> Fleet<'a> {
    async fn start(installation: &'a Installation) -> Self {
        let log = Arc::new(KafkaLog::connect(almanac_tests::kafka()).unwrap());
        let (next, processes) = (NextRelease::make(), Vec::new());
        let (writes, reads) = (Addresses::default(), Addresses::default());
        let mut fleet = Self { installation, next, processes, writes, reads, log };
        fleet.processes = (0..MEMBERS.len()).map(|place| fleet.run(place, Release::This)).collect();
        for place in 0..MEMBERS.len() {
            fleet.takes_part(place).await;
        }
        fleet
    }

    fn run(&self, place: usize, release: Release) -> Process {
        let binary: PathBuf = match release {
            Release::This => binary(),
            Release::Next => self.next.binary(),
        };
        // The same member of its group, with the same local state.
        let name = format!("{}-{place}", MEMBERS[place]);
        self.installation.start_of(&binary, MEMBERS[place], &name, &[])
    }

    async fn takes_part(&self, place: usize) {
        self.processes[place].ready().await;
        if let Some(at) = ANSWERING.iter().position(|answering| *answering == place) {
            self.reads.set(at, &self.processes[place]);
            if MEMBERS[place] == "command-api" {
                self.writes.set(at, &self.processes[place]);
            }
        }
    }

    /// Stops members one after the other, no two of one role, and starts each as one of this release.
    async fn replace(&mut self, places: &[usize], release: Release) {
        for place in places.iter().copied() {
            let ended = tokio::task::block_in_place(|| self.processes[place].stop());
            assert!(ended.success(), "{}: {}", MEMBERS[place], self.processes[place].log());
            self.processes[place] = self.run(place, release);
        }
        for place in places {
            self.takes_part(*place).await;
        }
    }

    /// Waits until these topics have news of these releases, and of no other from then on.
    async fn writes(&self, topics: &[&str], this: bool, next: bool) {
        let registry = registry(self.installation);
        let mut known = BTreeMap::new();
        for topic in topics {
            let topic = self.installation.topic(topic);
            let from = ends_of(&*self.log, &topic).await;
            let mut seen = [false, false];
            while seen != [this, next] {
                let what = format!("news in {topic} of this release: {this}, of the next: {next}");
                let log: &dyn EventLog = &*self.log;
                let (topic, from) = (&topic, &from);
                let records = self.processes[ANSWERING[0]]
                    .until(&what, || async move {
                        let records = records_from(log, topic, from).await;
                        (!records.is_empty()).then_some(records)
                    })
                    .await;
                for record in &records {
                    let Some(id) = record.record.value.as_deref().and_then(schema_id) else {
                        continue;
                    };
                    let is_next = is_next(&registry, &mut known, id).await;
                    seen[usize::from(is_next)] = true;
                }
                assert!(this || !seen[0], "{topic}: the release before goes on writing");
            }
        }
    }
}

async fn is_next(registry: &dyn Registry, known: &mut BTreeMap<u32, bool>, id: u32) -> bool {
    if let Some(known) = known.get(&id) {
        return *known;
    }
    let is_next = NextRelease::wrote(registry, id).await.unwrap();
    known.insert(id, is_next);
    is_next
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_work_side_by_side() {
    let changing = Changing::start(PLANS).await;
    let url = changing.provider.url();
    let installation = Installation::new(Engine::Cluster).with_provider("changing", &url);
    let mut fleet = Fleet::start(&installation).await;
    let writers = Writers::start(&fleet.writes);
    let readers = Readers::start(&fleet.reads, CutOff::Fails);
    fleet.writes(&["plans.events", "recipes.events"], true, false).await;

    // One of each, then the others.
    fleet.replace(&[0, 3], Release::Next).await;
    fleet.writes(&SHARED, true, true).await;
    fleet.replace(&[1, 2, 4, 5], Release::Next).await;
    fleet.writes(&["plans.events", "recipes.events"], false, true).await;

    // Back: the release before takes over what the later one wrote.
    fleet.replace(&[0, 3], Release::This).await;
    fleet.writes(&SHARED, true, true).await;

    readers.finish().await;
    let last = changing.freeze();
    let written = writers.finish().await;
    let query_api = &fleet.processes[5];
    settled(query_api).await;
    oracle::check(query_api, PLANS, last).await;
    for place in [3, 4] {
        check(&fleet.processes[place], &written).await;
    }
    for (process, member) in fleet.processes.iter_mut().zip(MEMBERS) {
        assert_eq!(process.parked_keys("plans").await + process.parked_keys("recipes").await, 0);
        assert!(process.stop().success(), "{member}");
        let log = process.log();
        assert!(!log.contains(" ERROR ") && !log.contains("passing over a record"), "{log}");
    }
}
