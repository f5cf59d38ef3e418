//! [`ParcelConfig`]: a name and what this side sends, typed or as a URL.

use msgtrans_core::ConfigError;
use msgtrans_transport::{Endpoint, ProtocolConfig};

use super::{MESSAGE_BYTES_MAX, SCHEME};
use crate::names::{check_name, name_of};

/// The largest head, that of a packet with every [`Meta`](msgtrans_core::Meta) field, is well below.
const MESSAGE_BYTES_MIN: usize = 4096;

/// Listens under a name, and dials it. The knobs are about what this side sends; either side reads whatever comes.
///
/// ```
/// use custom_protocol::ParcelConfig;
/// use msgtrans_transport::Endpoint;
///
/// let url = Endpoint::parse("parcel://orders?message_bytes=8192")?;
/// assert_eq!(ParcelConfig::from_endpoint(&url)?, ParcelConfig::new("orders").message_bytes(8192));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParcelConfig {
    pub(super) name: String,
    pub(super) message_bytes: usize,
    pub(super) pack: bool,
}

impl ParcelConfig {
    /// Takes a plain word; a bad one is an error of [`validate`](ProtocolConfig::validate), of binding and of dialling.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            message_bytes: MESSAGE_BYTES_MAX,
            pack: true,
        }
    }

    /// Reads a URL: `parcel://name` with the options `message_bytes` and `pack`.
    ///
    /// # Errors
    /// Another scheme, a port, a path, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(name_of(SCHEME, endpoint)?);
        let mut options = endpoint.options();
        if let Some(bytes) = options.take("message_bytes", "a number of bytes")? {
            this.message_bytes = bytes;
        }
        if let Some(pack) = options.take("pack", "true or false")? {
            this.pack = pack;
        }
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// The largest message that this side sends in bytes, 4 096 to 65 536; 65 536 by default. Sixteen of them may be on
    /// the way in a direction.
    #[must_use]
    pub fn message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes = bytes;
        self
    }

    /// Whether this side compresses batches that get smaller by it; on by default. Costs one pass over each batch.
    #[must_use]
    pub fn pack(mut self, pack: bool) -> Self {
        self.pack = pack;
        self
    }
}

impl ProtocolConfig for ParcelConfig {
    // What differs from the default goes into the URL, so that reading it gives the same configuration again.
    fn endpoint(&self) -> Endpoint {
        let mut endpoint = Endpoint::new(SCHEME, &self.name, None);
        if self.message_bytes != MESSAGE_BYTES_MAX {
            endpoint = endpoint.with_option("message_bytes", self.message_bytes);
        }
        if !self.pack {
            endpoint = endpoint.with_option("pack", false);
        }
        endpoint
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if !(MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&self.message_bytes) {
            let expected = format!("must be from {MESSAGE_BYTES_MIN} to {MESSAGE_BYTES_MAX} bytes");
            return Err(ConfigError::new(
                "message_bytes",
                self.message_bytes,
                expected,
            ));
        }
        check_name(SCHEME, &self.name)
    }
}
