//! The closed loop over QUIC: quinn on one thread, one stream a connection, the same checks as everywhere.

use crate::outbox::Outbox;
use crate::report;
use crate::session::Session;
use crate::shape::{FIRST_ID, Shape};
use crate::steady::{Ledger, Note, PATIENCE, Shared, Stage};
use crate::{Trouble, trouble};
use bench_kit::frame::GOODBYE;
use hdrhistogram::Histogram;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream,
    TokioRuntime, TransportConfig, VarInt,
};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// The largest datagram that is taken, which loopback servers of the product use.
const DATAGRAM_MAX: u16 = 6_400;
const LOOPBACK_STEP: u16 = 256;
const UDP_BUFFER: usize = 7 * 1024 * 1024;
const WINDOW: u32 = 16 * 1024 * 1024;
const READ: usize = 256 * 1024;
/// How often a thread that waits for the stage looks at it.
const LOOK: Duration = Duration::from_millis(1);

/// What the connections of a thread share.
pub(crate) struct Run {
    shape: Arc<Shape>,
    shared: Arc<Shared>,
    thread: usize,
    window: u32,
    start: Instant,
}

impl Run {
    pub(crate) fn new(
        shape: Arc<Shape>,
        shared: Arc<Shared>,
        thread: usize,
        window: u32,
    ) -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self {
            shape,
            shared,
            thread,
            window,
            start,
        })
    }

    /// Opens connections, keeps a window of messages on each, and closes them when the time is over.
    pub(crate) fn drive(
        self: Arc<Self>,
        address: SocketAddrV4,
        mtu: Option<u16>,
        connections: usize,
        notes: &Sender<Note>,
    ) -> Result<Histogram<u64>, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let endpoint = endpoint(self.shape.version, mtu)?;
            let mut lines = Vec::new();
            for _ in 0..connections {
                let opening = Line::open(self.clone(), &endpoint, address);
                let line = tokio::time::timeout(PATIENCE, opening).await;
                lines.push(line.map_err(|_| Trouble("a connection does not open".into()))??);
            }
            // If nobody listens any more, another thread has failed and the process is about to end.
            let _ = notes.send(Note::AllOpen);
            while !self.shared.is_at_least(Stage::WarmUp) {
                tokio::time::sleep(LOOK).await;
            }
            let lines: Vec<_> = lines
                .into_iter()
                .map(|line| tokio::spawn(line.closed_loop()))
                .collect();
            let mut latency = report::histogram();
            for line in lines {
                let ended = line.await.map_err(|error| Trouble(error.to_string()))??;
                latency
                    .add(ended)
                    .map_err(|error| Trouble(error.to_string()))?;
            }
            endpoint.wait_idle().await;
            Ok(latency)
        })
    }
}

/// A connection with its stream.
struct Line {
    run: Arc<Run>,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    session: Session,
    outbox: Outbox,
    ledger: Ledger,
    /// Read and not dealt with: the beginning of an answer.
    input: Vec<u8>,
    /// Bytes to send, and how many of them are gone.
    output: (Vec<u8>, usize),
    latency: Histogram<u64>,
}

impl Line {
    async fn open(
        run: Arc<Run>,
        endpoint: &Endpoint,
        address: SocketAddrV4,
    ) -> Result<Self, Trouble> {
        let connecting = endpoint.connect(address.into(), "localhost");
        let connection = connecting.map_err(broken)?.await.map_err(broken)?;
        let (send, recv) = connection.open_bi().await.map_err(broken)?;
        let mut line = Self {
            session: Session::new(run.shape.first_answer()),
            run,
            connection,
            send,
            recv,
            outbox: Outbox::new(FIRST_ID),
            ledger: Ledger::default(),
            input: Vec::new(),
            output: (Vec::new(), 0),
            latency: report::histogram(),
        };
        let host = address.to_string();
        let control = &mut line.outbox.control;
        if !line.session.begin(&line.run.shape, &host, control) {
            while !line.session.is_open() {
                line.turn().await?;
            }
        }
        Ok(line)
    }

    async fn closed_loop(mut self) -> Result<Histogram<u64>, Trouble> {
        self.plan(u64::from(self.run.window));
        let stopping = |line: &Self| line.run.shared.is_at_least(Stage::Stopping);
        let mut deadline = None;
        while !stopping(&self) || self.ledger.owed() > 0 {
            let answered = self.turn().await?;
            if !stopping(&self) {
                self.plan(answered);
            } else if *deadline.get_or_insert_with(|| Instant::now() + PATIENCE) < Instant::now() {
                return trouble(format!("{} answers never came", self.ledger.owed()));
            }
        }
        if self.run.shape.version == 2 {
            let control = &mut self.outbox.control;
            self.run.shape.push_control(control, GOODBYE, 0, &[]);
            let goodbye = self.outbox.take(&self.run.shape);
            self.send.write_all(&goodbye).await.map_err(broken)?;
        }
        // The run is over: that the server closed first is no failure.
        let _ = self.send.finish();
        let _ = tokio::time::timeout(LOOK * 20, self.send.stopped()).await;
        self.connection.close(VarInt::from_u32(0), b"");
        Ok(self.latency)
    }

    fn plan(&mut self, messages: u64) {
        if messages > 0 {
            self.outbox.due += messages;
            let now = self.run.start.elapsed().as_nanos() as u64;
            self.ledger.plan(messages, now);
        }
    }

    /// Writes as much as is taken, or reads once; says how many answers came.
    async fn turn(&mut self) -> Result<u64, Trouble> {
        if self.output.1 == self.output.0.len() && !self.outbox.is_empty() {
            self.output = (self.outbox.take(&self.run.shape), 0);
        }
        let unsent = &self.output.0[self.output.1..];
        let counters = &self.run.shared.counters[self.run.thread];
        let chunk = tokio::select! {
            biased;
            written = self.send.write(unsent), if !unsent.is_empty() => {
                self.output.1 += written.map_err(broken)?;
                counters.writes.fetch_add(1, Relaxed);
                return Ok(0);
            }
            chunk = self.recv.read_chunk(READ, true) => chunk.map_err(broken)?,
        };
        let Some(chunk) = chunk else {
            return trouble("the server ended its stream");
        };
        counters.reads.fetch_add(1, Relaxed);
        self.input.extend_from_slice(&chunk.bytes);
        let control = &mut self.outbox.control;
        let fed = self.session.feed(&self.run.shape, &self.input, control)?;
        self.input.drain(..fed.consumed);
        if fed.messages > 0 {
            let now = self.run.start.elapsed().as_nanos() as u64;
            let measuring = self.run.shared.is(Stage::Measuring);
            let latency = measuring.then_some(&mut self.latency);
            self.ledger.settle(fed.messages, now, latency)?;
            counters.messages.fetch_add(fed.messages, Relaxed);
        }
        Ok(fed.messages)
    }
}

fn broken(error: impl std::fmt::Display) -> Trouble {
    Trouble(format!("QUIC: {error}"))
}

fn endpoint(version: u8, mtu: Option<u16>) -> Result<Endpoint, Trouble> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(UDP_BUFFER)?;
    socket.set_send_buffer_size(UDP_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(mtu.unwrap_or(DATAGRAM_MAX))
        .map_err(broken)?;
    let mut discovery = MtuDiscoveryConfig::default();
    match mtu {
        Some(mtu) => discovery.upper_bound(mtu),
        None => discovery
            .upper_bound(DATAGRAM_MAX)
            .minimum_change(LOOPBACK_STEP),
    };
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .mtu_discovery_config(Some(discovery));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![format!("msgtrans/{version}").into_bytes()];
    let tls = QuicClientConfig::try_from(tls).map_err(broken)?;
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::new(config, None, socket.into(), Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// Servers here make their certificates as they start; who they are does not matter, that the signature is right does.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
