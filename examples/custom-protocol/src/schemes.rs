//! The application's table of URL schemes.

use msgtrans::BuiltIn;
use msgtrans_core::ConfigError;
use msgtrans_transport::{Connector, Endpoint, Schemes, ServerProtocol};

use crate::{DuplexConfig, ParcelConfig, duplex, parcel};

/// Our schemes, and behind them those that the facade has.
#[derive(Clone, Copy, Debug)]
pub struct AppSchemes;

impl Schemes for AppSchemes {
    fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        match endpoint.scheme() {
            duplex::SCHEME => Ok(Box::new(DuplexConfig::from_endpoint(endpoint)?)),
            parcel::SCHEME => Ok(Box::new(ParcelConfig::from_endpoint(endpoint)?)),
            _ => BuiltIn::server(endpoint),
        }
    }

    fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
        match endpoint.scheme() {
            duplex::SCHEME => Ok(Box::new(DuplexConfig::from_endpoint(endpoint)?)),
            parcel::SCHEME => Ok(Box::new(ParcelConfig::from_endpoint(endpoint)?)),
            _ => BuiltIn::connector(endpoint),
        }
    }
}

/// A server that knows these schemes.
pub type TransportServer = msgtrans::custom::TransportServer<AppSchemes>;
/// A client that knows these schemes.
pub type TransportClient = msgtrans::custom::TransportClient<AppSchemes>;
