//! Reading for all connections into one buffer; a connection owns bytes only while a frame of its own is incomplete.

use bench_kit::buffer::AlignedBytes;
use rustix::io::Errno;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;

/// Room in front of the read position: an incomplete small frame is copied here, and its rest lands right behind it.
/// A frame above this size gets memory of its own and is read into that directly.
const HEADROOM: usize = 32 * 1024;
/// Bytes asked of the kernel at once: at least the window of the largest case, 8 messages of 64 KiB. 256 KiB cost it a
/// third more.
const READ: usize = 512 * 1024;
/// Buffers of large frames that are kept for the next ones.
const SPARE_MAX: usize = 16;

/// What a connection holds of a frame that has not come whole.
#[derive(Default)]
pub(crate) enum Partial {
    #[default]
    None,
    Small(Vec<u8>),
    Large {
        frame: AlignedBytes,
        filled: usize,
    },
}

/// What one read brought.
pub(crate) enum Filled {
    Closed,
    Blocked,
    /// A large frame that is now whole, then the bytes behind it as a range of [`Inbox::bytes`].
    Data {
        large: Option<AlignedBytes>,
        from: usize,
        to: usize,
    },
}

/// The read buffer of a thread.
pub(crate) struct Inbox {
    pub(crate) memory: AlignedBytes,
    spare: Vec<AlignedBytes>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            memory: AlignedBytes::new(HEADROOM + READ),
            spare: Vec::new(),
        }
    }

    /// One read of `fd`, continuing what `partial` holds.
    pub(crate) fn fill(&mut self, fd: impl AsFd, partial: &mut Partial) -> io::Result<Filled> {
        let mut from = HEADROOM;
        let read = match partial {
            Partial::Large { frame, filled } => {
                let missing = frame.len() - *filled;
                let read = {
                    let rest = &mut frame.bytes_mut()[*filled..];
                    let behind = &mut self.memory.bytes_mut()[HEADROOM..];
                    rustix::io::readv(fd, &mut [IoSliceMut::new(rest), IoSliceMut::new(behind)])
                };
                match read {
                    Ok(read) if read >= missing => {
                        let Partial::Large { frame, .. } = std::mem::take(partial) else {
                            unreachable!("matched as large above")
                        };
                        return Ok(Filled::Data {
                            large: Some(frame),
                            from,
                            to: from + read - missing,
                        });
                    }
                    Ok(read) if read > 0 => {
                        *filled += read;
                        return Ok(Filled::Data {
                            large: None,
                            from,
                            to: from,
                        });
                    }
                    other => other,
                }
            }
            Partial::Small(bytes) => {
                from -= bytes.len();
                let memory = self.memory.bytes_mut();
                memory[from..HEADROOM].copy_from_slice(bytes);
                rustix::io::read(fd, &mut memory[HEADROOM..])
            }
            Partial::None => rustix::io::read(fd, &mut self.memory.bytes_mut()[HEADROOM..]),
        };
        match read {
            Ok(0) => Ok(Filled::Closed),
            Ok(read) => {
                *partial = Partial::None;
                Ok(Filled::Data {
                    large: None,
                    from,
                    to: HEADROOM + read,
                })
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Filled::Blocked),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps `tail`, the beginning of a frame of `frame_len` bytes (unknown while its header is incomplete).
    pub(crate) fn keep(
        &mut self,
        tail: (usize, usize),
        frame_len: Option<usize>,
    ) -> io::Result<Partial> {
        let bytes = &self.memory.bytes()[tail.0..tail.1];
        match frame_len {
            _ if bytes.is_empty() => Ok(Partial::None),
            Some(len) if len > HEADROOM => {
                let kept = self.spare.iter().position(|spare| spare.len() == len);
                let mut frame =
                    kept.map_or_else(|| AlignedBytes::new(len), |at| self.spare.swap_remove(at));
                frame.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
                Ok(Partial::Large {
                    frame,
                    filled: bytes.len(),
                })
            }
            None if bytes.len() > HEADROOM => Err(io::Error::other("a header that does not end")),
            _ => Ok(Partial::Small(bytes.to_vec())),
        }
    }

    /// Takes back the memory of a large frame.
    pub(crate) fn recycle(&mut self, frame: AlignedBytes) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(frame);
        }
    }
}
