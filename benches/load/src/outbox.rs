//! What a connection has still to send, as numbers: messages are functions of their id, so no bytes are kept for them.

use crate::Trouble;
use crate::shape::Shape;
use rustix::io::Errno;
use std::io::IoSlice;
use std::os::fd::AsFd;

/// Messages up to this size are copied into one buffer, larger ones are written from where the pattern lies.
const COPY_MAX: usize = 8 * 1024;
/// Bytes of copied messages in one write.
const WRITE_BYTES: usize = 256 * 1024;
/// Large messages in one write.
const WRITE_LARGE: usize = 8;

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Handshake, Pong and the like; goes between two messages.
    pub(crate) control: Vec<u8>,
    /// The id of the message that is being sent or comes next.
    pub(crate) next: u32,
    /// Messages to send, the one begun included.
    pub(crate) due: u64,
    /// Bytes of the current message that are sent.
    offset: usize,
}

impl Outbox {
    /// Nothing due; the first message will be `first_id`.
    pub(crate) fn new(first_id: u32) -> Self {
        Self {
            next: first_id,
            ..Self::default()
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.due == 0 && self.control.is_empty()
    }

    /// Writes until all is sent (`true`) or the socket takes no more; counts its calls in `writes`.
    pub(crate) fn flush(
        &mut self,
        fd: impl AsFd,
        shape: &Shape,
        scratch: &mut Vec<u8>,
        writes: &mut u64,
    ) -> Result<bool, Trouble> {
        while !self.is_empty() {
            scratch.clear();
            let control_len = if self.offset == 0 {
                self.control.len()
            } else {
                0
            };
            scratch.extend_from_slice(&self.control[..control_len]);
            *writes += 1;
            let (offered, result) = if shape.frame_len <= COPY_MAX {
                self.copy_messages(shape, scratch);
                let bytes = &scratch[self.offset..];
                (bytes.len(), rustix::io::write(&fd, bytes))
            } else {
                self.write_large(&fd, shape, scratch, control_len)
            };
            let written = match result {
                Ok(written) => written,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let control_gone = written.min(control_len);
            self.control.drain(..control_gone);
            let sent = self.offset + written - control_gone;
            let whole = sent / shape.frame_len;
            self.offset = sent % shape.frame_len;
            self.due -= whole as u64;
            self.next = self.next.wrapping_add(whole as u32);
            if written < offered {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes everything that is due as bytes, for a stream that takes whole buffers.
    pub(crate) fn take(&mut self, shape: &Shape) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.control);
        out.reserve(self.due as usize * shape.frame_len);
        for _ in 0..std::mem::take(&mut self.due) {
            shape.push_head(&mut out, self.next);
            out.extend_from_slice(shape.send_payload(self.next));
            self.next = self.next.wrapping_add(1);
        }
        out
    }

    fn copy_messages(&self, shape: &Shape, scratch: &mut Vec<u8>) {
        let fit = (WRITE_BYTES / shape.frame_len) as u64;
        let mut id = self.next;
        for _ in 0..self.due.min(fit) {
            shape.push_head(scratch, id);
            scratch.extend_from_slice(shape.send_payload(id));
            id = id.wrapping_add(1);
        }
    }

    fn write_large(
        &self,
        fd: impl AsFd,
        shape: &Shape,
        scratch: &mut Vec<u8>,
        control_len: usize,
    ) -> (usize, rustix::io::Result<usize>) {
        let head_len = shape.send_head_len();
        let ids =
            (0..self.due.min(WRITE_LARGE as u64) as u32).map(|ahead| self.next.wrapping_add(ahead));
        for id in ids.clone() {
            shape.push_head(scratch, id);
        }
        let (control, heads) = scratch.split_at(control_len);
        let mut slices = Vec::with_capacity(2 * WRITE_LARGE + 1);
        slices.push(IoSlice::new(control));
        for (id, head) in ids.zip(heads.chunks(head_len)) {
            slices.push(IoSlice::new(head));
            slices.push(IoSlice::new(shape.send_payload(id)));
        }
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, self.offset);
        let offered = rest.iter().map(|slice| slice.len()).sum();
        (offered, rustix::io::writev(fd, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Envelope, Kind};
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn bytes_of(shape: &Shape, ids: std::ops::Range<u32>) -> Vec<u8> {
        let mut out = Vec::new();
        for id in ids {
            shape.push_head(&mut out, id);
            out.extend_from_slice(shape.send_payload(id));
        }
        out
    }

    /// Whatever pieces the socket takes, the stream is control bytes and then the messages, without a gap.
    #[test]
    fn short_writes_lose_and_repeat_nothing() {
        for (payload, due) in [(64, 20_000), (100_000, 30)] {
            let shape = Shape::new(1, Envelope::Length4, Kind::Echo, payload, None);
            let (near, mut far) = UnixStream::pair().expect("socket pair");
            near.set_nonblocking(true).expect("non-blocking");
            far.set_nonblocking(true).expect("non-blocking");
            let mut outbox = Outbox {
                control: vec![7; 5],
                next: 1,
                due,
                ..Outbox::default()
            };
            let (mut got, mut scratch, mut writes) = (Vec::new(), Vec::new(), 0);
            while !outbox
                .flush(&near, &shape, &mut scratch, &mut writes)
                .expect("flush")
            {
                let mut piece = vec![0; 77_777];
                let read = far.read(&mut piece).expect("something was written");
                got.extend_from_slice(&piece[..read]);
            }
            drop(near);
            far.read_to_end(&mut got).expect("the rest");
            let mut expected = vec![7; 5];
            expected.extend(bytes_of(&shape, 1..due as u32 + 1));
            assert!(
                got == expected,
                "payload {payload}: {} bytes of {}",
                got.len(),
                expected.len()
            );
            assert_eq!(outbox.next, due as u32 + 1);
        }
    }
}
