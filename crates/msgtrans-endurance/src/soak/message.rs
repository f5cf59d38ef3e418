//! [`Message`]: what the soak sends, with everything in it that tells whether it came to the right place, once, whole.

/// Before the filler: kind, client, epoch, number.
const HEAD: usize = 1 + 4 + 4 + 8;
/// Behind it: the checksum.
const TAIL: usize = 8;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One way, client to server, numbered from 1 in each epoch.
    OneWay = 1,
    /// A request of the client, to be answered with the same.
    Request = 2,
    /// A request of the client that is answered with the number of the last one-way message.
    Sync = 3,
    /// A request about an epoch that is over; its filler is a [`Claim`](super::ledger::Claim). Answered with the number
    /// of one-way messages that were handled.
    Report = 4,
    /// One way, server to client, numbered from 1 in each session.
    Push = 5,
    /// A request of the server, to be answered with the same.
    Question = 6,
    /// One way, to all clients, numbered from 1.
    Broadcast = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::OneWay,
        Self::Request,
        Self::Sync,
        Self::Report,
        Self::Push,
        Self::Question,
        Self::Broadcast,
    ];
}

/// A message, its filler apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) client: u32,
    /// Counts the sessions of a client.
    pub(crate) epoch: u32,
    pub(crate) number: u64,
}

impl Message {
    pub(crate) fn encode(&self, filler: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + filler.len() + TAIL);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.client.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(filler);
        bytes.extend_from_slice(&checksum(&bytes).to_be_bytes());
        bytes
    }

    /// The message and its filler.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), String> {
        let damaged = || format!("a damaged message of {} bytes", bytes.len());
        let (body, tail) = bytes.split_last_chunk::<TAIL>().ok_or_else(damaged)?;
        if u64::from_be_bytes(*tail) != checksum(body) {
            return Err(damaged());
        }
        let (kind, rest) = body.split_first().ok_or_else(damaged)?;
        let (client, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (epoch, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (number, filler) = rest.split_first_chunk().ok_or_else(damaged)?;
        let known = Kind::ALL.iter().find(|known| **known as u8 == *kind);
        let message = Self {
            kind: *known.ok_or_else(damaged)?,
            client: u32::from_be_bytes(*client),
            epoch: u32::from_be_bytes(*epoch),
            number: u64::from_be_bytes(*number),
        };
        Ok((message, filler))
    }
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_and_a_changed_one_does_not() {
        let message = Message {
            kind: Kind::Sync,
            client: 7,
            epoch: 3,
            number: 1 << 40,
        };
        let mut bytes = message.encode(b"filler");
        assert_eq!(Message::decode(&bytes), Ok((message, b"filler".as_slice())));
        for at in 0..bytes.len() {
            bytes[at] ^= 4;
            assert!(Message::decode(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 4;
        }
        assert!(Message::decode(&bytes[..10]).is_err());
    }
}
