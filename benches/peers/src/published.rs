//! The published msgtrans crate, its handler as in its echo example.

use async_trait::async_trait;
use published::{
    Packet, QuicServerConfig, Responder, SessionHandler, SessionId, SessionSender, TcpServerConfig,
    TransportServerBuilder, WebSocketServerConfig,
};
use std::io;
use std::sync::Arc;

/// How it sends a message back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Waits until the bytes have reached the socket: what its examples do.
    Confirmed,
    /// Queues and goes on: its throughput tier.
    Detached,
}

struct Echo(Tier);

#[async_trait]
impl SessionHandler for Echo {
    async fn on_message(&self, _: SessionId, packet: Packet, sender: SessionSender) {
        // What it could not send, the load misses.
        let _ = match self.0 {
            Tier::Confirmed => sender.send_data(packet.into_payload()).await.map(drop),
            Tier::Detached => sender
                .send_data_detached(packet.into_payload())
                .await
                .map(drop),
        };
    }

    async fn on_request(&self, _: SessionId, request: Packet, responder: Responder) {
        let _ = responder.respond(request.into_payload()).await;
    }
}

pub(crate) fn serve(scheme: &str, tier: Tier) -> io::Result<()> {
    let address = crate::free_address(scheme)?;
    let text = address.to_string();
    let failed = |error: published::TransportError| io::Error::other(error.to_string());
    // It takes no more than so many; the load opens 10 000.
    let builder = TransportServerBuilder::new().max_connections(20_000);
    let builder = match scheme {
        "tcp" => builder.protocol(TcpServerConfig::new(&text).map_err(io::Error::other)?),
        "ws" => builder.protocol(WebSocketServerConfig::new(&text).map_err(io::Error::other)?),
        _ => builder.protocol(QuicServerConfig::new(&text).map_err(io::Error::other)?),
    };
    crate::runtime()?.block_on(async {
        let server = builder.build(Arc::new(Echo(tier))).await.map_err(failed)?;
        let serving = server.clone();
        let served = tokio::spawn(async move { serving.serve().await });
        listens(scheme, address).await?;
        crate::announce(scheme, address)?;
        served.await?.map_err(failed)
    })
}

/// It does not say when it listens, so its port is tried; a UDP port that is taken is as good as an answer.
async fn listens(scheme: &str, address: std::net::SocketAddr) -> io::Result<()> {
    for _ in 0..500 {
        let there = match scheme {
            "quic" => std::net::UdpSocket::bind(address).is_err(),
            _ => tokio::net::TcpStream::connect(address).await.is_ok(),
        };
        if there {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(io::Error::other("it does not listen"))
}
