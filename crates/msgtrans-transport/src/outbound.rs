//! [`OutboundBatch`]: what a session hands to its connection in one go.
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

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use msgtrans_core::{
    EncodeError, OutBuffer, Packet, PlainHeader, WireVersion, encode, encoded_len,
};
use msgtrans_mempool::worker;
use tokio::sync::oneshot;

/// How packets become what a connection sends.
#[derive(Clone, Copy, Debug)]
pub enum Framing {
    /// Frames as [`encode`] makes them, one behind the other: for a protocol that carries a stream of bytes. As
    /// `Encode(encode)`, and cheaper, because it is known where a packet is pushed.
    Frames,
    /// Each packet is appended to the batch's buffer by this function, at the moment it is pushed. Sessions whose
    /// function and version are equal can share encoded bytes.
    Encode(Encoder),
    /// Packets change hands as they are; nothing is encoded.
    Packets,
}

/// Appends one packet to a buffer, as [`encode`] does.
pub type Encoder = fn(&Packet, WireVersion, &mut OutBuffer) -> Result<(), EncodeError>;

impl Framing {
    /// The function that makes the bytes; `None` where there are none.
    pub fn encoder(self) -> Option<Encoder> {
        match self {
            Self::Frames => Some(encode),
            Self::Encode(encoder) => Some(encoder),
            Self::Packets => None,
        }
    }
}

/// Resolved by the connection when it has taken a packet's bytes. Dropping it is failure, never silent success.
#[derive(Debug)]
pub struct Confirmation(oneshot::Sender<()>);

/// The other side of a [`Confirmation`]: resolves to whether the protocol took the packet.
///
/// # Cancel safety
/// May be dropped at any time; the packet is sent all the same.
#[derive(Debug)]
#[must_use = "a confirmation that nobody awaits tells nobody"]
pub struct Confirmed(oneshot::Receiver<()>);

impl Confirmation {
    /// A pair: one for the batch, one for who waits.
    pub fn new() -> (Confirmation, Confirmed) {
        let (sender, receiver) = oneshot::channel();
        (Confirmation(sender), Confirmed(receiver))
    }

    /// The protocol has taken the packet's bytes.
    pub fn complete(self) {
        // Nobody may be waiting any more; that is their choice.
        let _ = self.0.send(());
    }
}

impl Future for Confirmed {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0).poll(cx).map(|taken| taken.is_ok())
    }
}

/// Packets on their way out: encoded bytes in memory leased from the worker thread, large payloads as segments, or the
/// packets themselves for a [`Framing::Packets`] protocol; confirmations at the positions where they fall due.
#[derive(Debug)]
pub struct OutboundBatch {
    framing: Framing,
    version: WireVersion,
    out: OutBuffer,
    packets: VecDeque<Packet>,
    packet_bytes: usize,
    packets_taken: u64,
    confirmations: VecDeque<(u64, Confirmation)>,
}

impl OutboundBatch {
    /// An empty batch for a connection with this framing and version, over memory leased from the worker.
    pub fn new(framing: Framing, version: WireVersion) -> Self {
        let out = match framing {
            Framing::Frames | Framing::Encode(_) => OutBuffer::from_vec(worker::take_out_buffer()),
            Framing::Packets => OutBuffer::new(),
        };
        Self {
            framing,
            version,
            out,
            packets: VecDeque::new(),
            packet_bytes: 0,
            packets_taken: 0,
            confirmations: VecDeque::new(),
        }
    }

    /// Gives an empty batch's memory back to the worker.
    pub fn recycle(self) {
        if self.framing.encoder().is_some() {
            worker::put_out_buffer(self.out.into_vec());
        }
    }

    /// Adds a packet: encoded at once, or, for a [`Framing::Packets`] protocol, as one more reference to its parts. By
    /// reference, because a packet on its way out has been moved often enough.
    ///
    /// # Errors
    /// The packet cannot be put on this wire; nothing was added.
    #[inline]
    pub fn push(&mut self, packet: &Packet) -> Result<(), EncodeError> {
        match self.framing {
            Framing::Frames => encode(packet, self.version, &mut self.out),
            Framing::Encode(encode) => encode(packet, self.version, &mut self.out),
            Framing::Packets => self.push_packet(packet),
        }
    }

    /// Adds a one-way message that is [plain](PlainHeader::of_message), as nearly all are; whether it did. Anything
    /// else, errors included, is left to [`push`](Self::push), and nothing was added.
    #[inline(always)]
    pub fn push_message(&mut self, packet: &Packet) -> bool {
        let Some(header) = PlainHeader::of_message(packet, self.version) else {
            return false;
        };
        match self.framing {
            Framing::Frames => {
                header.put_frame(&packet.payload, &mut self.out);
                true
            }
            Framing::Encode(encode) => encode(packet, self.version, &mut self.out).is_ok(),
            Framing::Packets => false,
        }
    }

    fn push_packet(&mut self, packet: &Packet) -> Result<(), EncodeError> {
        // What an encoder would refuse is refused here too, so that a protocol without one behaves like the rest.
        encoded_len(packet, self.version)?;
        self.packet_bytes = self.packet_bytes.saturating_add(packet.queued_bytes());
        self.packets.push_back(packet.clone());
        Ok(())
    }

    /// Makes an empty batch ready for another connection; its memory stays.
    pub fn reset(&mut self, framing: Framing, version: WireVersion) {
        debug_assert!(
            self.is_empty() && !self.has_confirmations(),
            "a batch with something in it is somebody's"
        );
        self.framing = framing;
        self.version = version;
    }

    /// Memory held for encoded bytes.
    pub fn capacity(&self) -> usize {
        self.out.capacity()
    }

    /// Adds bytes that [`Framing::Encode`] of the same function and version made elsewhere.
    pub fn push_encoded(&mut self, bytes: &bytes::Bytes) {
        self.out.put_bytes(bytes);
    }

    /// Completes `confirmation` when everything pushed so far has been taken.
    pub fn confirm(&mut self, confirmation: Confirmation) {
        self.confirmations.push_back((self.pushed(), confirmation));
    }

    /// The encoded bytes, to write and advance.
    pub fn bytes_mut(&mut self) -> &mut OutBuffer {
        &mut self.out
    }

    /// The next packet of a [`Framing::Packets`] batch.
    pub fn front(&self) -> Option<&Packet> {
        self.packets.front()
    }

    /// Takes the next packet of a [`Framing::Packets`] batch.
    pub fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.packet_bytes = self.packet_bytes.saturating_sub(packet.queued_bytes());
        self.packets_taken = self.packets_taken.saturating_add(1);
        Some(packet)
    }

    /// Completes every confirmation whose packets have been taken.
    #[inline]
    pub fn complete_taken(&mut self) {
        if self.confirmations.is_empty() {
            return;
        }
        let taken = self.taken();
        while self
            .confirmations
            .front()
            .is_some_and(|(at, _)| *at <= taken)
        {
            if let Some((_, confirmation)) = self.confirmations.pop_front() {
                confirmation.complete();
            }
        }
    }

    /// Takes the confirmations that fall due up to what has been taken, for a protocol that completes them later.
    pub fn take_confirmations(&mut self) -> Vec<Confirmation> {
        let taken = self.taken();
        let due = self
            .confirmations
            .iter()
            .take_while(|(at, _)| *at <= taken)
            .count();
        self.confirmations
            .drain(..due)
            .map(|(_, confirmation)| confirmation)
            .collect()
    }

    /// Whether a confirmation waits.
    pub fn has_confirmations(&self) -> bool {
        !self.confirmations.is_empty()
    }

    /// Bytes not yet taken.
    #[inline]
    pub fn len(&self) -> usize {
        match self.framing {
            Framing::Frames | Framing::Encode(_) => self.out.remaining(),
            Framing::Packets => self.packet_bytes,
        }
    }

    /// Whether everything has been taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The wire version of the batch.
    pub fn version(&self) -> WireVersion {
        self.version
    }

    fn pushed(&self) -> u64 {
        match self.framing {
            Framing::Frames | Framing::Encode(_) => self.out.pushed(),
            Framing::Packets => self.packets_taken.saturating_add(self.packets.len() as u64),
        }
    }

    fn taken(&self) -> u64 {
        match self.framing {
            Framing::Frames | Framing::Encode(_) => self.out.taken(),
            Framing::Packets => self.packets_taken,
        }
    }
}

#[cfg(test)]
mod tests;
