//! A CQL server that forgets prepared statements: what is sent to it goes on to a real one, except
//! that it answers some executions with UNPREPARED.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
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

pub struct ForgetfulCql {
    pub address: SocketAddr,
    left: Arc<AtomicU32>,
}

impl ForgetfulCql {
    /// On a loopback port of its own, before the server at this address.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let left = Arc::new(AtomicU32::new(0));
        let forgetful = Self { address, left: left.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the real server");
                let (from_client, to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let to_client = Arc::new(Mutex::new(to_client));
                tokio::spawn(requests(from_client, to_server, to_client.clone(), left.clone()));
                tokio::spawn(async move {
                    while let Some(frame) = Frame::read(&mut from_server).await {
                        frame.write(&mut *to_client.lock().await).await;
                    }
                });
            }
        });
        forgetful
    }

    /// The next executions find their statement forgotten.
    pub fn forget(&self, executions: u32) {
        self.left.store(executions, Ordering::SeqCst);
    }

    /// Executions that are yet to find that.
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::SeqCst)
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    to_client: Arc<Mutex<OwnedWriteHalf>>,
    left: Arc<AtomicU32>,
) {
    while let Some(frame) = Frame::read(&mut client).await {
        let take = |left: u32| left.checked_sub(1);
        let forgets = frame.header[OPCODE] == EXECUTE
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
        if forgets {
            frame.unprepared().write(&mut *to_client.lock().await).await;
        } else {
            frame.write(&mut server).await;
        }
    }
}

/// A frame of the native protocol, version 4: version, flags, stream (2), opcode, length (4).
struct Frame {
    header: [u8; 9],
    body: Vec<u8>,
}

const OPCODE: usize = 4;
const ERROR: u8 = 0x00;
const EXECUTE: u8 = 0x0A;
const UNPREPARED: i32 = 0x2500;
const RESPONSE: u8 = 0x80;

impl Frame {
    async fn read(from: &mut OwnedReadHalf) -> Option<Self> {
        let mut header = [0; 9];
        from.read_exact(&mut header).await.ok()?;
        let [.., a, b, c, d] = header;
        let mut body = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
        from.read_exact(&mut body).await.ok()?;
        Some(Self { header, body })
    }

    /// A peer that is gone ends the reading of the other direction too.
    async fn write(&self, to: &mut OwnedWriteHalf) {
        let frame = [&self.header[..], &self.body].concat();
        let _gone = to.write_all(&frame).await;
    }

    /// The error that tells that the statement of this execution is not known. Its id is the first
    /// field of both, with two bytes of length before it.
    fn unprepared(&self) -> Self {
        let id = &self.body[..2 + usize::from(u16::from_be_bytes([self.body[0], self.body[1]]))];
        let message = b"forgotten";
        let mut body = UNPREPARED.to_be_bytes().to_vec();
        body.extend((message.len() as u16).to_be_bytes());
        body.extend(message);
        body.extend(id);
        let mut header = self.header;
        header[0] |= RESPONSE;
        header[1] = 0;
        header[OPCODE] = ERROR;
        header[5..].copy_from_slice(&(body.len() as u32).to_be_bytes());
        Self { header, body }
    }
}
