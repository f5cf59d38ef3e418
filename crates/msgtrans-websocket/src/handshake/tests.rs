//! Upgrades: what is granted, what is refused and how, in any split, and in linear time.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A legal request with `more` header lines, each with its line end.
fn request(more: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: server.example.com:9000\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

fn policy() -> UpgradePolicy {
    UpgradePolicy {
        path: Some("/chat".to_owned()),
        subprotocols: vec![Subprotocol::V2, Subprotocol::V1],
        ..UpgradePolicy::default()
    }
}

fn read_with(request: &str, policy: &UpgradePolicy) -> Result<Upgrade, Refusal> {
    let mut input = BytesMut::from(request);
    ServerUpgrade::new()
        .read(&mut input, policy)
        .map(|upgrade| upgrade.expect("a whole head"))
}

fn read(request: &str) -> Result<Upgrade, Refusal> {
    read_with(request, &policy())
}

#[track_caller]
fn refused(request: &str, refusal: Refusal, status: u16) {
    assert_eq!(read(request).map(|_| ()), Err(refusal), "{request}");
    assert_eq!(refusal.status(), status);
}

#[test]
fn the_example_of_section_1_3_is_granted() {
    let upgrade = read(&request("")).expect("legal");
    let response = String::from_utf8(upgrade.response).expect("ascii");
    assert!(
        response.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{response}"
    );
    assert!(response.ends_with("\r\n\r\n"), "{response}");
    let lines: Vec<_> = response.lines().map(str::to_ascii_lowercase).collect();
    assert!(
        lines.contains(&format!("sec-websocket-accept: {ACCEPT}").to_ascii_lowercase()),
        "{response}"
    );
    assert!(
        lines.contains(&"upgrade: websocket".to_owned()),
        "{response}"
    );
    assert!(
        lines.contains(&"connection: upgrade".to_owned()),
        "{response}"
    );
    assert!(
        !response
            .to_ascii_lowercase()
            .contains("sec-websocket-protocol"),
        "{response}"
    );
    assert_eq!(upgrade.subprotocol, None);
}

#[test]
fn the_subprotocol_is_the_servers_first_among_those_offered() {
    for (offer, chosen) in [
        ("msgtrans.v1", Subprotocol::V1),
        ("msgtrans.v2", Subprotocol::V2),
        ("msgtrans.v1, msgtrans.v2", Subprotocol::V2),
        ("chat,msgtrans.v1", Subprotocol::V1),
        (
            "chat\r\nSec-WebSocket-Protocol: msgtrans.v2",
            Subprotocol::V2,
        ),
    ] {
        let upgrade = read(&request(&format!("Sec-WebSocket-Protocol: {offer}\r\n"))).expect(offer);
        assert_eq!(upgrade.subprotocol, Some(chosen), "{offer}");
        let response = String::from_utf8(upgrade.response).expect("ascii");
        let line = format!("sec-websocket-protocol: {chosen}\r\n");
        assert!(response.to_ascii_lowercase().contains(&line), "{response}");
    }
    refused(
        &request("Sec-WebSocket-Protocol: msgtrans.v3\r\n"),
        Refusal::Subprotocol,
        400,
    );

    let raw = UpgradePolicy {
        subprotocols: Vec::new(),
        ..policy()
    };
    let upgrade = read_with(&request("Sec-WebSocket-Protocol: chat\r\n"), &raw).expect("ignored");
    assert_eq!(upgrade.subprotocol, None);
}

#[test]
fn what_is_not_an_upgrade_is_told_why() {
    let good = request("");
    refused(&good.replace("GET", "POST"), Refusal::Method, 405);
    refused(
        &good.replace("HTTP/1.1", "HTTP/1.0"),
        Refusal::Malformed,
        400,
    );
    refused(
        &good.replace("Upgrade: websocket\r\n", ""),
        Refusal::NotAnUpgrade,
        426,
    );
    refused(
        &good.replace("Upgrade: websocket", "Upgrade: h2c"),
        Refusal::NotAnUpgrade,
        426,
    );
    refused(
        &good.replace("keep-alive, Upgrade", "keep-alive"),
        Refusal::NotAnUpgrade,
        426,
    );
    refused(
        &good.replace("Version: 13", "Version: 8"),
        Refusal::Version,
        426,
    );
    for no_key in [
        "c2hvcnQ=",
        "dGhlIHNhbXBsZSBub25jZR==",
        "dGhlIHNhbXBsZSBub25jZQ==A",
        "dGhlIHNhbXBsZSBub25jZQA=",
        "dGhlIHNhbXBs-SBub25jZQ==",
    ] {
        refused(&good.replace(KEY, no_key), Refusal::Key, 400);
    }
    refused(
        &request(&format!("Sec-WebSocket-Key: {KEY}\r\n")),
        Refusal::Key,
        400,
    );
    refused(
        &good.replace("Host: server.example.com:9000\r\n", ""),
        Refusal::Host,
        400,
    );
    refused(&request("Host: other.example.com\r\n"), Refusal::Host, 400);
    refused(&request("Content-Length: 5\r\n"), Refusal::Body, 400);
    refused(
        &request("Transfer-Encoding: chunked\r\n"),
        Refusal::Body,
        400,
    );
    refused(&good.replace("/chat", "/"), Refusal::Path, 404);
    refused(&good.replace("/chat", "/chat/"), Refusal::Path, 404);
    refused("GET\r\n\r\n", Refusal::Malformed, 400);
    refused("A\r\n\r\n", Refusal::Malformed, 400);
    assert!(read(&request("Content-Length: 0\r\n")).is_ok());
    assert!(read(&good.replace("/chat", "/chat?room=1")).is_ok());
    assert!(
        read(&good.replace("keep-alive, Upgrade", "keep-alive\r\nConnection: upgrade")).is_ok()
    );
}

/// What two readers of one request could take for different requests is none.
#[test]
fn what_can_be_read_in_two_ways_is_malformed() {
    for line in [
        "Content-Length : 5\r\n",
        "A: b\r\n c\r\n",
        " A: b\r\n",
        "A: b\0\r\n",
        "A: b\rC: d\r\n",
        "A\r\n",
        ": b\r\n",
        "A b: c\r\n",
    ] {
        refused(&request(line), Refusal::Malformed, 400);
    }
    let good = request("");
    for target in [
        "",
        "chat room",
        "/\u{7f}",
        "http://[::1",
        "a b",
        "//a:b:c/\"<",
    ] {
        refused(&good.replace("/chat", target), Refusal::Malformed, 400);
    }
    refused(&good.replace("/chat", "*"), Refusal::Path, 404);
    refused(&good.replace("/chat", "server:80"), Refusal::Path, 404);
    for target in [
        "http://server.example.com/chat",
        "ws://a:1/chat?b",
        "/chat?a=/b",
    ] {
        assert!(read(&good.replace("/chat", target)).is_ok(), "{target}");
    }
}

#[test]
fn the_names_of_headers_have_no_case_and_their_values_no_margin() {
    let shouted = request("").replace("Sec-WebSocket-Key: ", "SEC-WEBSOCKET-KEY:\t ");
    let shouted = shouted.replace("Upgrade: websocket", "uPGRADE:WebSocket  ");
    assert!(read(&shouted).is_ok(), "{shouted}");
    let twice = request(&format!("sec-websocket-KEY: {KEY}\r\n"));
    refused(&twice, Refusal::Key, 400);
    refused(&request("hOST: a\r\n"), Refusal::Host, 400);
    let host = request("").replace("server.example.com", "s\u{e9}rver");
    refused(&host, Refusal::Host, 400);
}

/// A request that comes at once and ends what was read is parsed where it lies, any other one is searched for its end first.
#[test]
fn what_stands_behind_the_request_changes_nothing() {
    for (more, outcome) in [
        ("", Ok(())),
        ("Origin: null\r\n", Err(Refusal::Origin)),
        ("A: b\0\r\n", Err(Refusal::Malformed)),
        (&"a: b\r\n".repeat(60), Err(Refusal::TooManyHeaders)),
        (
            &format!("{}: b\r\n", "a: b\r\n".repeat(60)),
            Err(Refusal::TooManyHeaders),
        ),
    ] {
        for behind in ["", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "x"] {
            let mut input = BytesMut::from(&*request(more));
            input.extend_from_slice(behind.as_bytes());
            let read = ServerUpgrade::new().read(&mut input, &policy());
            assert_eq!(
                read.map(|upgrade| assert!(upgrade.is_some())),
                outcome,
                "{more}{behind}"
            );
            if outcome.is_ok() {
                assert_eq!(&input[..], behind.as_bytes());
            }
        }
    }
}

#[test]
fn refusals_are_whole_http_responses() {
    for (refusal, header) in [
        (Refusal::Version, "Sec-WebSocket-Version: 13\r\n"),
        (Refusal::NotAnUpgrade, "Connection: Upgrade, close\r\n"),
        (Refusal::Method, "Allow: GET\r\n"),
        (Refusal::Origin, "Connection: close\r\n"),
    ] {
        let response = String::from_utf8(refusal.response()).expect("ascii");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            response.starts_with(&format!("HTTP/1.1 {} ", refusal.status())),
            "{response}"
        );
        assert!(response.contains(header), "{response}");
        assert!(
            head.ends_with(&format!("Content-Length: {}", body.len())),
            "{response}"
        );
        assert_eq!(body, format!("{refusal}\n"));
    }
}

/// The table of origins: who may connect to `server.example.com` on which port, under which policy.
#[test]
fn origins_are_compared_exactly() {
    let same = OriginPolicy::SameHost;
    let list = OriginPolicy::AllowList(vec![
        "https://good.com".parse().expect("an origin"),
        "http://localhost:3000".parse().expect("an origin"),
    ]);
    let any = OriginPolicy::DangerousAny;
    let cases = [
        (
            &same,
            "http://server.example.com:9000",
            "server.example.com:9000",
            true,
        ),
        (
            &same,
            "https://SERVER.example.com:9000",
            "server.EXAMPLE.com:9000",
            true,
        ),
        (
            &same,
            "https://server.example.com",
            "server.example.com",
            true,
        ),
        (
            &same,
            "http://server.example.com",
            "server.example.com:80",
            true,
        ),
        (&same, "https://[::1]:9000", "[::1]:9000", true),
        (
            &same,
            "http://server.example.com",
            "server.example.com:9000",
            false,
        ),
        (
            &same,
            "http://server.example.com:9000",
            "server.example.com",
            false,
        ),
        (
            &same,
            "http://evil-server.example.com:9000",
            "server.example.com:9000",
            false,
        ),
        (
            &same,
            "http://server.example.com.evil:9000",
            "server.example.com:9000",
            false,
        ),
        (
            &same,
            "http://server.example.com:9000.evil",
            "server.example.com:9000",
            false,
        ),
        (
            &same,
            "http://evil.com/server.example.com:9000",
            "server.example.com:9000",
            false,
        ),
        (
            &same,
            "http://user@server.example.com:9000",
            "server.example.com:9000",
            false,
        ),
        (
            &same,
            "app://server.example.com",
            "server.example.com",
            false,
        ),
        (&same, "null", "server.example.com:9000", false),
        (&same, "", "server.example.com:9000", false),
        (&list, "https://good.com", "anything", true),
        (&list, "https://good.com:443", "anything", true),
        (&list, "http://localhost:3000", "anything", true),
        (&list, "http://good.com", "anything", false),
        (&list, "https://good.com:8443", "anything", false),
        (&list, "https://evil-good.com", "anything", false),
        (&list, "https://good.com.evil", "anything", false),
        (&list, "https://anything", "anything", false),
        (&list, "null", "anything", false),
        (&any, "null", "anything", true),
        (&any, "https://evil.com", "anything", true),
    ];
    for (origins, origin, host, allowed) in cases {
        let policy = UpgradePolicy {
            origins: origins.clone(),
            ..policy()
        };
        let request = request(&format!("Origin: {origin}\r\n")).replace(
            "server.example.com:9000\r\nUpgrade",
            &format!("{host}\r\nUpgrade"),
        );
        let outcome = read_with(&request, &policy).map(|_| ());
        let expected = if allowed {
            Ok(())
        } else {
            Err(Refusal::Origin)
        };
        assert_eq!(outcome, expected, "{origin} to {host} under {origins:?}");
    }
    let twice = "Origin: https://good.com\r\nOrigin: https://good.com\r\n";
    let policy = UpgradePolicy {
        origins: list,
        ..policy()
    };
    assert_eq!(
        read_with(&request(twice), &policy).map(|_| ()),
        Err(Refusal::Origin)
    );
}

#[test]
fn behind_our_own_tls_a_page_over_plain_http_is_a_foreign_one() {
    let policy = UpgradePolicy {
        tls: true,
        ..policy()
    };
    for (origin, allowed) in [
        ("https://server.example.com:9000", true),
        ("http://server.example.com:9000", false),
    ] {
        let outcome = read_with(&request(&format!("Origin: {origin}\r\n")), &policy);
        assert_eq!(outcome.is_ok(), allowed, "{origin}");
    }
    let bare = request("Origin: http://server.example.com\r\n").replace(":9000", "");
    assert_eq!(read_with(&bare, &policy).map(|_| ()), Err(Refusal::Origin));
}

#[test]
fn an_origin_is_a_scheme_a_host_and_a_port_and_nothing_more() {
    for text in [
        "good.com",
        "https://",
        "https://*.good.com",
        "https://good.com/",
        "https://good.com:",
        "://a",
        "https://a:99999",
        "https://[::1",
        "https://a b",
    ] {
        assert!(
            text.parse::<Origin>().is_err(),
            "{text} was taken for an origin"
        );
    }
    for text in [
        "https://good.com",
        "http://localhost:3000",
        "app://bundle",
        "https://[::1]:8443",
    ] {
        assert_eq!(text.parse::<Origin>().expect(text).to_string(), text);
    }
}

#[test]
fn oversized_heads_are_refused_at_the_limit() {
    let policy = policy();
    let refusal_at = |bytes: &[u8]| {
        let mut reader = ServerUpgrade::new();
        let mut input = BytesMut::new();
        for (at, byte) in bytes.iter().enumerate() {
            input.extend_from_slice(&[*byte]);
            match reader.read(&mut input, &policy) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("granted"),
                Err(refusal) => return (refusal, at + 1),
            }
        }
        panic!("never refused");
    };
    let long_line = [b"GET /".as_slice(), &[b'a'; 64 * 1024]].concat();
    assert_eq!(refusal_at(&long_line), (Refusal::HeadTooLong, HEAD_LEN_MAX));
    assert_eq!(Refusal::HeadTooLong.status(), 431);

    let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(2_000));
    let header_64 = "GET / HTTP/1.1\r\n".len() + "a: b\r\n".len() * HEAD_HEADERS_MAX;
    assert_eq!(
        refusal_at(many.as_bytes()),
        (Refusal::TooManyHeaders, header_64 + "a: b\r\n".len())
    );
    assert_eq!(Refusal::TooManyHeaders.status(), 431);

    let full = request(&"a: b\r\n".repeat(HEAD_HEADERS_MAX - 5));
    assert!(read(&full).is_ok(), "as many headers as are allowed");
    assert_eq!(refusal_at(b"\x16\x03\x01"), (Refusal::Malformed, 1));
}

#[test]
fn a_head_of_exactly_the_limit_is_read() {
    let fill = HEAD_LEN_MAX - request("A: \r\n").len();
    let filled = request(&format!("A: {}\r\n", "x".repeat(fill)));
    assert_eq!(filled.len(), HEAD_LEN_MAX);
    assert!(read(&filled).is_ok());
    let beyond = request(&format!("A: {}\r\n", "x".repeat(fill + 1)));
    refused(&beyond, Refusal::HeadTooLong, 431);
}

#[test]
fn frames_behind_the_request_are_left_for_later() {
    let mut input = BytesMut::from(&request("")[..]);
    input.extend_from_slice(b"\x82\x80\0\0\0\0");
    let upgrade = ServerUpgrade::new()
        .read(&mut input, &policy())
        .expect("legal");
    assert!(upgrade.is_some());
    assert_eq!(&input[..], b"\x82\x80\0\0\0\0");
}

/// What a server under `policy` answers to the request of a client.
fn answer(upgrade: &ClientUpgrade, policy: &UpgradePolicy) -> Vec<u8> {
    let mut input = BytesMut::from(upgrade.request());
    match ServerUpgrade::new().read(&mut input, policy) {
        Ok(granted) => granted.expect("a whole head").response,
        Err(refusal) => refusal.response(),
    }
}

fn client() -> ClientUpgrade {
    let offered = [Subprotocol::V2, Subprotocol::V1];
    ClientUpgrade::new("server.example.com:9000", "/chat", &offered, None).expect("a legal request")
}

fn read_answer(
    client: &mut ClientUpgrade,
    answer: &[u8],
) -> Result<Option<Subprotocol>, UpgradeError> {
    let mut input = BytesMut::from(answer);
    client
        .read(&mut input)
        .map(|answer| answer.expect("a whole head"))
}

#[test]
fn client_and_server_agree() {
    let mut client = client();
    let mut input = BytesMut::from(&answer(&client, &policy())[..]);
    input.extend_from_slice(b"\x82\0");
    assert_eq!(client.read(&mut input), Ok(Some(Some(Subprotocol::V2))));
    assert_eq!(&input[..], b"\x82\0", "the server's first frame is left");

    let mut plain =
        ClientUpgrade::new("[::1]:1", "/chat?a=b", &[], Some("http://[::1]:1")).expect("legal");
    let response = answer(&plain, &policy());
    assert_eq!(read_answer(&mut plain, &response), Ok(None));
}

#[test]
fn every_request_has_a_key_of_its_own() {
    let (mut one, other) = (client(), client());
    assert_ne!(one.request(), other.request());
    let response = answer(&other, &policy());
    assert_eq!(
        read_answer(&mut one, &response),
        Err(UpgradeError::AcceptMismatch)
    );
}

#[test]
fn a_client_holds_the_server_to_its_answer() {
    let check = |damage: &dyn Fn(String) -> String, expected: UpgradeError| {
        let mut client = client();
        let response = String::from_utf8(answer(&client, &policy()))
            .expect("ascii")
            .to_lowercase();
        // The accept key alone must keep its case, and lower case makes the others easy to replace.
        let response = response
            .lines()
            .map(|line| match line.split_once("sec-websocket-accept: ") {
                Some(_) => format!("sec-websocket-accept: {}\r\n", client.accept()),
                None => format!("{line}\r\n"),
            })
            .collect::<String>()
            .replace("http/1.1", "HTTP/1.1");
        let outcome = read_answer(&mut client, damage(response).as_bytes());
        assert_eq!(outcome, Err(expected));
    };
    check(
        &|r| r.replace("upgrade: websocket\r\n", ""),
        UpgradeError::NotAnUpgrade,
    );
    check(
        &|r| r.replace("connection: upgrade\r\n", ""),
        UpgradeError::NotAnUpgrade,
    );
    check(
        &|r| r.replace("sec-websocket-accept", "accept"),
        UpgradeError::AcceptMismatch,
    );
    check(
        &|r| r.replace("msgtrans.v2", "msgtrans.v9"),
        UpgradeError::UnofferedSubprotocol,
    );
    check(
        &|r| {
            r.replacen(
                "\r\n",
                "\r\nsec-websocket-extensions: permessage-deflate\r\n",
                1,
            )
        },
        UpgradeError::UnofferedExtension,
    );
    check(
        &|_| "HTTP/1.1 what\r\n\r\n".to_owned(),
        UpgradeError::Malformed,
    );
    check(&|_| "SSH-2.0".to_owned(), UpgradeError::Malformed);
    check(
        &|_| format!("HTTP/1.1 101 {}", "x".repeat(HEAD_LEN_MAX)),
        UpgradeError::HeadTooLong,
    );
    check(
        &|r| r.replacen("\r\n", &format!("\r\n{}", "a: b\r\n".repeat(65)), 1),
        UpgradeError::TooManyHeaders,
    );
}

#[test]
fn a_refusal_reaches_the_client_with_its_reason() {
    let mut client = client();
    let elsewhere = UpgradePolicy {
        path: Some("/other".to_owned()),
        ..policy()
    };
    let response = answer(&client, &elsewhere);
    let explanation = Refusal::Path.to_string();
    assert_eq!(
        read_answer(&mut client, &response),
        Err(UpgradeError::Refused {
            status: 404,
            explanation
        })
    );

    let mut client = self::client();
    let bare = b"HTTP/1.1 502 Whatever\r\n\r\n";
    let explanation = "Bad Gateway".to_owned();
    assert_eq!(
        read_answer(&mut client, bare),
        Err(UpgradeError::Refused {
            status: 502,
            explanation
        })
    );
}

#[test]
fn a_request_cannot_be_made_to_say_more_than_it_should() {
    for (host, path, origin) in [
        ("a\r\nX: y", "/", None),
        ("", "/", None),
        ("a", "/ HTTP/1.1\r\n", None),
        ("a", "/", Some("http://a\r\n\r\n")),
        ("ö", "/", None),
    ] {
        let outcome = ClientUpgrade::new(host, path, &[], origin);
        assert!(
            matches!(outcome, Err(RequestError::IllegalText { .. })),
            "{outcome:?}"
        );
    }
    let outcome = ClientUpgrade::new("a", "chat", &[], None);
    assert!(
        matches!(outcome, Err(RequestError::RelativePath { .. })),
        "{outcome:?}"
    );
}

proptest! {
    #[test]
    fn any_split_of_a_request_gives_the_same_answer(
        offer in prop::sample::select(vec!["", "Sec-WebSocket-Protocol: msgtrans.v1\r\n", "Origin: null\r\n", "Content-Length: 9\r\n"]),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        lens in prop::collection::vec(1usize..90, 1..6),
    ) {
        let mut bytes = request(offer).into_bytes();
        if let Some((index, value)) = damage {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let summary = |outcome: Result<Option<Upgrade>, Refusal>| {
            outcome.map(|upgrade| upgrade.map(|upgrade| (upgrade.response, upgrade.subprotocol)))
        };
        let at_once = summary(ServerUpgrade::new().read(&mut BytesMut::from(&bytes[..]), &policy()));
        let mut reader = ServerUpgrade::new();
        let mut input = BytesMut::new();
        let mut in_parts = Ok(None);
        let mut rest = &bytes[..];
        for len in lens.iter().cycle() {
            if rest.is_empty() || !matches!(in_parts, Ok(None)) {
                break;
            }
            let (piece, after) = rest.split_at((*len).min(rest.len()));
            input.extend_from_slice(piece);
            rest = after;
            in_parts = summary(reader.read(&mut input, &policy()));
        }
        prop_assert_eq!(at_once, in_parts);
    }

    #[test]
    fn arbitrary_bytes_never_panic_either_side(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = ServerUpgrade::new().read(&mut BytesMut::from(&[b"GET ", &bytes[..]].concat()[..]), &policy());
        let _ = client().read(&mut BytesMut::from(&[b"HTTP/1.1 ", &bytes[..]].concat()[..]));
    }
}
