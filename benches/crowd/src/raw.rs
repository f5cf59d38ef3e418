//! Servers with nothing around the protocol's own library: bytes come back, no frames, no sessions, no bounds.

use crate::{Trouble, tls};
use bench_kit::listen;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{AckFrequencyConfig, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Small, because it is a part of every task: what is compared with shall hold nothing that it need not.
const READ: usize = 256;

async fn echo(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = [0; READ];
    loop {
        // An error ends the connection; the crowd notices and fails the run.
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                if to.write_all(&buffer[..len]).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

pub(crate) async fn serve_tls(port: u16) -> Result<(), Trouble> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::server()?));
    let listener = listen::loopback(port)?;
    listen::announce("tls", &listener)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handshake = acceptor.accept(stream);
        tokio::spawn(async move {
            let Ok(stream) = handshake.await else { return };
            // A task of its own, so that the handshake's memory is not kept by the task that idles.
            let (from, to) = tokio::io::split(stream);
            tokio::spawn(echo(from, to));
        });
    }
}

pub(crate) async fn serve_quic(port: u16) -> Result<(), Trouble> {
    let mut crypto = tls::server()?;
    crypto.alpn_protocols = vec![tls::ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(crypto)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let socket = crate::dial::udp(address)?;
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        Some(config),
        socket,
        Arc::new(quinn::TokioRuntime),
    )?;
    let mut out = std::io::stdout();
    writeln!(out, "listening quic://{}", endpoint.local_addr()?)?;
    out.flush()?;
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            tokio::spawn(async move {
                if let Ok((to, from)) = connection.accept_bi().await {
                    echo(from, to).await;
                }
            });
        });
    }
    Ok(())
}

/// The product's own transport configuration on loopback, so that the memory of a connection is that of the same
/// windows, streams and datagrams.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(6_400).minimum_change(256);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10))
        .max_ack_delay(Some(Duration::from_millis(5)));
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(VarInt::from_u32(60_000).into()))
        .stream_receive_window(VarInt::from_u32(2 * 1024 * 1024))
        .receive_window(VarInt::from_u32(4 * 1024 * 1024))
        .send_window(4 * 1024 * 1024)
        .send_fairness(false)
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(mtu));
    transport
}
