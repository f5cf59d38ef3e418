//! `duplex://name`: any `AsyncRead + AsyncWrite` is a protocol in a few lines.
//!
//! [`StreamConnection`] brings the codec, batches, limits, backpressure, both wire versions and the close. What is left
//! is where streams come from: here from [`tokio::io::duplex`], elsewhere from a serial line, a tunnel, a bastion's
//! multiplexer.

use std::task::{Context, Poll};

use msgtrans_core::{BindError, ConfigError, ConnectError, ConnectionInfo, PeerAddress};
use msgtrans_core::{Limits, WireVersions};
use msgtrans_transport::{
    AcceptError, BoxFuture, Connection, Connector, DialContext, Endpoint, Incoming, ListenContext,
    Listener, ProtocolConfig, ServerProtocol, StreamConnection,
};
use tokio::io::DuplexStream;

use crate::names::{Bound, Names, check_name, name_of};

/// The URL scheme of this protocol.
pub const SCHEME: &str = "duplex";

/// What each direction holds, in bytes: a writer that is this far ahead waits.
const BUFFER_BYTES: usize = 64 * 1024;

static NAMES: Names<DuplexStream> = Names::new();

/// Listens under a name, and dials it: both sides need the same, so one type is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplexConfig {
    name: String,
}

impl DuplexConfig {
    /// Takes a plain word; a bad one is an error of [`validate`](ProtocolConfig::validate), of binding and of dialling.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Reads a URL: `duplex://name`, without options.
    ///
    /// # Errors
    /// Another scheme, a port, a path or an option.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let this = Self::new(name_of(SCHEME, endpoint)?);
        endpoint.options().finish()?;
        this.validate()?;
        Ok(this)
    }
}

impl ProtocolConfig for DuplexConfig {
    fn endpoint(&self) -> Endpoint {
        Endpoint::new(SCHEME, &self.name, None)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        check_name(SCHEME, &self.name)
    }
}

impl ServerProtocol for DuplexConfig {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let bound = NAMES.bind(self)?;
            let context = *context;
            Ok(Box::new(DuplexListener { bound, context }) as Box<dyn Listener>)
        })
    }
}

struct DuplexListener {
    bound: Bound<DuplexStream>,
    context: ListenContext,
}

impl Listener for DuplexListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let ListenContext { wire, limits, .. } = self.context;
        self.bound.poll_accept(cx).map_ok(|stream| {
            let name = self.bound.endpoint().host();
            Incoming::Connection(connection(stream, name, wire, limits))
        })
    }

    fn local_endpoint(&self) -> Endpoint {
        self.bound.endpoint().clone()
    }
}

impl Connector for DuplexConfig {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
            NAMES.dial(self, theirs).await?;
            Ok(connection(ours, &self.name, context.wire, context.limits))
        })
    }
}

/// The last argument of `new` is whether written bytes wait for a flush, as under TLS; here they do not.
fn connection(
    stream: DuplexStream,
    name: &str,
    wire: WireVersions,
    limits: Limits,
) -> Box<dyn Connection> {
    let info = ConnectionInfo::new(SCHEME, PeerAddress::Local(name.to_owned()));
    Box::new(StreamConnection::new(stream, info, wire, limits, false))
}
