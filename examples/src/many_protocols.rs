//! One handler on TCP, WebSocket, QUIC and in process: the protocols are a list of URLs.

use msgtrans::tls::Identity;
use msgtrans::{
    Handler, HandlerError, Packet, QuicServerConfig, Session, TransportClient, TransportServer,
};

/// The business code. Nothing in it depends on how a packet came.
#[derive(Debug)]
struct Welcome;

impl Handler for Welcome {
    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        let name = request.payload_as_string().unwrap_or_default();
        let info = session.info();
        let secret = if info.secure { ", encrypted" } else { "" };
        let answer = format!("hello {name}, you came over {}{secret}", info.protocol);
        Ok(Packet::response(answer))
    }
}

/// Starts one server on four protocols, each on a free port of this machine, and returns it with the URLs that clients
/// dial.
///
/// # Errors
/// An address that cannot be had.
pub async fn start(
    inproc_name: &str,
) -> Result<(TransportServer, Vec<String>), Box<dyn std::error::Error>> {
    // QUIC is always encrypted. A client knows a certificate of development by the pin of its key.
    let identity = Identity::development()?;
    let pin = identity.spki_pin();
    let server = TransportServer::builder()
        .with_protocol("tcp://127.0.0.1:0")
        .with_protocol("ws://127.0.0.1:0/welcome")
        .with_protocol(QuicServerConfig::new("127.0.0.1:0").with_identity(identity))
        .with_protocol(format!("inproc://{inproc_name}"))
        .with_handler(Welcome)
        .build()
        .await?;
    server.start()?;
    let urls = server
        .local_endpoints()
        .into_iter()
        .map(|endpoint| match endpoint.scheme() {
            "quic" => endpoint.with_option("pin", pin).to_string(),
            _ => endpoint.to_string(),
        })
        .collect();
    Ok((server, urls))
}

/// The client is the same for every protocol, too.
///
/// # Errors
/// What connecting, asking or disconnecting failed with.
pub async fn ask(url: &str, name: &'static str) -> Result<String, Box<dyn std::error::Error>> {
    let client = TransportClient::builder()
        .with_protocol(url)
        .build()
        .await?;
    client.connect().await?;
    let answer = client.request(name).await?;
    client.disconnect().await?;
    Ok(answer.payload_as_string().unwrap_or_default())
}
