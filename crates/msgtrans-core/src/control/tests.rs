//! Hello, Welcome and Goodbye: round trips, absent fields, hostile fields, secrets.

use super::*;

fn body(packet_type: PacketType, fields: &[(u8, &[u8])]) -> Packet {
    let mut out = Vec::new();
    for (tag, value) in fields {
        tlv::put(&mut out, *tag, value);
    }
    Packet::numbered(packet_type, 0, out)
}

fn hello() -> Hello {
    Hello {
        max_frame: 1_000_000,
        features: Features::RESUME.with(Features::CANCEL),
        heartbeat: Duration::from_secs(30),
        auth: Some(Bytes::from_static(b"swordfish")),
        resume: Some(Resume {
            session: SessionId::new(0x0102_0304_0506_0708),
            token: *b"0123456789abcdef",
            received: u64::MAX - 1,
        }),
        agent: Some("probe/1.0".into()),
        replay_bytes: 65_536,
    }
}

fn welcome() -> Welcome {
    Welcome {
        max_frame: 90_000,
        features: Features::ZSTD,
        heartbeat: Duration::from_secs(5),
        session: SessionId::new(42),
        agent: Some("server".into()),
        resume: Some((*b"fedcba9876543210", Duration::from_secs(60))),
        resumed: Some(7),
        replay_bytes: 1,
    }
}

#[test]
fn hello_survives_with_and_without_its_optional_fields() {
    assert_eq!(Hello::from_packet(&hello().to_packet()), Ok(hello()));
    let plain = Hello::default();
    assert_eq!(Hello::from_packet(&plain.to_packet()), Ok(plain));
    let empty_auth = Hello {
        auth: Some(Bytes::new()),
        ..Hello::default()
    };
    assert_eq!(
        Hello::from_packet(&empty_auth.to_packet()),
        Ok(empty_auth),
        "empty is not absent"
    );
}

#[test]
fn welcome_survives_with_and_without_its_optional_fields() {
    assert_eq!(Welcome::from_packet(&welcome().to_packet()), Ok(welcome()));
    let plain = Welcome {
        agent: None,
        resume: None,
        resumed: None,
        replay_bytes: 0,
        ..welcome()
    };
    assert_eq!(Welcome::from_packet(&plain.to_packet()), Ok(plain));
}

#[test]
fn goodbye_survives_as_goodbye_and_as_go_away() {
    let goodbye = Goodbye {
        retry_after: Some(Duration::from_millis(250)),
        go_to: Some("wss://other.example:443/x".into()),
        ..Goodbye::new(Code::OVERLOADED, "busy")
    };
    for packet_type in [PacketType::Goodbye, PacketType::GoAway] {
        let packet = goodbye.to_packet(packet_type);
        assert_eq!(packet.packet_type, packet_type);
        assert_eq!(packet.message_id, 0);
        assert_eq!(Goodbye::from_packet(&packet), Ok(goodbye.clone()));
    }
}

#[test]
fn absent_fields_have_the_defaults_of_the_wire_format() {
    let hello = Hello::from_packet(&body(PacketType::Hello, &[])).expect("empty is legal");
    assert_eq!(hello.max_frame, 81_920);
    assert_eq!(hello.features, Features::NONE);
    assert_eq!(hello.heartbeat, Duration::from_millis(15_000));
    assert_eq!(hello.replay_bytes, 0);
    assert_eq!((hello.auth, hello.resume, hello.agent), (None, None, None));

    let session = body(PacketType::Welcome, &[(7, &[0, 0, 0, 0, 0, 0, 0, 9])]);
    let welcome = Welcome::from_packet(&session).expect("a session is enough");
    assert_eq!(welcome.session, SessionId::new(9));
    assert_eq!(welcome.max_frame, 81_920);
    assert_eq!(welcome.heartbeat, Duration::from_millis(15_000));
    assert_eq!((welcome.resume, welcome.resumed), (None, None));

    let goodbye = Goodbye::from_packet(&body(PacketType::Goodbye, &[])).expect("empty is legal");
    assert_eq!(goodbye, Goodbye::new(Code::NORMAL, ""));
}

#[test]
fn a_welcome_without_a_session_is_refused() {
    let missing = DecodeError::TlvMissing {
        tag: 7,
        name: "session",
    };
    assert_eq!(
        Welcome::from_packet(&body(PacketType::Welcome, &[])),
        Err(missing)
    );
}

#[test]
fn a_max_frame_below_the_minimum_is_refused_at_the_byte() {
    for (value, legal) in [
        (0, false),
        (81_919, false),
        (81_920, true),
        (u32::MAX, true),
    ] {
        let packet = body(PacketType::Hello, &[(1, &u32::to_be_bytes(value))]);
        let min = 81_920;
        let expected = match legal {
            true => Ok(value),
            false => Err(DecodeError::MaxFrameTooSmall { value, min }),
        };
        assert_eq!(
            Hello::from_packet(&packet).map(|hello| hello.max_frame),
            expected
        );
    }
}

#[test]
fn fields_of_a_wrong_length_are_refused_in_every_body() {
    type Fields = &'static [(u8, &'static [usize])];
    type Read = fn(&Packet) -> Option<DecodeError>;
    const HELLO: Fields = &[
        (1, &[0, 3, 5]),
        (2, &[0, 5]),
        (3, &[0, 8]),
        (5, &[0, 31, 33]),
        (6, &[257]),
        (11, &[3]),
    ];
    const WELCOME: Fields = &[(7, &[0, 7, 9]), (8, &[15, 17]), (9, &[3]), (10, &[4])];
    const GOODBYE: Fields = &[(16, &[0, 1, 3]), (17, &[1025]), (18, &[2]), (19, &[1025])];
    let zeros = [0u8; 1025];
    let bodies: [(Fields, Read); 3] = [
        (HELLO, |packet| Hello::from_packet(packet).err()),
        (WELCOME, |packet| Welcome::from_packet(packet).err()),
        (GOODBYE, |packet| Goodbye::from_packet(packet).err()),
    ];
    for (fields, read) in bodies {
        for (tag, lens) in fields {
            for len in *lens {
                let packet = body(PacketType::Hello, &[(*tag, &zeros[..*len])]);
                let wrong = DecodeError::TlvLength {
                    tag: *tag,
                    len: *len,
                };
                assert_eq!(read(&packet), Some(wrong));
            }
        }
    }
}

#[test]
fn unknown_fields_are_skipped_and_repeated_ones_refused() {
    let packet = body(
        PacketType::Hello,
        &[(99, b"x"), (2, &[0, 0, 0, 1]), (250, b"")],
    );
    let hello = Hello::from_packet(&packet).expect("unknown tags are skipped");
    assert_eq!(hello.features, Features::RESUME);
    let twice = body(PacketType::Hello, &[(99, b"x"), (99, b"y")]);
    assert_eq!(
        Hello::from_packet(&twice),
        Err(DecodeError::TlvDuplicate { tag: 99 })
    );
}

#[test]
fn a_body_cut_anywhere_never_panics() {
    let whole = hello().to_packet().payload;
    for cut in 0..whole.len() {
        let packet = Packet::numbered(PacketType::Hello, 0, whole.slice(..cut));
        let _ = Hello::from_packet(&packet);
        let _ = Welcome::from_packet(&packet);
        let _ = Goodbye::from_packet(&packet);
    }
}

#[test]
fn what_is_too_long_to_say_is_cut_at_a_character_or_left_out() {
    let hello = Hello {
        agent: Some("é".repeat(200)),
        ..Hello::default()
    };
    let read = Hello::from_packet(&hello.to_packet()).expect("legal");
    assert_eq!(read.agent, Some("é".repeat(128)));

    let mut goodbye = Goodbye::new(Code::INTERNAL, "");
    goodbye.reason = format!("x{}", "é".repeat(600));
    goodbye.go_to = Some("u".repeat(1025));
    let read = Goodbye::from_packet(&goodbye.to_packet(PacketType::Goodbye)).expect("legal");
    assert_eq!(read.reason, format!("x{}", "é".repeat(511)));
    assert_eq!(read.go_to, None);
}

#[test]
fn secrets_never_reach_the_debug_output() {
    let text = format!("{:?} {:?}", hello(), welcome());
    for secret in ["swordfish", "48, 49, 50", "102, 101, 100", "0123456789"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("probe/1.0"));
}

#[test]
fn a_token_is_kept_in_memory_of_its_own() {
    let packet = hello().to_packet();
    let read = Hello::from_packet(&packet).expect("legal");
    drop(
        packet
            .payload
            .try_into_mut()
            .expect("nobody else holds the frame"),
    );
    assert_eq!(read.auth.as_deref(), Some(&b"swordfish"[..]));
}

#[test]
fn features_intersect() {
    let ours = Features::RESUME.with(Features::ZSTD);
    let both = ours.intersection(Features::ZSTD.with(Features::LZ4));
    assert_eq!(both, Features::ZSTD);
    assert!(ours.contains(both) && !both.contains(ours));
}
