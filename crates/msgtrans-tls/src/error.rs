//! What can be wrong with a TLS set-up, before any connection.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::path::PathBuf;

use rustls::server::VerifierBuilderError;
use rustls_pki_types::pem;

/// Why an identity, a set of roots or a configuration could not be made.
///
/// All of these are mistakes in what this program was given. Repeating the call with the same
/// input fails the same way, except for [`Read`](Self::Read) and [`Reload`](Self::Reload). What
/// goes wrong with a peer during the handshake is a [`rustls::Error`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file is too large to be PEM of a sensible size.
    #[error("{} exceeds the limit of {max} bytes", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        max: u64,
    },

    /// A key file can be read or written by others than its owner (Unix only).
    ///
    /// `Identity::dangerous_from_exposed_key_file` accepts it.
    #[error(
        "key file {} has mode {mode:04o}, open to others than its owner; chmod it to 0600",
        path.display()
    )]
    ExposedKeyFile {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// A PEM section is malformed.
    #[error("malformed pem in {origin}")]
    Pem {
        /// The file, or what the bytes were passed as.
        origin: String,
        /// What is wrong with it.
        source: pem::Error,
    },

    /// PEM lacks the thing that it was read for.
    #[error("no {item} in {origin}")]
    Missing {
        /// `certificate` or `private key`.
        item: &'static str,
        /// The file, or what the bytes were passed as.
        origin: String,
    },

    /// The only private key is protected by a password.
    #[error("the private key in {origin} is encrypted; decrypt it (openssl pkey -in … -out …)")]
    EncryptedKey {
        /// The file, or what the bytes were passed as.
        origin: String,
    },

    /// The private key is not the one that the certificate was issued for.
    #[error("the private key in {key} does not belong to the certificate in {certificate}")]
    KeyMismatch {
        /// Where the certificate came from.
        certificate: String,
        /// Where the key came from.
        key: String,
    },

    /// The first certificate of a chain cannot be used.
    #[error("the first certificate in {origin} is unusable")]
    Certificate {
        /// Where the chain came from.
        origin: String,
        /// What is wrong with it.
        source: rustls::Error,
    },

    /// The private key has an unsupported type or is damaged.
    ///
    /// Known are RSA from 2,048 bits, ECDSA P-256 and P-384, and Ed25519.
    #[error("the private key in {origin} is unusable")]
    Key {
        /// Where the key came from.
        origin: String,
        /// What is wrong with it.
        source: rustls::Error,
    },

    /// A certificate cannot be a root of trust.
    #[error("certificate {number} in {origin} cannot be a root")]
    Root {
        /// Which one, counted from 1.
        number: usize,
        /// The file, or what the bytes were passed as.
        origin: String,
        /// What is wrong with it.
        source: rustls::Error,
    },

    /// A development certificate could not be made.
    #[error("cannot generate a development certificate")]
    Generate {
        /// What failed.
        source: rcgen::Error,
    },

    /// A certificate offered for reload is outside its dates; the old one stays.
    #[error("the new certificate is not valid now; the old one stays")]
    Reload {
        /// Which date, and by how much.
        source: rustls::Error,
    },

    /// A client was not told whom to believe.
    #[error(
        "no roots and no pins to verify the server with: give the CA that signed its certificate \
         (Roots::from_pem_file) or a pin of its key (SpkiPin)"
    )]
    NothingToVerifyWith,

    /// A pin is not written as `sha256/` and 44 characters of base64.
    #[error("pin {value:?} is not \"sha256/\" and the base64 of 32 bytes")]
    Pin {
        /// What was given.
        value: String,
    },

    /// A host is neither a DNS name nor an IP address.
    #[error("{value:?} is neither a dns name nor an ip address")]
    ServerName {
        /// What was given.
        value: String,
    },

    /// An ALPN protocol name has a length that the handshake cannot carry.
    #[error("alpn name of {len} bytes is outside 1 to 255 bytes")]
    AlpnName {
        /// Its length, in bytes.
        len: usize,
    },

    /// A session cache of no sessions was asked for.
    #[error("resumption of 0 sessions is below the minimum of 1; use Resumption::Off")]
    NoSessions,

    /// The verifier of client certificates could not be made.
    #[error("client authentication cannot be set up")]
    ClientAuth {
        /// What failed.
        source: VerifierBuilderError,
    },

    /// rustls refused the combination.
    #[error("tls configuration refused")]
    Config {
        /// Its reason.
        source: rustls::Error,
    },
}
