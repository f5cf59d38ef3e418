//! [`End`]: one end of a connection with the least around it, and how two of them come to be.

use std::future::poll_fn;
use std::time::Duration;

use msgtrans_core::{
    CloseReason, ConnectError, Limits, Packet, PacketBatch, PacketType, WireVersion, WireVersions,
};
use msgtrans_quic::{QuicClientConfig, QuicServerConfig};
use msgtrans_tls::Identity;
use msgtrans_transport::{
    Confirmation, Confirmed, Connection, ConnectionError, Connector, DialContext, Endpoint,
    Handshake, Incoming, ListenContext, Listener, OutboundBatch, Received, ServerProtocol,
};

/// Far more than anything here takes: what runs into it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a connection.
pub(crate) struct End {
    pub(crate) connection: Box<dyn Connection>,
    pub(crate) out: OutboundBatch,
    pub(crate) inbox: PacketBatch,
}

impl End {
    /// Sets the wire to what was negotiated.
    pub(crate) fn new(mut connection: Box<dyn Connection>) -> Self {
        let version = connection.info().negotiated.expect("ALPN decides");
        connection.set_wire(version, Limits::default());
        Self {
            out: OutboundBatch::new(connection.framing(), version),
            connection,
            inbox: PacketBatch::new(),
        }
    }

    pub(crate) fn queue(&mut self, packet: Packet) {
        self.out.push(&packet).expect("encodes");
    }

    pub(crate) fn queue_confirmed(&mut self, packet: Packet) -> Confirmed {
        self.queue(packet);
        let (confirmation, confirmed) = Confirmation::new();
        self.out.confirm(confirmation);
        confirmed
    }

    pub(crate) async fn flush(&mut self) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.connection.poll_send(cx, &mut self.out)).await
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        self.queue(packet);
        self.flush().await.expect("sent");
    }

    /// The next packet; `None` at the end of the stream.
    pub(crate) async fn recv(&mut self) -> Result<Option<Packet>, ConnectionError> {
        if let Some(packet) = self.inbox.pop() {
            return Ok(Some(packet));
        }
        let received =
            poll_fn(|cx| self.connection.poll_recv(cx, 256 * 1024, &mut self.inbox)).await?;
        assert_eq!(received == Received::End, self.inbox.is_empty());
        Ok(self.inbox.pop())
    }

    pub(crate) async fn expect(&mut self) -> Packet {
        self.recv().await.expect("received").expect("a packet")
    }

    pub(crate) async fn close(&mut self, reason: &CloseReason) {
        let closed = poll_fn(|cx| self.connection.poll_close(cx, reason)).await;
        closed.expect("closed");
    }

    /// Reads to the end; the packets, and the error where it was one.
    pub(crate) async fn drain(&mut self) -> (Vec<Packet>, Option<ConnectionError>) {
        let mut packets = Vec::new();
        loop {
            match self.recv().await {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => return (packets, None),
                Err(error) => return (packets, Some(error)),
            }
        }
    }
}

/// A listener on loopback and how to recognise it.
pub(crate) struct Bound {
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) identity: Identity,
    pub(crate) address: String,
}

impl Bound {
    /// A client of it, as far as it is configured by the address and the pin.
    pub(crate) fn client(&self) -> QuicClientConfig {
        QuicClientConfig::new(&self.address).with_pin(self.identity.spki_pin())
    }

    /// The next client's handshake.
    pub(crate) async fn incoming(&mut self) -> Handshake {
        match poll_fn(|cx| self.listener.poll_accept(cx)).await {
            Ok(Incoming::Handshake { handshake, .. }) => handshake,
            other => panic!("{other:?} instead of a handshake"),
        }
    }

    pub(crate) async fn accept(&mut self) -> Result<End, ConnectError> {
        self.incoming().await.await.map(End::new)
    }
}

pub(crate) fn local() -> QuicServerConfig {
    QuicServerConfig::new("127.0.0.1:0")
}

pub(crate) async fn bind(config: QuicServerConfig) -> Bound {
    let identity = Identity::development().expect("an identity");
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    let config = config.with_identity(identity.clone());
    let listener = config.bind(&context).await.expect("bound");
    let endpoint: Endpoint = listener.local_endpoint();
    assert_ne!(endpoint.port(), Some(0));
    Bound {
        address: endpoint.authority().expect("an address"),
        listener,
        identity,
    }
}

pub(crate) async fn dial(
    client: &QuicClientConfig,
    wire: WireVersions,
) -> Result<End, ConnectError> {
    let context = DialContext::new(wire, Limits::default());
    client.connect(&context).await.map(End::new)
}

/// Both ends of a fresh connection; the client has said Hello.
pub(crate) async fn pair_of(
    bound: &mut Bound,
    client: &QuicClientConfig,
    version: WireVersion,
) -> (End, End) {
    let wire = match version {
        WireVersion::V1 => WireVersions::V1,
        WireVersion::V2 => WireVersions::V2,
    };
    let dialled = async {
        let mut end = dial(client, wire).await?;
        end.send(hello(version)).await;
        Ok(end)
    };
    let (client, mut server) = tokio::try_join!(dialled, bound.accept()).expect("both ends");
    assert_eq!(server.expect().await.message_id, 0);
    (client, server)
}

/// Both ends with the defaults; the listener lives on with them.
pub(crate) async fn pair(version: WireVersion) -> (End, End, Bound) {
    let mut bound = bind(local()).await;
    let client = bound.client();
    let (client, server) = pair_of(&mut bound, &client, version).await;
    (client, server, bound)
}

/// What makes the stream visible.
pub(crate) fn hello(version: WireVersion) -> Packet {
    match version {
        WireVersion::V1 => Packet::new(PacketType::OneWay, "first"),
        WireVersion::V2 => Packet::new(PacketType::Hello, ""),
    }
}

/// A packet whose every byte is told by its number.
pub(crate) fn packet(id: u32, len: usize) -> Packet {
    let payload: Vec<u8> = (0..len).map(|at| (at as u32 ^ id) as u8).collect();
    Packet::new(PacketType::OneWay, payload).with_message_id(id)
}
