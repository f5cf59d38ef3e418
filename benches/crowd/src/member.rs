//! One session of the crowd: it says Hello, answers Pings, and asks when it is told to.

use crate::Trouble;
use crate::dial::Dialled;
use bench_kit::frame::{
    self, GO_AWAY, GOODBYE, HEADER_LEN, HELLO, Header, ONE_WAY, PING, PONG, WELCOME,
};
use bench_kit::websocket::{self, BINARY, HEADER_MAX, Head};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// Bytes that a session holds to read into while it idles.
const READ: usize = 256;
/// Messages of this size are echoed.
const PAYLOAD: usize = 64;
const MAX_FRAME: u32 = 1 << 20;
const KEY: &str = "bXNndHJhbnMtYmVuY2gtMQ==";
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0xe8];

/// What a session is told.
pub(crate) enum Ask {
    /// One message that has to come back as it went.
    Echo(oneshot::Sender<()>),
    /// One Ping.
    Ping(oneshot::Sender<()>),
    /// Goodbye.
    Close,
}

/// What every session of a run says.
pub(crate) struct Manner {
    pub(crate) raw: bool,
    pub(crate) websocket: bool,
    pub(crate) host: String,
    pub(crate) heartbeat_ms: Option<u32>,
}

pub(crate) struct Member {
    dialled: Dialled,
    raw: bool,
    websocket: bool,
    input: BytesMut,
    id: u32,
}

impl Member {
    /// The handshake above the stream.
    pub(crate) async fn greet(dialled: Dialled, manner: &Manner) -> Result<Self, Trouble> {
        let mut this = Self {
            dialled,
            raw: manner.raw,
            websocket: manner.websocket,
            input: BytesMut::new(),
            id: 0,
        };
        if this.raw {
            // The stream of a QUIC connection exists for the server once something has come over it.
            this.send_message().await?;
            this.expect_message().await?;
            return Ok(this);
        }
        if this.websocket {
            let request = websocket::upgrade_request(&manner.host, KEY, Some("msgtrans.v2"));
            this.write(request.as_bytes()).await?;
            let len = loop {
                this.read().await?;
                if let Some(len) = websocket::http_head_len(&this.input) {
                    break len;
                }
            };
            let head = this.input.split_to(len);
            if !head.starts_with(b"HTTP/1.1 101") {
                return Err("no upgrade".into());
            }
        }
        let mut tlvs = Vec::new();
        frame::push_tlv(&mut tlvs, 1, &MAX_FRAME.to_be_bytes());
        frame::push_tlv(&mut tlvs, 2, &0u32.to_be_bytes());
        if let Some(heartbeat) = manner.heartbeat_ms {
            frame::push_tlv(&mut tlvs, 3, &heartbeat.to_be_bytes());
        }
        this.send(HELLO, 0, &tlvs).await?;
        let (header, _) = this.frame().await?;
        if header.packet_type != WELCOME {
            return Err(format!("expected Welcome, got {header:?}").into());
        }
        Ok(this)
    }

    /// Idles, answers and asks until it is told to close.
    pub(crate) async fn live(mut self, mut asks: mpsc::Receiver<Ask>) -> Result<(), Trouble> {
        let mut waiting: Option<oneshot::Sender<()>> = None;
        loop {
            // What is there already comes first; both branches may be dropped without loss.
            while let Some((header, payload)) = self.whole()? {
                let answered = match header.packet_type {
                    PING => {
                        self.send(PONG, header.message_id, &payload).await?;
                        false
                    }
                    PONG => true,
                    ONE_WAY if header.message_id == self.id && payload[..] == message() => true,
                    GOODBYE | GO_AWAY => return Err("the server said goodbye".into()),
                    _ => return Err(format!("unexpected {header:?}").into()),
                };
                if answered && let Some(waiting) = waiting.take() {
                    // Nobody waits any more once time is up.
                    let _ = waiting.send(());
                }
            }
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(Ask::Echo(sender)) => {
                        waiting = Some(sender);
                        self.send_message().await?;
                    }
                    Some(Ask::Ping(sender)) if !self.raw => {
                        waiting = Some(sender);
                        self.id += 1;
                        self.send(PING, self.id, b"crowd").await?;
                    }
                    Some(Ask::Ping(_)) => return Err("bytes have no Ping".into()),
                    Some(Ask::Close) | None => return self.close().await,
                },
                read = read_more(&mut self.dialled, &mut self.input) => read?,
            }
        }
    }

    async fn send_message(&mut self) -> Result<(), Trouble> {
        self.id += 1;
        self.send(ONE_WAY, self.id, &message()).await
    }

    async fn expect_message(&mut self) -> Result<(), Trouble> {
        let (header, payload) = self.frame().await?;
        if header.message_id == self.id && payload[..] == message() {
            Ok(())
        } else {
            Err("other bytes came back".into())
        }
    }

    async fn close(mut self) -> Result<(), Trouble> {
        if !self.raw {
            self.send(GOODBYE, 0, &[]).await?;
        }
        if self.websocket {
            let mut out = [0; HEADER_MAX];
            let code = 1000u16.to_be_bytes();
            let len = websocket::encode_head(&mut out, websocket::CLOSE, code.len(), Some([0; 4]));
            self.dialled.stream.write_all(&out[..len]).await?;
            self.write(&code).await?;
        }
        if let Some(connection) = &self.dialled.connection {
            connection.close(0u32.into(), b"");
        }
        Ok(())
    }

    async fn send(&mut self, packet_type: u8, id: u32, payload: &[u8]) -> Result<(), Trouble> {
        let header = Header {
            version: 2,
            packet_type,
            message_id: id,
            payload_len: payload.len() as u32,
            ..Header::default()
        };
        let mut out = Vec::with_capacity(HEADER_MAX + HEADER_LEN + payload.len());
        if self.websocket {
            let mut head = [0; HEADER_MAX];
            let frame_len = HEADER_LEN + payload.len();
            let len = websocket::encode_head(&mut head, BINARY, frame_len, Some(MASK));
            out.extend_from_slice(&head[..len]);
        }
        let from = out.len();
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(payload);
        if self.websocket {
            websocket::apply_mask(&mut out[from..], MASK);
        }
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.dialled.stream.write_all(bytes).await?;
        Ok(self.dialled.stream.flush().await?)
    }

    async fn read(&mut self) -> Result<(), Trouble> {
        read_more(&mut self.dialled, &mut self.input).await
    }

    /// The next frame.
    async fn frame(&mut self) -> Result<(Header, BytesMut), Trouble> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// A frame that has come whole.
    fn whole(&mut self) -> Result<Option<(Header, BytesMut)>, Trouble> {
        let mut head_len = 0;
        if self.websocket {
            let Some(head) = Head::decode(&self.input) else {
                return Ok(None);
            };
            if head.first != BINARY {
                return Err(
                    format!("a WebSocket frame that begins with {:#04x}", head.first).into(),
                );
            }
            head_len = head.len;
        }
        let Some(header) = self.input.get(head_len..).and_then(Header::decode) else {
            return Ok(None);
        };
        let len = head_len + header.frame_len();
        if self.input.len() < len {
            return Ok(None);
        }
        let mut frame = self.input.split_to(len);
        Ok(Some((header, frame.split_off(head_len + HEADER_LEN))))
    }
}

/// Cancelled, it has read nothing.
async fn read_more(dialled: &mut Dialled, input: &mut BytesMut) -> Result<(), Trouble> {
    input.reserve(READ);
    match dialled.stream.read_buf(input).await? {
        0 => Err("the server closed the connection".into()),
        _ => Ok(()),
    }
}

fn message() -> [u8; PAYLOAD] {
    std::array::from_fn(|at| at as u8)
}
