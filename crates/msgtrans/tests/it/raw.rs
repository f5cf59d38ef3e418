//! A TCP peer that writes frames by hand, and reads only when told.

use std::time::Duration;

use bytes::Buf;
use msgtrans::{
    Bytes, Endpoint, Limits, Packet, PacketType, SessionId, TransportServer, WireVersion,
};
use msgtrans_core::{
    Features, Goodbye, HEADER_LEN, Header, Hello, OutBuffer, Welcome, codec, encode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The bytes of one frame.
pub(crate) fn frame(packet: &Packet, version: WireVersion) -> Vec<u8> {
    let mut out = OutBuffer::new();
    encode(packet, version, &mut out).expect("a packet of this version");
    out.copy_to_bytes(out.remaining()).to_vec()
}

/// The next frame; `None` at the end of the stream, however it came.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> Option<(Packet, WireVersion)> {
    let mut header = [0; HEADER_LEN];
    from.read_exact(&mut header).await.ok()?;
    let limits = Limits::default();
    let len = Header::parse(&header, &limits)
        .expect("the server writes good headers")
        .frame_len();
    let mut frame = vec![0; len];
    frame[..HEADER_LEN].copy_from_slice(&header);
    from.read_exact(&mut frame[HEADER_LEN..]).await.ok()?;
    let decoded = codec::decode_exact(Bytes::from(frame), None, &limits);
    Some(decoded.expect("the server writes good frames"))
}

/// The reading half of a raw connection.
pub(crate) struct RawReader(BufReader<OwnedReadHalf>);

impl RawReader {
    /// The next one-way message; pings are passed over.
    pub(crate) async fn message(&mut self) -> Packet {
        loop {
            let (packet, _) = read_frame(&mut self.0).await.expect("a frame, not the end");
            match packet.packet_type {
                PacketType::OneWay => return packet,
                PacketType::Ping => {}
                other => panic!("{other:?} instead of a message"),
            }
        }
    }
}

/// A raw TCP connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    version: WireVersion,
}

impl Raw {
    pub(crate) async fn connect(endpoint: &Endpoint) -> Self {
        let address = ("127.0.0.1", endpoint.port().expect("a port"));
        let stream = TcpStream::connect(address).await.expect("a listener");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            version: WireVersion::V1,
        }
    }

    /// Both directions apart.
    pub(crate) fn split(self) -> (RawReader, OwnedWriteHalf) {
        let (reader, writer) = self.stream.into_split();
        (RawReader(BufReader::new(reader)), writer)
    }

    /// A connection that speaks version 1 from here on.
    pub(crate) async fn v1(server: &TransportServer) -> Self {
        Self::connect(&server.local_endpoints()[0]).await
    }

    /// A connection whose handshake is done.
    pub(crate) async fn v2(server: &TransportServer) -> (Self, Welcome) {
        let mut raw = Self::v1(server).await;
        let welcome = raw.hello(&Hello::default()).await;
        (raw, welcome)
    }

    pub(crate) async fn hello(&mut self, hello: &Hello) -> Welcome {
        self.speaks_v2();
        self.send(&hello.to_packet()).await;
        let packet = self.expect(PacketType::Welcome).await;
        Welcome::from_packet(&packet).expect("a Welcome")
    }

    /// Frames are of version 2 from here on.
    pub(crate) fn speaks_v2(&mut self) {
        self.version = WireVersion::V2;
    }

    /// The server's side of the handshake.
    pub(crate) async fn welcome(&mut self) {
        self.speaks_v2();
        self.expect(PacketType::Hello).await;
        let welcome = Welcome {
            max_frame: Limits::default().max_frame(),
            features: Features::NONE,
            heartbeat: Duration::from_secs(15),
            session: SessionId::new(1),
            agent: None,
            resume: None,
            resumed: None,
            replay_bytes: 0,
        };
        self.send(&welcome.to_packet()).await;
    }

    pub(crate) async fn send(&mut self, packet: &Packet) {
        self.write(&frame(packet, self.version)).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
    }

    /// The next frame; `None` at the end of the stream, however it came.
    pub(crate) async fn recv(&mut self) -> Option<(Packet, WireVersion)> {
        read_frame(&mut self.stream).await
    }

    /// The next frame, which must be of this type.
    pub(crate) async fn expect(&mut self, packet_type: PacketType) -> Packet {
        let (packet, version) = self.recv().await.expect("a frame, not the end");
        assert_eq!(packet.packet_type, packet_type, "{packet:?}");
        assert_eq!(version, self.version);
        packet
    }

    /// The Goodbye that comes next, and nothing behind it.
    pub(crate) async fn goodbye(&mut self) -> Goodbye {
        let packet = self.expect(PacketType::Goodbye).await;
        let goodbye = Goodbye::from_packet(&packet).expect("a Goodbye");
        assert!(self.recv().await.is_none(), "a frame behind the Goodbye");
        goodbye
    }

    /// The end of the stream, without another byte.
    pub(crate) async fn closed(&mut self) {
        let mut byte = [0];
        // A reset is an end too: the server had bytes of ours unread.
        let read = self.stream.read(&mut byte).await.unwrap_or(0);
        assert_eq!(read, 0, "a byte where the end was due");
    }
}
