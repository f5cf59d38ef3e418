//! What every row plays on: one server with every protocol, a canary on each, the harness around both.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans::tls::{ClientTls, Identity, ServerTls};
use msgtrans::{
    ConnectRequest, Endpoint, Handler, HandlerError, Packet, QuicClientConfig, QuicServerConfig,
    Refusal, Session, TcpClientConfig, TcpServerConfig, TransportClient, TransportServer,
    TransportServerBuilder, WebSocketClientConfig, WebSocketServerConfig,
};
use msgtrans_testkit::adversary::storm::{Layer, Stream, Target};
use msgtrans_testkit::adversary::{Canary, Harness, Ledger, Probe, Report, Wire};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::quic;

/// Far more than a row takes on a loaded machine without optimisation.
const DEADLINE: Duration = Duration::from_secs(120);
/// The same for the long forms, which are asked for by a count.
const DEADLINE_LONG: Duration = Duration::from_secs(24 * 3600);

/// Descriptors, memory and panics are the process's: one row at a time.
static ROWS: Mutex<()> = Mutex::new(());

/// One certificate for all rows: it takes time to make.
pub(crate) fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY
        .get_or_init(|| Identity::development().expect("a certificate"))
        .clone()
}

/// Where the long forms of rows take their size from; `short` without it.
pub(crate) fn count(name: &str, short: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(short, |count| count.parse().expect("a number"))
}

/// The seed of all rows; printed with every failure that depends on it.
pub(crate) fn seed() -> u64 {
    count("MSGTRANS_ADVERSARY_SEED", 20_261_121)
}

/// Plays one row on a server with the default bounds.
pub(crate) fn row(expected: &[(&str, u64)], attack: impl AsyncFnOnce(&mut Stage)) -> Report {
    row_with(|builder| builder, expected, attack)
}

/// Plays one row on a server that `change` has changed.
pub(crate) fn row_with(
    change: impl FnOnce(TransportServerBuilder) -> TransportServerBuilder,
    expected: &[(&str, u64)],
    attack: impl AsyncFnOnce(&mut Stage),
) -> Report {
    let _one = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let long = std::env::var_os("MSGTRANS_ADVERSARY_COUNT").is_some();
    let deadline = if long { DEADLINE_LONG } else { DEADLINE };
    runtime.block_on(async {
        let played = async {
            let mut stage = Stage::set(change).await;
            attack(&mut stage).await;
            stage.clear(expected).await
        };
        timeout(deadline, played)
            .await
            .expect("hangs: not done in time")
    })
}

/// One server with every protocol, watched.
pub(crate) struct Stage {
    pub(crate) server: TransportServer,
    pub(crate) harness: Harness,
    canaries: Vec<Arc<TransportClient>>,
    _folder: Folder,
}

/// Removed when it is dropped.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind in a temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// Free, as a name in this process too.
    fn name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

fn folder() -> Folder {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("msgtrans-threats-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).expect("a folder");
    Folder(path)
}

impl Stage {
    async fn set(change: impl FnOnce(TransportServerBuilder) -> TransportServerBuilder) -> Self {
        let folder = folder();
        let ledger = Ledger::new();
        let tls = || ServerTls::new(identity());
        let builder = TransportServer::builder()
            .with_protocol("tcp://127.0.0.1:0")
            .with_protocol(TcpServerConfig::new("127.0.0.1:0").tls(tls()))
            .with_protocol("ws://127.0.0.1:0")
            .with_protocol(WebSocketServerConfig::new("127.0.0.1:0").tls(tls()))
            .with_protocol(QuicServerConfig::new("127.0.0.1:0").with_identity(identity()))
            .with_protocol(format!("unix://{}/socket", folder.0.display()).as_str())
            .with_protocol(format!("inproc://{}", folder.name()).as_str())
            .with_handler(Application(ledger.clone()));
        let server = change(builder).build().await.expect("bound");
        server.start().expect("the first start");
        let mut canaries = Vec::new();
        for endpoint in server.local_endpoints() {
            let client = client(&endpoint).await;
            client.connect().await.expect("connected");
            canaries.push(Arc::new(client));
        }
        let songs = canaries
            .iter()
            .zip(server.local_endpoints())
            .enumerate()
            .map(|(index, (client, endpoint))| {
                canary(index as u64, client.clone(), &endpoint, ledger.clone())
            })
            .collect();
        let (rejections, pending, sessions) = (server.clone(), server.clone(), server.clone());
        let probe = Probe {
            gauges: vec![
                (
                    "sessions",
                    Box::new(move || sessions.session_count() as u64),
                ),
                (
                    "pending requests",
                    Box::new(move || requests_pending(&pending)),
                ),
            ],
            rejections: Box::new(move || rejections.stats().rejections.iter().collect()),
            ledger,
        };
        let harness = Harness::start(probe, songs).await.expect("peace");
        Self {
            server,
            harness,
            canaries,
            _folder: folder,
        }
    }

    async fn clear(self, expected: &[(&str, u64)]) -> Report {
        let report = self.harness.finish(expected).await;
        let report = report.unwrap_or_else(|faults| panic!("{faults}"));
        for canary in &self.canaries {
            canary.disconnect().await.expect("still there");
        }
        self.server.shutdown().await;
        report
    }

    pub(crate) fn endpoint(&self, scheme: &str) -> Endpoint {
        let mut all = self.server.local_endpoints().into_iter();
        all.find(|endpoint| endpoint.scheme() == scheme)
            .expect("a listener")
    }

    /// Where the listener of `scheme` is.
    pub(crate) fn address(&self, scheme: &str) -> SocketAddr {
        let port = self.endpoint(scheme).port().expect("a port");
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// A raw connection to the TCP port of `scheme`.
    pub(crate) async fn raw(&self, scheme: &str) -> Wire<TcpStream> {
        Wire::tcp(self.address(scheme)).await.expect("a listener")
    }

    /// A raw session of version 2 over TCP.
    pub(crate) async fn session(&self) -> Wire<TcpStream> {
        let mut wire = self.raw("tcp").await;
        wire.open().await.expect("a session");
        wire
    }

    /// A client that behaves, over the protocol of `scheme`.
    pub(crate) async fn client(&self, scheme: &str) -> TransportClient {
        let client = client(&self.endpoint(scheme)).await;
        client.connect().await.expect("connected");
        client
    }

    /// Every stream protocol, for a storm.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let path = self.endpoint("unix").path().to_owned();
        let (tcp, tls) = (self.address("tcp"), self.address("tls"));
        let (ws, wss) = (self.address("ws"), self.address("wss"));
        vec![
            Target {
                name: "tcp",
                layer: Layer::Bytes,
                dial: Box::new(move || {
                    Box::pin(async move { boxed(TcpStream::connect(tcp).await) })
                }),
            },
            Target {
                name: "tls",
                layer: Layer::Bytes,
                dial: Box::new(move || Box::pin(async move { boxed(tls_to(tls).await) })),
            },
            Target {
                name: "ws",
                layer: Layer::WebSocket,
                dial: Box::new(move || {
                    Box::pin(async move { boxed(TcpStream::connect(ws).await) })
                }),
            },
            Target {
                name: "wss",
                layer: Layer::WebSocket,
                dial: Box::new(move || Box::pin(async move { boxed(tls_to(wss).await) })),
            },
            Target {
                name: "quic",
                layer: Layer::Bytes,
                dial: {
                    let (endpoint, to) = (quic::endpoint(b"msgtrans/2"), self.address("quic"));
                    Box::new(move || {
                        let endpoint = endpoint.clone();
                        Box::pin(async move {
                            let (send, recv) = quic::stream(&endpoint, to).await?;
                            Ok(Box::new(tokio::io::join(recv, send)) as Box<dyn Stream>)
                        })
                    })
                },
            },
            Target {
                name: "unix",
                layer: Layer::Bytes,
                dial: Box::new(move || {
                    let path = path.clone();
                    Box::pin(async move { boxed(UnixStream::connect(path).await) })
                }),
            },
        ]
    }
}

fn boxed(stream: io::Result<impl Stream + 'static>) -> io::Result<Box<dyn Stream>> {
    stream.map(|stream| Box::new(stream) as Box<dyn Stream>)
}

/// A TLS handshake, without a word about protocols above.
pub(crate) async fn tls_to(address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let client = ClientTls::new().pin(identity().spki_pin());
    let config = client.build(&[]).map_err(io::Error::other)?;
    let name = client.name_for("localhost").map_err(io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, stream).await
}

async fn client(endpoint: &Endpoint) -> TransportClient {
    let builder = TransportClient::builder()
        .auto_reconnect(false)
        // Nobody takes a canary's events; what is kept of them is not what a row measures.
        .events_bounds(64, 256 * 1024);
    let address = || format!("127.0.0.1:{}", endpoint.port().expect("a port"));
    let pin = identity().spki_pin();
    let builder = match endpoint.scheme() {
        "quic" => builder.with_protocol(QuicClientConfig::new(address()).with_pin(pin)),
        "tls" => {
            builder.with_protocol(TcpClientConfig::new(address()).tls(ClientTls::new().pin(pin)))
        }
        "wss" => builder
            .with_protocol(WebSocketClientConfig::new(address()).tls(ClientTls::new().pin(pin))),
        _ => builder.with_protocol(endpoint.clone()),
    };
    builder.build().await.expect("valid")
}

/// How the payloads of canaries begin.
const CANARY: &[u8] = b"canary";

fn number_of(lane: u64, number: u64) -> Vec<u8> {
    [CANARY, &lane.to_be_bytes(), &number.to_be_bytes()].concat()
}

fn canary(index: u64, client: Arc<TransportClient>, endpoint: &Endpoint, ledger: Ledger) -> Canary {
    let name = match endpoint.scheme() {
        "tcp" => "tcp",
        "tls" => "tls",
        "ws" => "ws",
        "wss" => "wss",
        "quic" => "quic",
        "unix" => "unix",
        _ => "inproc",
    };
    Canary {
        name,
        ping: Box::new(move |number| {
            let (client, ledger) = (client.clone(), ledger.clone());
            Box::pin(async move {
                if number % 2 == 0 {
                    let asked = number_of(2 * index, number);
                    let answer = client.request(asked.clone()).await;
                    let answer = answer.map_err(|error| error.to_string())?;
                    if answer.payload != asked {
                        return Err(format!("{answer:?} is another answer"));
                    }
                    ledger.acknowledged(2 * index, number);
                } else {
                    let packet = Packet::binary(number_of(2 * index + 1, number));
                    let sent = client.send_confirmed(packet).await;
                    sent.map_err(|error| error.to_string())?;
                    ledger.acknowledged(2 * index + 1, number);
                }
                Ok(())
            })
        }),
    }
}

/// Requests that the server has made and that await their answers.
fn requests_pending(server: &TransportServer) -> u64 {
    let mut sessions = pin!(server.active_sessions());
    let Poll::Ready(ids) = sessions
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        return u64::MAX;
    };
    let sessions = ids.into_iter().filter_map(|id| server.session(id));
    sessions
        .map(|session| session.stats().requests_pending as u64)
        .sum()
}

/// The business: notes what canaries say, and does what others ask for in the first word of a payload.
struct Application(Ledger);

impl Application {
    fn note(&self, packet: &Packet) {
        if let Some(numbers) = packet.payload.strip_prefix(CANARY)
            && let Some((lane, number)) = numbers.split_first_chunk()
            && let Some((number, _)) = number.split_first_chunk()
        {
            let number = u64::from_be_bytes(*number);
            self.0.handled(u64::from_be_bytes(*lane), number);
        }
    }

    async fn obey(&self, packet: &Packet) {
        match packet.payload.as_ref() {
            b"panic" => panic!("as the peer wished"),
            b"panic later" => {
                let _bomb = PanicsInDrop;
                std::future::pending::<()>().await;
            }
            b"never" => std::future::pending().await,
            _ => {}
        }
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("while being dropped");
        }
    }
}

impl Handler for Application {
    async fn on_connect(&self, _: &Session, request: &ConnectRequest) -> Result<(), Refusal> {
        match request.auth.as_deref() {
            None | Some(b"right") => Ok(()),
            Some(b"panic") => panic!("as the peer wished"),
            Some(b"never") => std::future::pending().await,
            Some(_) => Err(Refusal::unauthorized("a wrong token")),
        }
    }

    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        self.note(&packet);
        self.obey(&packet).await;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        self.note(&request);
        self.obey(&request).await;
        Ok(Packet::response(request.payload))
    }
}
