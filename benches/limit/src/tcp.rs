//! Frames back to back: the echo answers a run of frames with the very bytes that were read.

use crate::server::{FRAME_MAX, Reply, Service};
use bench_kit::frame::{HEADER_LEN, Header, ONE_WAY, REQUEST, RESPONSE};
use std::io;
use std::ops::Range;

/// Answers each message with itself, a Request with a Response.
pub(crate) struct Echo;

/// Counts one-way messages and tells the count to whoever sends a Request.
pub(crate) struct Sink;

/// Reads and checks one header.
pub(crate) fn checked_header(bytes: &[u8]) -> io::Result<Option<Header>> {
    let Some(header) = Header::decode(bytes) else {
        return Ok(None);
    };
    if !matches!(header.version, 1 | 2)
        || header.packet_type > RESPONSE
        || header.frame_len() > FRAME_MAX
    {
        return Err(io::Error::other("not a frame"));
    }
    Ok(Some(header))
}

/// The whole Response to a Request, carrying `count`.
pub(crate) fn count_response(request: &Header, count: u64) -> [u8; HEADER_LEN + 8] {
    let header = Header {
        packet_type: RESPONSE,
        payload_len: 8,
        ext_header_len: 0,
        flags: 0,
        compression: 0,
        ..*request
    };
    let mut out = [0; HEADER_LEN + 8];
    out[..HEADER_LEN].copy_from_slice(&header.encode());
    out[HEADER_LEN..].copy_from_slice(&count.to_be_bytes());
    out
}

impl Service for Echo {
    type State = ();

    fn frame_len(&self, (): &(), bytes: &[u8]) -> io::Result<Option<usize>> {
        Ok(checked_header(bytes)?.map(|header| header.frame_len()))
    }

    fn serve(
        &mut self,
        (): &mut (),
        data: &mut [u8],
        _: &mut Vec<u8>,
    ) -> io::Result<(usize, Reply)> {
        let mut at = 0;
        while let Some(header) = checked_header(&data[at..])? {
            if data.len() - at < header.frame_len() {
                break;
            }
            if header.packet_type == REQUEST {
                data[at + 2] = RESPONSE;
            }
            at += header.frame_len();
        }
        Ok((at, Reply::Input))
    }

    fn serve_large(
        &mut self,
        (): &mut (),
        frame: &mut [u8],
        _: &mut Vec<u8>,
    ) -> io::Result<Range<usize>> {
        if frame[2] == REQUEST {
            frame[2] = RESPONSE;
        }
        Ok(0..frame.len())
    }
}

impl Service for Sink {
    type State = u64;

    fn frame_len(&self, _: &u64, bytes: &[u8]) -> io::Result<Option<usize>> {
        Ok(checked_header(bytes)?.map(|header| header.frame_len()))
    }

    fn serve(
        &mut self,
        count: &mut u64,
        data: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<(usize, Reply)> {
        let mut at = 0;
        while let Some(header) = checked_header(&data[at..])? {
            if data.len() - at < header.frame_len() {
                break;
            }
            match header.packet_type {
                ONE_WAY => *count += 1,
                REQUEST => out.extend_from_slice(&count_response(&header, *count)),
                _ => {}
            }
            at += header.frame_len();
        }
        Ok((at, Reply::Out))
    }

    fn serve_large(
        &mut self,
        count: &mut u64,
        frame: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<Range<usize>> {
        match checked_header(frame)? {
            Some(header) if header.packet_type == REQUEST => {
                out.extend_from_slice(&count_response(&header, *count));
            }
            _ => *count += 1,
        }
        Ok(0..0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(packet_type: u8, message_id: u32, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            version: 1,
            packet_type,
            message_id,
            payload_len: payload.len() as u32,
            ..Header::default()
        };
        [&header.encode()[..], payload].concat()
    }

    #[test]
    fn echo_serves_whole_frames_and_leaves_the_tail() {
        let mut data = [
            frame(ONE_WAY, 1, b"abc"),
            frame(REQUEST, 2, b"d"),
            frame(ONE_WAY, 3, b"ef"),
        ]
        .concat();
        data.pop();
        let (served, _) = Echo
            .serve(&mut (), &mut data, &mut Vec::new())
            .expect("frames");
        assert_eq!(
            data[..served],
            [frame(ONE_WAY, 1, b"abc"), frame(RESPONSE, 2, b"d")].concat()
        );
    }

    #[test]
    fn sink_counts_and_answers_with_the_count() {
        let mut data = [
            frame(ONE_WAY, 0, b"x"),
            frame(ONE_WAY, 0, b"x"),
            frame(REQUEST, 7, b""),
        ]
        .concat();
        let (mut count, mut out) = (40, Vec::new());
        let (served, _) = Sink.serve(&mut count, &mut data, &mut out).expect("frames");
        assert_eq!(served, data.len());
        assert_eq!(out, frame(RESPONSE, 7, &42u64.to_be_bytes()));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(Echo.serve(&mut (), &mut [9; 16], &mut Vec::new()).is_err());
    }
}
