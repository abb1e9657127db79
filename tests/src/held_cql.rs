//! A CQL server that holds a write back until it is let go, as a network or a stopped process may, and that,
//! if a test wants so, stamps every write with the time at which it passes: what stands in the tables then is
//! what was written last, not what is newest in the log.

use crate::faulty_cql::{BATCH, EXECUTE, Frame, before};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::watch,
};

pub struct HeldCql {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    stamps: bool,
    last_stamp: AtomicI64,
    /// What is prepared, by id.
    statements: Mutex<HashMap<Vec<u8>, Statement>>,
    /// Writes into this table with this in them are held.
    wanted: Mutex<Option<(String, String)>>,
    state: watch::Sender<Held>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// One is held.
    Yes,
    LetGo,
    /// The server has answered it.
    Applied,
}

#[derive(Clone)]
struct Statement {
    table: String,
    /// Which of its values is the time of the write.
    timestamp_at: usize,
}

impl Statement {
    /// `None` for what writes nothing.
    fn of(cql: &str) -> Option<Self> {
        let (before, timestamp_at) = match cql.split_once(' ')? {
            ("INSERT", rest) => {
                let values = rest.split_once("VALUES (")?.1.split_once(')')?.0;
                (rest, values.matches('?').count())
            }
            ("DELETE", rest) => (rest, 0),
            _ => return None,
        };
        let table = before.split_whitespace().nth(1)?.rsplit('.').next()?.to_owned();
        cql.contains("USING TIMESTAMP ?").then_some(Self { table, timestamp_at })
    }
}

impl HeldCql {
    /// On a loopback port of its own, before the server at this address.
    pub async fn start(server: String, stamps: bool) -> Self {
        let shared = Arc::new(Shared { stamps, ..Shared::default() });
        let all = shared.clone();
        let address = before(server, move |client, server| {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let connection = Arc::new(Connection { shared: all.clone(), ..Default::default() });
            tokio::spawn(connection.clone().requests(from_client, to_server));
            tokio::spawn(connection.answers(from_server, to_client));
        });
        Self { address: address.await, shared }
    }

    /// The next write into this table with this text in it stays here.
    pub fn hold(&self, table: &str, text: &str) {
        *self.shared.wanted.lock() = Some((table.to_owned(), text.to_owned()));
    }

    /// Returns once a write is held.
    pub async fn holds(&self) {
        self.reached(Held::Yes).await;
    }

    /// Lets it go, and returns once the server has answered it.
    pub async fn let_go(&self) {
        self.shared.state.send_replace(Held::LetGo);
        self.reached(Held::Applied).await;
    }

    async fn reached(&self, wanted: Held) {
        let mut state = self.shared.state.subscribe();
        let reached = state.wait_for(|state| *state == wanted);
        let reached = tokio::time::timeout(crate::process::PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("it is not {wanted:?} in time")).expect("it lives");
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            stamps: false,
            last_stamp: AtomicI64::default(),
            statements: Mutex::default(),
            wanted: Mutex::default(),
            state: watch::Sender::new(Held::Nothing),
        }
    }
}

impl Shared {
    /// As a server stamps a write that names no time: in microseconds, and never the same twice.
    fn stamp(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_micros() as i64;
        let next = |last| Some(now.max(last + 1));
        let before = self.last_stamp.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        now.max(before.expect("always a next") + 1)
    }
}

#[derive(Default)]
struct Connection {
    shared: Arc<Shared>,
    /// What is being prepared, by stream.
    preparing: Mutex<HashMap<[u8; 2], String>>,
    /// The stream of the held write.
    held: Mutex<Option<[u8; 2]>>,
}

const PREPARE: u8 = 0x09;
const RESULT: u8 = 0x08;
const PREPARED: [u8; 4] = 4_i32.to_be_bytes();

impl Connection {
    async fn requests(self: Arc<Self>, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) {
        while let Some(mut frame) = Frame::read(&mut client).await {
            match frame.opcode() {
                PREPARE => {
                    let cql = String::from_utf8_lossy(&frame.body[4..]).into_owned();
                    self.preparing.lock().insert(frame.stream(), cql);
                }
                opcode @ (EXECUTE | BATCH) => {
                    if self.is_wanted(opcode, &mut frame) {
                        *self.held.lock() = Some(frame.stream());
                        self.shared.state.send_replace(Held::Yes);
                        let mut state = self.shared.state.subscribe();
                        let _ = state.wait_for(|state| *state == Held::LetGo).await;
                    }
                    if self.shared.stamps {
                        let stamp = self.shared.stamp();
                        self.written(opcode, &mut frame, |_, time| {
                            time.copy_from_slice(&stamp.to_be_bytes());
                        });
                    }
                }
                _ => {}
            }
            frame.write(&mut server).await;
        }
    }

    async fn answers(self: Arc<Self>, mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
        while let Some(frame) = Frame::read(&mut server).await {
            let prepared = self.preparing.lock().remove(&frame.stream());
            if let Some(statement) = prepared.as_deref().and_then(Statement::of)
                && frame.opcode() == RESULT
                && frame.body[..4] == PREPARED
            {
                let length = usize::from(u16::from_be_bytes([frame.body[4], frame.body[5]]));
                let id = frame.body[6..6 + length].to_vec();
                self.shared.statements.lock().insert(id, statement);
            }
            let is_held = *self.held.lock() == Some(frame.stream());
            if is_held {
                assert_eq!(frame.opcode(), RESULT, "the held write is taken");
                *self.held.lock() = None;
                self.shared.state.send_replace(Held::Applied);
            }
            frame.write(&mut client).await;
        }
    }

    /// Whether this is the write to hold; there is one.
    fn is_wanted(&self, opcode: u8, frame: &mut Frame) -> bool {
        let mut wanted = self.shared.wanted.lock();
        let Some((table, text)) = &*wanted else { return false };
        let has_text = frame.body.windows(text.len()).any(|part| part == text.as_bytes());
        let mut is_of_table = false;
        self.written(opcode, frame, |statement, _| is_of_table |= statement.table == *table);
        let is_it = has_text && is_of_table;
        if is_it {
            *wanted = None;
        }
        is_it
    }

    /// Goes through the writes of a request, with the time of each.
    fn written(&self, opcode: u8, frame: &mut Frame, mut each: impl FnMut(&Statement, &mut [u8])) {
        let statements = self.shared.statements.lock();
        let mut body = Cursor { body: &mut frame.body, at: 0 };
        if opcode == EXECUTE {
            let id = body.string();
            let Some(statement) = statements.get(&id) else { return };
            // Consistency, and flags that say that values follow.
            body.at += 3;
            body.values(statement, &mut each);
            return;
        }
        body.at += 1;
        for _ in 0..body.short() {
            let is_prepared = body.body[body.at] == 1;
            assert!(is_prepared, "statements of batches are prepared");
            body.at += 1;
            let id = body.string();
            let Some(statement) = statements.get(&id) else { return };
            body.values(statement, &mut each);
        }
    }
}

struct Cursor<'a> {
    body: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn short(&mut self) -> usize {
        let short = u16::from_be_bytes([self.body[self.at], self.body[self.at + 1]]);
        self.at += 2;
        usize::from(short)
    }

    fn string(&mut self) -> Vec<u8> {
        let length = self.short();
        let string = self.body[self.at..self.at + length].to_vec();
        self.at += length;
        string
    }

    fn values(&mut self, statement: &Statement, each: &mut impl FnMut(&Statement, &mut [u8])) {
        for place in 0..self.short() {
            let length = self.body[self.at..self.at + 4].try_into().map(i32::from_be_bytes);
            let length = usize::try_from(length.expect("four bytes")).unwrap_or(0);
            self.at += 4;
            if place == statement.timestamp_at {
                assert_eq!(length, 8, "a time has eight bytes");
                each(statement, &mut self.body[self.at..self.at + length]);
            }
            self.at += length;
        }
    }
}
