//! QUIC: datagrams that are none, amplification, streams beyond the one, peers that move.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use msgtrans::tls::ClientTls;
use msgtrans::{QuicClientConfig, QuicServerConfig, TransportClient, TransportServer};
use msgtrans_testkit::adversary::{Frame, Seed, Wire, kind, memory_bytes, tlv};
use quinn::crypto::rustls::QuicClientConfig as Crypto;
use quinn::{ClientConfig, Connection, Endpoint};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::stage::{count, identity, row, row_with, seed};

/// A QUIC client that is not ours.
pub(crate) fn endpoint(alpn: &[u8]) -> Endpoint {
    let tls = ClientTls::new().pin(identity().spki_pin());
    let tls = tls.build(&[alpn]).expect("a configuration");
    let crypto = Crypto::try_from(tls).expect("a configuration");
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("bound");
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

async fn connect(endpoint: &Endpoint, to: SocketAddr) -> Connection {
    let connecting = endpoint.connect(to, "localhost").expect("dialled");
    connecting.await.expect("connected")
}

/// The one stream of a connection of its own, which lives as long as the stream.
pub(crate) async fn stream(
    endpoint: &Endpoint,
    to: SocketAddr,
) -> io::Result<(quinn::SendStream, quinn::RecvStream)> {
    let connecting = endpoint
        .connect(to, "localhost")
        .map_err(io::Error::other)?;
    Ok(connecting.await?.open_bi().await?)
}

/// The first datagram of a handshake, as quinn writes it.
async fn initial() -> Vec<u8> {
    let here = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let endpoint = endpoint(b"msgtrans/2");
    let to = here.local_addr().expect("bound");
    let _connecting = endpoint.connect(to, "localhost").expect("dialled");
    let mut datagram = vec![0; 2_048];
    let (len, _) = here.recv_from(&mut datagram).await.expect("an Initial");
    datagram.truncate(len);
    datagram
}

/// What comes within a moment after the last datagram, in bytes.
async fn drained(socket: &UdpSocket) -> usize {
    let mut datagram = vec![0; 65_536];
    let mut total = 0;
    while let Ok(Ok(len)) = timeout(Duration::from_millis(700), socket.recv(&mut datagram)).await {
        total += len;
    }
    total
}

#[test]
fn an_address_that_proves_nothing_gets_at_most_three_times_what_it_sent() {
    row_with(
        |builder| builder.handshake_timeout(Duration::from_secs(2)),
        &[("timeout", 1)],
        async |stage| {
            let spoofed = UdpSocket::bind("127.0.0.9:0").await.expect("bound");
            spoofed
                .connect(stage.address("quic"))
                .await
                .expect("connected");
            let initial = initial().await;
            assert!(initial.len() >= 1_200, "{} bytes", initial.len());
            spoofed.send(&initial).await.expect("sent");
            let answered = drained(&spoofed).await;
            assert!(answered > 0, "no answer at all");
            assert!(
                answered <= 3 * initial.len(),
                "{answered} bytes for {}",
                initial.len()
            );
        },
    );
}

#[test]
fn datagrams_that_are_none_are_dropped() {
    let datagrams = count("MSGTRANS_ADVERSARY_DATAGRAMS", 20_000);
    let change = |builder: msgtrans::TransportServerBuilder| {
        builder.handshake_timeout(Duration::from_secs(2))
    };
    // A damaged Initial that still begins a handshake is one that fails or runs out of time.
    let report = row_with(change, &[("timeout", 0), ("handshake", 0)], async |stage| {
        let to = stage.address("quic");
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let initial = initial().await;
        let mut seed = Seed::new(seed());
        for _ in 0..datagrams {
            let datagram = match seed.below(6) {
                0 => {
                    let len = seed.below(1_500);
                    seed.bytes(len)
                }
                // The real thing, cut.
                1 => initial[..seed.below(initial.len())].to_vec(),
                // With some bits turned.
                2 => {
                    let mut damaged = initial.clone();
                    for _ in 0..seed.between(1, 8) {
                        let at = seed.below(damaged.len());
                        damaged[at] ^= 1 << seed.below(8);
                    }
                    damaged
                }
                // A version of tomorrow, long enough to be answered.
                3 => {
                    let mut other = initial.clone();
                    other[1..5].copy_from_slice(&[0x1A, 0x2A, 0x3A, 0x4A]);
                    other
                }
                // A short header for a connection that is not there.
                4 => {
                    let mut short = seed.bytes(60);
                    short[0] = 0x40 | (short[0] & 0x3F);
                    short
                }
                // Version negotiation, which a server never gets.
                _ => {
                    let mut negotiation = initial.clone();
                    negotiation[1..5].fill(0);
                    negotiation
                }
            };
            // The kernel drops what the server does not read in time, as any network would.
            let _ = socket.send_to(&datagram, to).await;
        }
        // A wrong ALPN is told.
        let endpoint = endpoint(b"h3");
        let refused = endpoint.connect(to, "localhost").expect("dialled").await;
        refused.expect_err("of another protocol");
        endpoint.wait_idle().await;
    });
    assert!(report.rejected("handshake") >= 1);
}

#[test]
fn a_peer_gets_one_stream_and_the_window_that_it_was_promised() {
    let change =
        |builder: msgtrans::TransportServerBuilder| builder.send_timeout(Duration::from_secs(1));
    row_with(change, &[], async |stage| {
        let endpoint = endpoint(b"msgtrans/2");
        let connection = connect(&endpoint, stage.address("quic")).await;
        let (send, recv) = connection.open_bi().await.expect("the one stream");
        let mut wire = Wire::over(tokio::io::join(recv, send));
        // The shortest heartbeat that there is: a peer that is gone shows by what cannot be written to it.
        let hello = Frame::v2(kind::HELLO).payload(tlv(3, &5_000_u32.to_be_bytes()));
        wire.send(&hello).await.expect("sent");
        wire.recv_kind(kind::WELCOME).await.expect("a session");
        // Neither another one, nor one of the other kind, for as long as the first lives.
        let second = timeout(Duration::from_millis(300), connection.open_bi()).await;
        assert!(second.is_err(), "a second stream was opened");
        let other = timeout(Duration::from_millis(300), connection.open_uni()).await;
        assert!(other.is_err(), "a stream of one direction was opened");
        assert!(connection.send_datagram(vec![1; 10].into()).is_err());
        // A handler that never comes back: what is sent behind it stays within the bounds.
        let before = memory_bytes();
        let never = Frame::v2(kind::ONE_WAY).payload("never");
        wire.send(&never).await.expect("sent");
        let block = Frame::v2(kind::ONE_WAY).payload(vec![7; 64 * 1024]).bytes();
        let flooding = async {
            for _ in 0..1_000 {
                wire.write(&block).await.expect("open");
            }
        };
        let stopped = timeout(Duration::from_secs(2), flooding).await;
        assert!(stopped.is_err(), "64 MiB were taken");
        let grown = memory_bytes().saturating_sub(before);
        // Window, session and batch here; the sender's own window on the other side of the same process.
        assert!(grown < 48 << 20, "{} MiB", grown >> 20);
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
    });
}

#[test]
fn streams_that_are_reset_at_once_end_with_their_connection() {
    row(&[], async |stage| {
        let endpoint = endpoint(b"msgtrans/2");
        for _ in 0..100 {
            let connection = connect(&endpoint, stage.address("quic")).await;
            let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
            let mut hello = Frame::hello().bytes();
            Frame::v2(kind::REQUEST)
                .id(1)
                .payload("never")
                .put(&mut hello);
            send.write_all(&hello).await.expect("sent");
            // Welcome: the request is at work.
            let mut header = [0; 16];
            recv.read_exact(&mut header).await.expect("Welcome");
            send.reset(9_u32.into()).expect("open");
            recv.stop(9_u32.into()).expect("open");
            connection.closed().await;
        }
        endpoint.wait_idle().await;
    });
}

/// A path whose client end can move to another address.
struct Path {
    address: SocketAddr,
    moved: Arc<tokio::sync::watch::Sender<bool>>,
    task: tokio::task::JoinHandle<()>,
}

impl Path {
    async fn to(server: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = near.local_addr().expect("bound");
        let moved = Arc::new(tokio::sync::watch::Sender::new(false));
        let before = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let after = UdpSocket::bind("127.0.0.5:0").await.expect("bound");
        let has_moved = moved.subscribe();
        let task = tokio::spawn(async move {
            let (mut up, mut down, mut late) = (vec![0; 65_536], vec![0; 65_536], vec![0; 65_536]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut up) => {
                        client = Some(from);
                        let far = if *has_moved.borrow() { &after } else { &before };
                        let _ = far.send_to(&up[..len], server).await;
                    }
                    Ok((len, _)) = before.recv_from(&mut down) => {
                        // Once the client has moved nobody is there any more.
                        if let Some(client) = client.filter(|_| !*has_moved.borrow()) {
                            let _ = near.send_to(&down[..len], client).await;
                        }
                    }
                    Ok((len, _)) = after.recv_from(&mut late) => {
                        if let Some(client) = client {
                            let _ = near.send_to(&late[..len], client).await;
                        }
                    }
                }
            }
        });
        Self {
            address,
            moved,
            task,
        }
    }
}

/// A client behind a path that moves: whether it is still served.
async fn moves(migration: bool) -> bool {
    let config = QuicServerConfig::new("127.0.0.1:0")
        .with_identity(identity())
        .migration(migration)
        .max_idle_timeout(Duration::from_secs(2));
    let server = TransportServer::builder().with_protocol(config);
    let server = server.build().await.expect("bound");
    let _ = server
        .on_request(|_, request| async move { Ok(msgtrans::Packet::response(request.payload)) });
    server.start().expect("the first start");
    let port = server.local_endpoints()[0].port().expect("a port");
    let path = Path::to(([127, 0, 0, 1], port).into()).await;
    let client = QuicClientConfig::new(path.address.to_string()).with_pin(identity().spki_pin());
    let client = TransportClient::builder()
        .auto_reconnect(false)
        .with_protocol(client);
    let client = client.build().await.expect("valid");
    client.connect().await.expect("connected");
    client.request("here").await.expect("answered");
    path.moved.send_replace(true);
    let served = client.request("and there").await.is_ok();
    // Dropped rather than closed: there may be no way back to the client.
    drop(client);
    path.task.abort();
    server.shutdown().await;
    served
}

#[test]
fn a_client_that_changes_its_address_is_served_where_that_was_asked_for() {
    row(&[], async |_| {
        assert!(moves(true).await, "a client that moved was lost");
    });
}
