//! The HTTP upgrade, both sides: the same verdict however the head arrives, and an answer that is one head.

use std::fmt::Debug;

use bytes::{Buf, BytesMut};
use msgtrans_websocket::handshake::{
    ClientUpgrade, HEAD_LEN_MAX, OriginPolicy, ServerUpgrade, Subprotocol, UpgradePolicy,
};

use crate::input::{Cuts, Input};

/// A server's verdict does not depend on the cuts, and what it answers is exactly one head.
pub(crate) fn server(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choices = input.byte();
    let policy = UpgradePolicy {
        path: (choices & 1 != 0).then(|| "/chat".to_owned()),
        origins: OriginPolicy::default(),
        tls: choices & 2 != 0,
        subprotocols: match choices & 12 {
            0 => Vec::new(),
            4 => vec![Subprotocol::V1],
            8 => vec![Subprotocol::V2],
            _ => vec![Subprotocol::V2, Subprotocol::V1],
        },
    };
    let mut cuts = input.cuts();
    let head = input.rest();
    let read = |cuts: Option<&mut Cuts>| {
        let mut upgrade = ServerUpgrade::new();
        read(head, cuts, |input| {
            upgrade
                .read(input, &policy)
                .map(|upgrade| upgrade.map(|upgrade| (upgrade.response, upgrade.subprotocol)))
        })
    };
    let at_once = read(None);
    assert_eq!(at_once, read(Some(&mut cuts)));
    match at_once {
        Some(Ok(((response, subprotocol), head_len))) => {
            assert!(head_len <= HEAD_LEN_MAX);
            assert!(subprotocol.is_none_or(|it| policy.subprotocols.contains(&it)));
            assert_one_head(&response, b"HTTP/1.1 101 ");
        }
        Some(Err(refusal)) => {
            let response = refusal.response();
            let status = format!("HTTP/1.1 {} ", refusal.status());
            assert!((400..500).contains(&refusal.status()));
            let body = response
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .expect("an answer has a head");
            assert_one_head(&response[..body + 4], status.as_bytes());
        }
        None => assert!(head.len() < HEAD_LEN_MAX),
    }
}

/// No line of the peer's making.
fn assert_one_head(response: &[u8], status: &[u8]) {
    assert!(response.starts_with(status) && response.ends_with(b"\r\n\r\n"));
    let text = std::str::from_utf8(response).expect("an answer is ASCII");
    assert!(text.trim_end().lines().all(|line| !line.trim().is_empty()));
    assert!(text.lines().count() <= 8, "{text}");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
}

/// A client believes the answer to its own key alone, and only what it offered. A zero byte in the input stands for
/// the right answer to the key, which differs in every run.
pub(crate) fn client(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choices = input.byte();
    let offered: &[Subprotocol] = match choices & 3 {
        0 => &[],
        1 => &[Subprotocol::V1],
        2 => &[Subprotocol::V2],
        _ => &[Subprotocol::V2, Subprotocol::V1],
    };
    let mut cuts = input.cuts();
    let template = input.rest();
    // An answer to nobody's key, so that both readings see the same bytes.
    let foreign = fill_in(template, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let (mut whole, _) = dial(offered);
    let at_once = read(&foreign, None, |input| whole.read(input));
    let (mut pieces, _) = dial(offered);
    let split = read(&foreign, Some(&mut cuts), |input| pieces.read(input));
    match (&at_once, &split) {
        // The explanation of a refusal is what has come of the body so far.
        (Some(Err(one)), Some(Err(other))) => {
            assert_eq!(std::mem::discriminant(one), std::mem::discriminant(other));
        }
        _ => assert_eq!(at_once, split),
    }
    assert!(
        !matches!(at_once, Some(Ok(_))),
        "an answer to another key was believed"
    );
    let (mut upgrade, accept) = dial(offered);
    let own = fill_in(template, &accept);
    if let Some(Ok((subprotocol, head_len))) = read(&own, None, |input| upgrade.read(input)) {
        assert!(head_len <= HEAD_LEN_MAX);
        assert!(subprotocol.is_none_or(|it| offered.contains(&it)));
    }
}

/// A request, and the answer that its key demands as our own server gives it.
fn dial(offered: &[Subprotocol]) -> (ClientUpgrade, String) {
    let upgrade = ClientUpgrade::new("localhost", "/", offered, None).expect("a legal request");
    let mut request = BytesMut::from(upgrade.request());
    let granted = ServerUpgrade::new()
        .read(&mut request, &UpgradePolicy::default())
        .expect("our own request is granted")
        .expect("our own request is whole");
    let response = String::from_utf8(granted.response).expect("an answer is ASCII");
    let accept = response
        .lines()
        .find(|line| {
            line.to_ascii_lowercase()
                .starts_with("sec-websocket-accept:")
        })
        .and_then(|line| line.split_once(": "))
        .expect("an answer has an accept header");
    (upgrade, accept.1.to_owned())
}

fn fill_in(template: &[u8], accept: &str) -> Vec<u8> {
    template
        .split(|byte| *byte == 0)
        .collect::<Vec<_>>()
        .join(accept.as_bytes())
}

/// Feeds a head, in pieces or at once; the verdict, if there is one, and the bytes that it took.
fn read<T: Debug, E: Debug>(
    mut head: &[u8],
    mut cuts: Option<&mut Cuts>,
    mut step: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Option<Result<(T, usize), E>> {
    let mut input = BytesMut::new();
    let mut fed = 0;
    loop {
        let len = cuts
            .as_mut()
            .map_or(head.len(), |cuts| cuts.next_len().min(head.len()));
        input.extend_from_slice(&head[..len]);
        head.advance(len);
        fed += len;
        match step(&mut input) {
            Ok(Some(value)) => return Some(Ok((value, fed - input.len()))),
            Ok(None) if head.is_empty() => return None,
            Ok(None) => assert_eq!(input.len(), fed, "bytes taken of an incomplete head"),
            Err(error) => return Some(Err(error)),
        }
    }
}
