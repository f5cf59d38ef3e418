//! Raw quinn: one bidirectional stream, frames parsed, whole frames written back together or one at a time.

use bench_kit::frame::{HEADER_LEN, Header, REQUEST, RESPONSE};
use bytes::{Bytes, BytesMut};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    AckFrequencyConfig, Endpoint, EndpointConfig, Incoming, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Chunks taken from a stream at a time.
const CHUNKS: usize = 32;
/// What the product's loopback path carries and how it looks for that: see `msgtrans-quic`'s tuning.
const DATAGRAM_MAX: u16 = 6_400;
const LOOPBACK_STEP: u16 = 256;
const UDP_BUFFER: usize = 7 * 1024 * 1024;
const MIB: u32 = 1024 * 1024;

/// How answers are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// One write for each frame.
    Each,
    /// One write for all whole frames that were read together.
    Batch,
}

/// How quinn is configured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// As the product configures it, so that a ratio compares what stands above quinn.
    Ours,
    /// As it comes.
    Defaults,
}

pub(crate) fn serve(writes: Writes, transport: Transport, mtu: Option<u16>) -> io::Result<()> {
    crate::runtime()?.block_on(async {
        let endpoint = endpoint(transport, mtu)?;
        crate::announce("quic", endpoint.local_addr()?)?;
        while let Some(incoming) = endpoint.accept().await {
            // Errors end the connection; the load notices and fails the run.
            tokio::spawn(async move {
                let _ = connection(incoming, writes).await;
            });
        }
        Ok(())
    })
}

async fn connection(incoming: Incoming, writes: Writes) -> io::Result<()> {
    let connection = incoming.await?;
    let (mut send, mut recv) = connection.accept_bi().await?;
    let mut chunks = vec![Bytes::new(); CHUNKS];
    let mut input = BytesMut::new();
    while let Some(count) = recv.read_chunks(&mut chunks).await? {
        for chunk in &mut chunks[..count] {
            input.extend_from_slice(&std::mem::take(chunk));
        }
        let mut whole = 0;
        while let Some(header) = Header::decode(&input[whole..]) {
            let end = whole + header.frame_len();
            if end > input.len() {
                break;
            }
            if header.packet_type == REQUEST {
                input[whole + 2] = RESPONSE;
            }
            whole = end;
            if writes == Writes::Each {
                send.write_chunk(input.split_to(whole).freeze()).await?;
                whole = 0;
            }
        }
        if whole > 0 {
            send.write_chunk(input.split_to(whole).freeze()).await?;
        }
        input.reserve(HEADER_LEN);
    }
    Ok(())
}

fn endpoint(transport: Transport, mtu: Option<u16>) -> io::Result<Endpoint> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut config = EndpointConfig::default();
    if transport == Transport::Ours {
        socket.set_recv_buffer_size(UDP_BUFFER)?;
        socket.set_send_buffer_size(UDP_BUFFER)?;
        let set = config.max_udp_payload_size(DATAGRAM_MAX);
        set.map_err(io::Error::other)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let mut server = tls()?;
    let transport = match transport {
        Transport::Ours => ours(mtu.map_or_else(loopback, upper)),
        Transport::Defaults => TransportConfig::default(),
    };
    server.transport_config(Arc::new(transport));
    Endpoint::new(config, Some(server), socket.into(), Arc::new(TokioRuntime))
}

fn loopback() -> MtuDiscoveryConfig {
    let mut mtu = upper(DATAGRAM_MAX);
    mtu.minimum_change(LOOPBACK_STEP);
    mtu
}

fn upper(bound: u16) -> MtuDiscoveryConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(bound);
    mtu
}

fn ours(mtu: MtuDiscoveryConfig) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10))
        .max_ack_delay(Some(Duration::from_millis(5)));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(2 * MIB))
        .receive_window(VarInt::from_u32(4 * MIB))
        .send_window(u64::from(4 * MIB))
        .send_fairness(false)
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(mtu));
    transport
}

/// A certificate of this moment; the load does not check whose it is.
fn tls() -> io::Result<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.map_err(io::Error::other)?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let key = key.map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth();
    let mut config = config
        .with_single_cert(vec![made.cert.into()], key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"msgtrans/1".to_vec()];
    let config = QuicServerConfig::try_from(config).map_err(io::Error::other)?;
    Ok(ServerConfig::with_crypto(Arc::new(config)))
}
