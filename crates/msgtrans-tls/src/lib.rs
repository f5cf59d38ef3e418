//! TLS set-up shared by the secure protocols: certificates, pins, development certificates.
//!
//! Three values describe everything, and each protocol turns them into the rustls configuration it
//! needs by naming its ALPN:
//!
//! - [`Identity`]: a certificate chain with its private key, checked to be a pair when it is made.
//! - [`ServerTls`]: what a listener shows and asks for. Its [`reloader`](ServerTls::reloader) swaps
//!   the certificate while serving.
//! - [`ClientTls`]: whom a connector believes: [`Roots`], [`SpkiPin`]s, or both.
//!
//! Nothing here opens a socket, spawns a task, logs or installs a process-wide crypto provider:
//! *ring* is passed to rustls explicitly. Files are read by [`Identity::from_pem_files`],
//! [`Roots::from_pem_file`] and [`IdentityReloader::reload_pem_files`] alone, blocking; every
//! `build` works from memory.
//!
//! Defaults: TLS 1.3 only (1.2 by [`ServerTls::min_version`], [`ClientTls::min_version`]), no
//! client certificates, no 0-RTT, no operating-system roots.
//!
//! ```
//! use msgtrans_tls::{ClientTls, Identity, Roots, ServerTls};
//!
//! # fn main() -> Result<(), msgtrans_tls::TlsError> {
//! let identity = Identity::development()?; // localhost, 127.0.0.1 and ::1 for 13 days
//! let roots = Roots::from_pem(identity.to_pem().certificates.as_bytes())?;
//!
//! let server = ServerTls::new(identity);
//! let reloader = server.reloader();
//! let server_config = server.build(&[b"msgtrans/2"])?;
//!
//! let client = ClientTls::new().roots(roots);
//! let client_config = client.build(&[b"msgtrans/2"])?;
//! let name = client.name_for("localhost")?; // what the server's certificate must be for
//!
//! reloader.reload(Identity::development()?)?; // new connections see the new certificate
//! # let _ = (server_config, client_config, name);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `dangerous-insecure` (off): adds `ClientTls::dangerous().skip_verification()`, with which a
//!   client believes any server. For experiments; a pin does the same job safely.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
#[cfg(feature = "dangerous-insecure")]
#[cfg_attr(docsrs, doc(cfg(feature = "dangerous-insecure")))]
pub mod dangerous;
mod development;
mod error;
mod file;
mod identity;
mod params;
mod pem;
mod pin;
mod reload;
mod roots;
mod server;

pub use client::ClientTls;
pub use error::TlsError;
pub use identity::{Identity, IdentityPem};
pub use params::TlsVersion;
pub use pin::{PinMismatch, SpkiPin};
pub use reload::IdentityReloader;
pub use roots::Roots;
pub use server::{ClientAuth, Resumption, ServerTls};

// The configurations built here are rustls's own, so its version is part of this crate's surface.
pub use rustls;
