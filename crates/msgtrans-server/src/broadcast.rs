//! Fan-out: a packet is encoded once for all sessions that frame alike, and its bytes are shared.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use msgtrans_core::{EncodeError, OutBuffer, Packet, SendError, SendErrorKind, WireVersion};
use msgtrans_session::Session;
use msgtrans_transport::Encoder;

/// What became of a broadcast. A slow session neither delays the others nor grows without bound: where a session's queue
/// is full, its copy is dropped, counted here and in the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BroadcastReport {
    /// Sessions whose queue took the packet.
    pub queued: usize,
    /// Sessions whose queue was full.
    pub full: usize,
    /// Sessions that closed meanwhile, or cannot take a packet of this size.
    pub failed: usize,
}

/// A packet on its way to many sessions.
pub(crate) struct Broadcast {
    packet: Packet,
    encoded: Vec<(usize, WireVersion, Bytes)>,
    report: BroadcastReport,
}

impl Broadcast {
    pub(crate) fn new(packet: Packet) -> Self {
        Self {
            packet,
            encoded: Vec::new(),
            report: BroadcastReport::default(),
        }
    }

    /// Queues the packet for one session.
    ///
    /// # Errors
    /// The packet cannot be encoded at all.
    pub(crate) fn send(&mut self, session: &Session) -> Result<(), EncodeError> {
        let encoder = session
            .shared_framing()
            .and_then(|(framing, version)| Some((framing.encoder()?, version)));
        let outcome = match encoder {
            Some((encode, version)) => {
                let frame = self.frame(encode, version)?;
                session.try_send_encoded(frame)
            }
            None => session.try_send(self.packet.clone()),
        };
        self.count(outcome);
        Ok(())
    }

    pub(crate) fn report(self) -> BroadcastReport {
        self.report
    }

    fn frame(&mut self, encode: Encoder, version: WireVersion) -> Result<Bytes, EncodeError> {
        // Functions of equal address are the same framing; one framing under two addresses is only encoded twice.
        let key = encode as usize;
        if let Some((.., frame)) = self
            .encoded
            .iter()
            .find(|(known, wire, _)| *known == key && *wire == version)
        {
            return Ok(frame.clone());
        }
        let mut out = OutBuffer::new();
        encode(&self.packet, version, &mut out)?;
        let mut frame = BytesMut::with_capacity(out.remaining());
        frame.put(&mut out);
        let frame = frame.freeze();
        self.encoded.push((key, version, frame.clone()));
        Ok(frame)
    }

    fn count(&mut self, outcome: Result<(), SendError>) {
        match outcome.map_err(|error| error.into_parts().0) {
            Ok(()) => self.report.queued += 1,
            Err(SendErrorKind::Full { .. }) => self.report.full += 1,
            Err(_) => self.report.failed += 1,
        }
    }
}
