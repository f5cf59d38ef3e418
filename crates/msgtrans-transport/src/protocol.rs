//! Configurations that listen and dial, and how URLs become them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use msgtrans_core::{BindError, ConfigError, ConnectError, Limits, WireVersions};

use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::listener::Listener;

/// A boxed future; used only where connections are born.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What every protocol configuration can do.
pub trait ProtocolConfig: fmt::Debug + Send + Sync + 'static {
    /// The configuration as a URL.
    fn endpoint(&self) -> Endpoint;

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the field, its value and its bound.
    fn validate(&self) -> Result<(), ConfigError>;
}

/// What a server tells its listeners.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ListenContext {
    /// The wire versions to accept, unless the endpoint narrows them.
    pub wire: WireVersions,
    /// What a first frame may be, before a session sets its own.
    pub limits: Limits,
    /// Whether [`Listener::beside`] will be asked for: a socket that is to share its port has to say so when it is
    /// bound. Off by default.
    pub shared: bool,
}

impl ListenContext {
    /// Listen for `wire`, within `limits`.
    pub fn new(wire: WireVersions, limits: Limits) -> Self {
        Self {
            wire,
            limits,
            shared: false,
        }
    }

    /// Listen so that others may listen beside.
    #[must_use]
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }
}

/// What a client tells its connector.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DialContext {
    /// The wire versions to offer.
    pub wire: WireVersions,
    /// What a first frame may be, before a session sets its own.
    pub limits: Limits,
}

impl DialContext {
    /// Dial with `wire`, within `limits`.
    pub fn new(wire: WireVersions, limits: Limits) -> Self {
        Self { wire, limits }
    }
}

/// A configuration that listens.
pub trait ServerProtocol: ProtocolConfig {
    /// Binds. A used port is an error here, not later.
    ///
    /// # Errors
    /// The address cannot be had, or certificates cannot be read.
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>>;

    /// Whether silence may mean a version 1 peer that listens first: versions 1 and 2 are accepted and the first
    /// frame decides.
    fn wire(&self) -> Option<WireVersions> {
        None
    }
}

/// A configuration that dials. It dials again on every reconnect.
pub trait Connector: ProtocolConfig {
    /// Resolves, connects and does the protocol's own handshakes. The caller bounds the time; dropping the future
    /// drops the attempt.
    ///
    /// # Errors
    /// See [`ConnectError`].
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>>;

    /// The wire versions to offer, where the configuration says so.
    fn wire(&self) -> Option<WireVersions> {
        None
    }
}

/// A table of URL schemes: which configuration a URL means. The facade has the one of the built-in protocols; an
/// application with protocols of its own writes its own and falls back to that one.
pub trait Schemes: Send + Sync + 'static {
    /// The configuration that listens at `endpoint`.
    ///
    /// # Errors
    /// An unknown scheme, one whose feature is off, an option that the protocol does not have.
    fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError>;

    /// The configuration that dials `endpoint`.
    ///
    /// # Errors
    /// As [`server`](Self::server).
    fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError>;
}

/// What `with_protocol` of a server takes: a typed configuration or a URL.
pub trait IntoServerProtocol<S: Schemes> {
    /// The configuration.
    ///
    /// # Errors
    /// The URL does not parse, or its scheme or options are not known.
    fn into_server_protocol(self) -> Result<Box<dyn ServerProtocol>, ConfigError>;
}

/// What `with_protocol` of a client takes: a typed configuration or a URL.
pub trait IntoConnector<S: Schemes> {
    /// The configuration.
    ///
    /// # Errors
    /// The URL does not parse, or its scheme or options are not known.
    fn into_connector(self) -> Result<Box<dyn Connector>, ConfigError>;
}

impl<S: Schemes, P: ServerProtocol> IntoServerProtocol<S> for P {
    fn into_server_protocol(self) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        Ok(Box::new(self))
    }
}

impl<S: Schemes, C: Connector> IntoConnector<S> for C {
    fn into_connector(self) -> Result<Box<dyn Connector>, ConfigError> {
        Ok(Box::new(self))
    }
}

macro_rules! from_url {
    ($($text:ty),*) => {$(
        impl<S: Schemes> IntoServerProtocol<S> for $text {
            fn into_server_protocol(self) -> Result<Box<dyn ServerProtocol>, ConfigError> {
                S::server(&Endpoint::parse(AsRef::<str>::as_ref(&self))?)
            }
        }

        impl<S: Schemes> IntoConnector<S> for $text {
            fn into_connector(self) -> Result<Box<dyn Connector>, ConfigError> {
                S::connector(&Endpoint::parse(AsRef::<str>::as_ref(&self))?)
            }
        }
    )*};
}

from_url!(&str, String, &String);

impl<S: Schemes> IntoServerProtocol<S> for Endpoint {
    fn into_server_protocol(self) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        S::server(&self)
    }
}

impl<S: Schemes> IntoConnector<S> for Endpoint {
    fn into_connector(self) -> Result<Box<dyn Connector>, ConfigError> {
        S::connector(&self)
    }
}
