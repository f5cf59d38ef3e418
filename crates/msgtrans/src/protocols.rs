//! The table of built-in URL schemes: one line a protocol, nowhere else.

use msgtrans_core::ConfigError;
use msgtrans_transport::{Connector, Endpoint, Schemes, ServerProtocol};

/// The URL schemes of the protocols that this build has. An application with protocols of its own writes its own table
/// and falls back to this one.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn;

/// `feature: scheme => server config, client config;`
macro_rules! schemes {
    ($($feature:literal: $($scheme:literal)|+ => $server:path, $client:path;)*) => {
        impl Schemes for BuiltIn {
            fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
                match endpoint.scheme() {
                    $(
                        #[cfg(feature = $feature)]
                        $($scheme)|+ => Ok(Box::new(<$server>::from_endpoint(endpoint)?)),
                        #[cfg(not(feature = $feature))]
                        $($scheme)|+ => Err(feature_is_off(endpoint, $feature)),
                    )*
                    _ => Err(unknown(endpoint)),
                }
            }

            fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
                match endpoint.scheme() {
                    $(
                        #[cfg(feature = $feature)]
                        $($scheme)|+ => Ok(Box::new(<$client>::from_endpoint(endpoint)?)),
                        #[cfg(not(feature = $feature))]
                        $($scheme)|+ => Err(feature_is_off(endpoint, $feature)),
                    )*
                    _ => Err(unknown(endpoint)),
                }
            }
        }

        fn unknown(endpoint: &Endpoint) -> ConfigError {
            let known = [$($($scheme),+),*].join(", ");
            ConfigError::new("endpoint", endpoint, format!("the scheme must be one of {known}"))
        }
    };
}

schemes! {
    "tcp": "tcp" => msgtrans_tcp::TcpServerConfig, msgtrans_tcp::TcpClientConfig;
    "websocket": "ws" => msgtrans_websocket::WebSocketServerConfig, msgtrans_websocket::WebSocketClientConfig;
    "quic": "quic" => msgtrans_quic::QuicServerConfig, msgtrans_quic::QuicClientConfig;
    "inproc": "inproc" => msgtrans_inproc::InprocServerConfig, msgtrans_inproc::InprocClientConfig;
}

/// Unused where every feature is on.
#[cfg(not(all(feature = "tcp", feature = "websocket", feature = "quic", feature = "inproc")))]
fn feature_is_off(endpoint: &Endpoint, feature: &str) -> ConfigError {
    ConfigError::new("endpoint", endpoint, format!("this build has no such protocol: turn on the feature \"{feature}\""))
}
