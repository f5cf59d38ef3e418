//! [`Packer`]: packets to messages, many small ones in one, a large one in many.

use bytes::Bytes;
use msgtrans_core::{EncodeError, Packet};
use msgtrans_transport::OutboundBatch;

use super::{codec, kind, runs};

/// Makes the messages of one direction.
#[derive(Debug)]
pub(super) struct Packer {
    message_bytes: usize,
    pack: bool,
    /// How much of the body of the first packet has left, where its head went as a large one.
    large: Option<usize>,
}

impl Packer {
    pub(super) fn new(message_bytes: usize, pack: bool) -> Self {
        Self {
            message_bytes,
            pack,
            large: None,
        }
    }

    /// Whether a packet is half on its way.
    pub(super) fn is_inside_packet(&self) -> bool {
        self.large.is_some()
    }

    /// The next message of a batch that is not empty. A packet is popped with the last message that holds some of it, so
    /// that its confirmation says that all of it has gone.
    pub(super) fn next(&mut self, from: &mut OutboundBatch) -> Result<Bytes, EncodeError> {
        if let (Some(sent), Some(packet)) = (self.large, from.front()) {
            let (part, done) = body_part(packet, sent, self.message_bytes);
            self.large = (!done).then_some(sent + part.len());
            if done {
                from.pop();
            }
            return Ok(part);
        }
        // A packet in the queue counts for at least as much as its frame, rare fields aside.
        let mut message = Vec::with_capacity(from.len().min(self.message_bytes));
        message.push(kind::BATCH);
        while let Some(packet) = from.front() {
            let before = message.len();
            codec::put_head(packet, &mut message)?;
            let body = packet.ext_header.len() + packet.payload.len();
            if message.len() + body > self.message_bytes {
                if before == 1 {
                    message[0] = kind::LARGE;
                    self.large = Some(0);
                    return Ok(message.into());
                }
                message.truncate(before);
                break;
            }
            message.extend_from_slice(&packet.ext_header);
            message.extend_from_slice(&packet.payload);
            from.pop();
        }
        Ok(self.packed(message).into())
    }

    /// The batch in runs, if that is shorter.
    fn packed(&self, message: Vec<u8>) -> Vec<u8> {
        if !self.pack {
            return message;
        }
        let batch = &message[1..];
        let mut packed = vec![kind::PACKED];
        codec::put_varint(batch.len() as u64, &mut packed);
        runs::pack(batch, &mut packed);
        if packed.len() < message.len() {
            packed
        } else {
            message
        }
    }
}

/// At most `max` bytes of the body from `sent` on, sharing the packet's memory, and whether they are the last.
fn body_part(packet: &Packet, sent: usize, max: usize) -> (Bytes, bool) {
    let header = packet.ext_header.to_bytes();
    let (part, at) = match sent.checked_sub(header.len()) {
        None => (&header, sent),
        Some(at) => (&packet.payload, at),
    };
    let end = part.len().min(at + max);
    let done = header.len() + packet.payload.len() == sent + (end - at);
    (part.slice(at..end), done)
}
