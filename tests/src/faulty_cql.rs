//! A CQL server that fails on demand: what is sent to it goes on to a real one, except that it
//! answers some executions and batches with an error.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server does not know the statement, which may be a single one.
    Unprepared,
    /// Replicas did not take a write in time.
    WriteTimeout,
}

pub struct FaultyCql {
    pub address: SocketAddr,
    faults: Faults,
    answered: Arc<AtomicU64>,
}

/// The fault, and how many requests are yet to meet it.
type Faults = Arc<parking_lot::Mutex<(Fault, u32)>>;

impl FaultyCql {
    /// On a loopback port of its own, before the server at this address.
    pub async fn start(server: String) -> Self {
        let faults = Faults::new(parking_lot::Mutex::new((Fault::Unprepared, 0)));
        let answered = Arc::<AtomicU64>::default();
        let (for_requests, for_answers) = (faults.clone(), answered.clone());
        let address = before(server, move |client, server| {
            let (from_client, to_client) = client.into_split();
            let (mut from_server, to_server) = server.into_split();
            let to_client = Arc::new(Mutex::new(to_client));
            tokio::spawn(requests(from_client, to_server, to_client.clone(), for_requests.clone()));
            let answered = for_answers.clone();
            tokio::spawn(async move {
                while let Some(frame) = Frame::read(&mut from_server).await {
                    answered.fetch_add(frame.body.len() as u64, Ordering::Relaxed);
                    frame.write(&mut *to_client.lock().await).await;
                }
            });
        });
        Self { address: address.await, faults, answered }
    }

    /// So many requests that may meet it do so from now on.
    pub fn fail(&self, fault: Fault, requests: u32) {
        *self.faults.lock() = (fault, requests);
    }

    /// Bytes that the server answered with until now.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests that are yet to fail.
    pub fn left(&self) -> u32 {
        self.faults.lock().1
    }
}

/// Listens on a loopback port; each client that comes is connected with one of its own to the server.
pub(crate) async fn before(
    server: String,
    connect: impl Fn(TcpStream, TcpStream) + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("the real server");
            connect(client, server);
        }
    });
    address
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    to_client: Arc<Mutex<OwnedWriteHalf>>,
    faults: Faults,
) {
    while let Some(frame) = Frame::read(&mut client).await {
        match frame.meets(&faults) {
            Some(fault) => frame.answer(fault).write(&mut *to_client.lock().await).await,
            None => frame.write(&mut server).await,
        }
    }
}

/// A frame of the native protocol, version 4: version, flags, stream (2), opcode, length (4).
pub(crate) struct Frame {
    header: [u8; 9],
    pub(crate) body: Vec<u8>,
}

const OPCODE: usize = 4;
const ERROR: u8 = 0x00;
pub(crate) const EXECUTE: u8 = 0x0A;
pub(crate) const BATCH: u8 = 0x0D;
const UNPREPARED: i32 = 0x2500;
const WRITE_TIMEOUT: i32 = 0x1100;
const LOCAL_QUORUM: u16 = 0x0006;
const RESPONSE: u8 = 0x80;

impl Frame {
    pub(crate) async fn read(from: &mut OwnedReadHalf) -> Option<Self> {
        let mut header = [0; 9];
        from.read_exact(&mut header).await.ok()?;
        let [.., a, b, c, d] = header;
        let mut body = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
        from.read_exact(&mut body).await.ok()?;
        Some(Self { header, body })
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.header[OPCODE]
    }

    /// Which request an answer is to.
    pub(crate) fn stream(&self) -> [u8; 2] {
        [self.header[2], self.header[3]]
    }

    /// A peer that is gone ends the reading of the other direction too.
    pub(crate) async fn write(&self, to: &mut OwnedWriteHalf) {
        let frame = [&self.header[..], &self.body].concat();
        let _gone = to.write_all(&frame).await;
    }

    /// A batch may name several statements, so none of it is forgotten.
    fn meets(&self, faults: &Faults) -> Option<Fault> {
        let (fault, left) = &mut *faults.lock();
        let may = match fault {
            Fault::Unprepared => self.header[OPCODE] == EXECUTE,
            Fault::WriteTimeout => [EXECUTE, BATCH].contains(&self.header[OPCODE]),
        };
        if !may || *left == 0 {
            return None;
        }
        *left -= 1;
        Some(*fault)
    }

    /// The error that answers this request.
    fn answer(&self, fault: Fault) -> Self {
        let string = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
        let mut body = match fault {
            Fault::Unprepared => UNPREPARED,
            Fault::WriteTimeout => WRITE_TIMEOUT,
        }
        .to_be_bytes()
        .to_vec();
        body.extend(string("on demand"));
        match fault {
            Fault::Unprepared => {
                // The id of the statement is the first field of both, after two bytes of length.
                let id = 2 + usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
                body.extend(&self.body[..id]);
            }
            Fault::WriteTimeout => {
                body.extend(LOCAL_QUORUM.to_be_bytes());
                let (received, required) = (0_i32, 1_i32);
                body.extend([received, required].map(i32::to_be_bytes).concat());
                body.extend(string("UNLOGGED_BATCH"));
            }
        }
        let mut header = self.header;
        header[0] |= RESPONSE;
        header[1] = 0;
        header[OPCODE] = ERROR;
        header[5..].copy_from_slice(&(body.len() as u32).to_be_bytes());
        Self { header, body }
    }
}
