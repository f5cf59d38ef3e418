//! Headers: the examples of RFC 6455 section 5.7, round trips, and what must be refused.

use super::*;

fn parse(bytes: &[u8], role: Role) -> Result<Option<FrameHeader>, FrameError> {
    parse_frame_header(bytes, role)
}

fn whole(bytes: &[u8], role: Role) -> FrameHeader {
    parse(bytes, role)
        .expect("a legal header")
        .expect("a whole header")
}

#[test]
fn reads_the_examples_of_section_5_7() {
    let hello = whole(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], Role::Client);
    assert_eq!(
        (hello.fin, hello.opcode, hello.payload_len, hello.header_len),
        (true, OpCode::Text, 5, 2)
    );

    let masked = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    let header = whole(&masked, Role::Server);
    assert_eq!(header.mask, Some([0x37, 0xfa, 0x21, 0x3d]));
    let mut payload = masked[header.header_len..].to_vec();
    apply_mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
    assert_eq!(payload, b"Hello");

    let fragment = whole(&[0x01, 0x03, 0x48, 0x65, 0x6c], Role::Client);
    assert_eq!((fragment.fin, fragment.opcode), (false, OpCode::Text));
    let last = whole(&[0x80, 0x02, 0x6c, 0x6f], Role::Client);
    assert_eq!((last.fin, last.opcode), (true, OpCode::Continuation));

    assert_eq!(whole(&[0x89, 0x05], Role::Client).opcode, OpCode::Ping);
    assert_eq!(
        whole(&[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d], Role::Server).opcode,
        OpCode::Pong
    );
    assert_eq!(
        whole(&[0x82, 0x7e, 0x01, 0x00], Role::Client).payload_len,
        256
    );
    assert_eq!(
        whole(&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], Role::Client).payload_len,
        65_536
    );
}

#[test]
fn what_is_written_is_read_back_for_both_roles() {
    for len in [0, 1, 125, 126, 127, 255, 65_535, 65_536, 16 << 20] {
        for mask in [None, Some([9, 8, 7, 6])] {
            let role = if mask.is_some() {
                Role::Server
            } else {
                Role::Client
            };
            let header = encode_frame_header(OpCode::Binary, len, mask);
            assert_eq!(header.len(), frame_header_len(len, mask.is_some()));
            let read = whole(&header, role);
            assert_eq!(read.payload_len, len as u64);
            assert_eq!(
                (read.fin, read.opcode, read.mask),
                (true, OpCode::Binary, mask)
            );
            assert_eq!(read.header_len, header.len());

            let mut out = [0xee; FRAME_HEADER_LEN_MAX + 1];
            let written = write_frame_header(&mut out, OpCode::Binary, len, mask);
            assert_eq!(&out[..written], &header[..]);
            assert!(
                out[written..].iter().all(|&byte| byte == 0xee),
                "wrote past the header"
            );
        }
    }
}

#[test]
fn an_incomplete_header_asks_for_more_at_every_length() {
    for len in [5usize, 300, 70_000] {
        let header = encode_frame_header(OpCode::Binary, len, Some([1, 2, 3, 4]));
        for cut in 0..header.len() {
            assert_eq!(
                parse(&header[..cut], Role::Server),
                Ok(None),
                "length {len}, {cut} bytes"
            );
        }
    }
}

#[test]
fn every_pair_of_first_bytes_is_read_or_refused_as_the_rfc_says() {
    for role in [Role::Server, Role::Client] {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let mut bytes = [0u8; FRAME_HEADER_LEN_MAX];
                (bytes[0], bytes[1]) = (first, second);
                match second & 0x7f {
                    126 => bytes[2] = 1,
                    127 => bytes[6] = 1,
                    _ => {}
                }
                let control = first & 0x08 != 0;
                let legal = first & 0x70 == 0
                    && matches!(first & 0x0f, 0..=2 | 8..=10)
                    && (second & 0x80 != 0) == (role == Role::Server)
                    && !(control && (first & 0x80 == 0 || second & 0x7f > 125));
                let read = parse(&bytes, role);
                assert_eq!(
                    read.is_ok(),
                    legal,
                    "{first:#04x} {second:#04x} {role:?}: {read:?}"
                );
            }
        }
    }
}

#[test]
fn hostile_headers_are_refused_by_name() {
    let cases: &[(&[u8], Role, FrameError)] = &[
        (&[0xc2], Role::Server, FrameError::ReservedBits { bits: 4 }),
        (
            &[0x83],
            Role::Server,
            FrameError::ReservedOpcode { opcode: 3 },
        ),
        (
            &[0x8f, 0x80],
            Role::Server,
            FrameError::ReservedOpcode { opcode: 15 },
        ),
        (
            &[0x09],
            Role::Server,
            FrameError::FragmentedControl {
                opcode: OpCode::Ping,
            },
        ),
        (
            &[0x89, 0xfe],
            Role::Server,
            FrameError::ControlTooLong {
                opcode: OpCode::Ping,
            },
        ),
        (&[0x82, 0x05], Role::Server, FrameError::Unmasked),
        (&[0x82, 0x85], Role::Client, FrameError::Masked),
        (
            &[0x82, 126, 0, 125],
            Role::Client,
            FrameError::LengthNotMinimal { len: 125, width: 2 },
        ),
        (
            &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            Role::Client,
            FrameError::LengthNotMinimal {
                len: 65_535,
                width: 8,
            },
        ),
        (
            &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
            Role::Server,
            FrameError::LengthTopBit { len: 1 << 63 },
        ),
    ];
    for (bytes, role, error) in cases {
        assert_eq!(parse(bytes, *role), Err(*error), "{bytes:02x?}");
        assert_eq!(error.close_code(), 1002);
    }
}
