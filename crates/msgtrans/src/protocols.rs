//! The table of built-in URL schemes: one line a protocol, nowhere else.

use msgtrans_core::ConfigError;
use msgtrans_transport::{Connector, Endpoint, Schemes, ServerProtocol};

/// The URL schemes of the protocols that this build has. An application with protocols of its own writes its own table
/// and falls back to this one.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn;

/// `scheme needs features [on system] => server config, client config;`
macro_rules! schemes {
    ($($scheme:literal needs $($feature:literal)+ $(on $system:ident)? => $server:path, $client:path;)*) => {
        impl Schemes for BuiltIn {
            fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
                match endpoint.scheme() {
                    $(
                        #[cfg(all($(feature = $feature,)+ $($system)?))]
                        $scheme => Ok(Box::new(<$server>::from_endpoint(endpoint)?)),
                    )*
                    _ => Err(not_here(endpoint)),
                }
            }

            fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
                match endpoint.scheme() {
                    $(
                        #[cfg(all($(feature = $feature,)+ $($system)?))]
                        $scheme => Ok(Box::new(<$client>::from_endpoint(endpoint)?)),
                    )*
                    _ => Err(not_here(endpoint)),
                }
            }
        }

        /// Every scheme, the features that it needs and whether they are on, and whether this system has it.
        const TABLE: &[(&str, &[(&str, bool)], bool)] = &[$(
            ($scheme, &[$(($feature, cfg!(feature = $feature))),+], cfg!(all($($system)?))),
        )*];
    };
}

schemes! {
    "tcp" needs "tcp" => msgtrans_tcp::TcpServerConfig, msgtrans_tcp::TcpClientConfig;
    "tls" needs "tls" => msgtrans_tcp::TcpServerConfig, msgtrans_tcp::TcpClientConfig;
    "ws" needs "websocket" => msgtrans_websocket::WebSocketServerConfig, msgtrans_websocket::WebSocketClientConfig;
    "wss" needs "websocket" "tls" => msgtrans_websocket::WebSocketServerConfig, msgtrans_websocket::WebSocketClientConfig;
    "quic" needs "quic" => msgtrans_quic::QuicServerConfig, msgtrans_quic::QuicClientConfig;
    "unix" needs "unix" on unix => msgtrans_unix::UnixServerConfig, msgtrans_unix::UnixClientConfig;
    "inproc" needs "inproc" => msgtrans_inproc::InprocServerConfig, msgtrans_inproc::InprocClientConfig;
}

/// What stands between this build and the scheme of `endpoint`.
fn not_here(endpoint: &Endpoint) -> ConfigError {
    let Some((scheme, features, on_this_system)) =
        TABLE.iter().find(|row| row.0 == endpoint.scheme())
    else {
        let known: Vec<_> = TABLE.iter().map(|row| row.0).collect();
        let expected = format!("the scheme must be one of {}", known.join(", "));
        return ConfigError::new("endpoint", endpoint, expected);
    };
    if !on_this_system {
        let expected = format!("{scheme}:// does not exist on this system");
        return ConfigError::new("endpoint", endpoint, expected);
    }
    let off: Vec<_> = features
        .iter()
        .filter(|(_, on)| !on)
        .map(|(feature, _)| format!("\"{feature}\""))
        .collect();
    let expected = format!(
        "this build has no such protocol: turn on the feature {}",
        off.join(" and ")
    );
    ConfigError::new("endpoint", endpoint, expected)
}

#[cfg(test)]
mod tests;
