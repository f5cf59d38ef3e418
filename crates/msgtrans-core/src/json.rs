//! Typed payloads: any `serde` type as JSON in a packet (feature `serde`).

use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, EncodeError};
use crate::packet::{Packet, PacketType};

impl Packet {
    /// A one-way message that holds `value` as JSON; set [`packet_type`](Self::packet_type) for a request or response.
    ///
    /// # Errors
    /// [`EncodeError::Json`] where `value` has no JSON form: a map whose keys are no strings, a failing `Serialize`.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        match serde_json::to_vec(value) {
            Ok(payload) => Ok(Self::new(PacketType::OneWay, payload)),
            Err(error) => Err(EncodeError::Json {
                why: error.to_string(),
            }),
        }
    }

    /// The payload read as the JSON of a `T`, which may borrow from the packet.
    ///
    /// # Errors
    /// [`DecodeError::Json`] where the payload is not JSON, or not that of a `T`.
    pub fn payload_as_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DecodeError> {
        serde_json::from_slice(&self.payload).map_err(|error| DecodeError::Json {
            why: error.to_string(),
        })
    }
}
