//! Carries bytes between a client and a server until neither has anything to say.

use std::io::{Read, Write};
use std::sync::Arc;

use msgtrans_tls::{ClientTls, ServerTls, SpkiPin};
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection,
};

/// A handshake takes three flights and refusals one more; beyond this the test would hang.
const ROUNDS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

impl Established {
    /// The key that the server showed.
    pub(crate) fn server_pin(&self) -> SpkiPin {
        SpkiPin::of_certificate(&self.client.peer_certificates().unwrap()[0]).unwrap()
    }

    pub(crate) fn kind(&self) -> HandshakeKind {
        self.client.handshake_kind().unwrap()
    }

    /// Sends a line each way.
    pub(crate) fn check_echo(&mut self) {
        self.client.writer().write_all(b"ping").unwrap();
        pump(&mut self.client, &mut self.server).unwrap();
        let mut line = [0; 4];
        self.server.reader().read_exact(&mut line).unwrap();
        self.server.writer().write_all(&line).unwrap();
        pump(&mut self.client, &mut self.server).unwrap();
        self.client.reader().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"ping");
    }
}

/// Which side refused first, and why.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    ByClient(Error),
    ByServer(Error),
}

/// Connects with the same ALPN on both sides and proves that data passes.
pub(crate) fn connect(
    client: &ClientTls,
    server: &ServerTls,
    host: &str,
) -> Result<Established, Refusal> {
    let alpn: &[&[u8]] = &[b"msgtrans/2"];
    let name = client.name_for(host).unwrap();
    connect_configs(
        &client.build(alpn).unwrap(),
        &server.build(alpn).unwrap(),
        name,
    )
}

pub(crate) fn connect_configs(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: rustls_pki_types::ServerName<'static>,
) -> Result<Established, Refusal> {
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    pump(&mut client, &mut server)?;
    let mut established = Established { client, server };
    established.check_echo();
    Ok(established)
}

fn pump(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Refusal> {
    for _ in 0..ROUNDS_MAX {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut unread = bytes.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets().map_err(Refusal::ByServer)?;
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        let mut unread = answer.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets().map_err(Refusal::ByClient)?;
        }
        if bytes.is_empty() && answer.is_empty() {
            assert!(!client.is_handshaking() && !server.is_handshaking());
            return Ok(());
        }
    }
    panic!("no end after {ROUNDS_MAX} rounds");
}
