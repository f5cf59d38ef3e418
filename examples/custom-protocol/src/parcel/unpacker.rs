//! [`Unpacker`]: messages to packets, every length checked before memory is given.

use bytes::{Bytes, BytesMut};
use msgtrans_core::{DecodeError, Limits, Packet};

use super::codec::{Head, broken, take_head, take_varint, too_large};
use super::{MESSAGE_BYTES_MAX, kind, runs};

/// Reads the messages of one direction. Holds nothing between two packets.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    /// Whole frames that have not been asked for. Packets are slices of it.
    batch: Bytes,
    large: Option<Large>,
    ended: bool,
}

/// A large packet on its way: memory grows as its body arrives, whatever its head has promised.
#[derive(Debug)]
struct Large {
    head: Head,
    body: BytesMut,
}

impl Unpacker {
    /// Takes the next message. Call it when [`next`](Self::next) has nothing left.
    pub(super) fn push(&mut self, mut message: Bytes, limits: &Limits) -> Result<(), DecodeError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(too_large(format!("a message of {} bytes", message.len())));
        }
        if message.is_empty() || self.ended {
            return Err(broken(
                "an empty message, or one behind the last".to_owned(),
            ));
        }
        if let Some(Large { head, body }) = &mut self.large {
            let missing = head.body_len() - body.len();
            if message.len() > missing {
                let what = format!("{} bytes of a body that lacks {missing}", message.len());
                return Err(broken(what));
            }
            body.extend_from_slice(&message);
            return Ok(());
        }
        match message.split_to(1)[0] {
            kind::BATCH if !message.is_empty() => self.batch = message,
            kind::PACKED => {
                let len = take_varint(&mut message)?;
                if !(1..MESSAGE_BYTES_MAX as u64).contains(&len) {
                    return Err(too_large(format!("a packed batch of {len} bytes")));
                }
                self.batch = runs::unpack(&message, len as usize)?.into();
            }
            kind::LARGE => {
                let head = take_head(&mut message, limits)?;
                if !message.is_empty() || head.body_len() == 0 {
                    return Err(broken("a large packet that is none".to_owned()));
                }
                let body = BytesMut::new();
                self.large = Some(Large { head, body });
            }
            kind::END if message.is_empty() => self.ended = true,
            other => {
                let what = format!("a message of {} bytes of kind {other}", message.len() + 1);
                return Err(broken(what));
            }
        }
        Ok(())
    }

    /// The next packet of what has been pushed; `None` when there is no whole one left.
    pub(super) fn next(&mut self, limits: &Limits) -> Result<Option<Packet>, DecodeError> {
        let whole = |large: &mut Large| large.body.len() == large.head.body_len();
        if let Some(Large { head, body }) = self.large.take_if(whole) {
            return head.take_body(&mut body.freeze()).map(Some);
        }
        if self.batch.is_empty() {
            return Ok(None);
        }
        let head = take_head(&mut self.batch, limits)?;
        let packet = head.take_body(&mut self.batch)?;
        if self.batch.is_empty() {
            // An empty slice would keep the message alive.
            self.batch = Bytes::new();
        }
        Ok(Some(packet))
    }

    /// Whether the peer has said that nothing more will come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes of a packet that is not whole; `None` between two packets.
    pub(super) fn held_bytes(&self) -> Option<usize> {
        self.large.as_ref().map(|large| large.body.len())
    }

    /// Memory given to a large packet.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.large.as_ref().map_or(0, |large| large.body.capacity())
    }
}
