//! A whole run against a version 2 server made of a socket and constants.

use super::*;
use crate::WireName;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// What the load has to send first, byte by byte: Hello with max_frame, features, agent.
const HELLO: [u8; 52] = *b"\x02\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x24\x00\x00\
    \x01\x00\x04\x01\x01\x00\x0f\x02\x00\x04\x00\x00\x00\x00\x06\x00\x13msgtrans-bench load";
const WELCOME: [u8; 16] = *b"\x02\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
const PING: [u8; 17] = *b"\x02\x00\x0b\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00!";
const PONG: [u8; 17] = *b"\x02\x00\x0c\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00!";
const GOODBYE: [u8; 16] = *b"\x02\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
const FRAME_LEN: usize = 16 + 8;

/// Serves one connection as a v2 server would and returns how many messages it echoed. `spoil` is called with the
/// number of each echo and may change it.
fn serve(mut stream: TcpStream, spoil: impl Fn(u64, &mut [u8])) -> std::io::Result<u64> {
    let mut hello = [0; HELLO.len()];
    stream.read_exact(&mut hello)?;
    assert_eq!(hello, HELLO);
    stream.write_all(&WELCOME)?;
    let (mut echoed, mut pongs) = (0, 0);
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        if head == GOODBYE {
            assert_eq!(pongs, 1);
            return Ok(echoed);
        }
        if head[2] == 12 {
            let mut rest = [0; 1];
            stream.read_exact(&mut rest)?;
            assert_eq!([&head[..], &rest].concat(), PONG);
            pongs += 1;
            continue;
        }
        let mut frame = [0; FRAME_LEN];
        frame[..16].copy_from_slice(&head);
        stream.read_exact(&mut frame[16..])?;
        echoed += 1;
        if echoed == 3 {
            stream.write_all(&PING)?;
        }
        spoil(echoed, &mut frame);
        stream.write_all(&frame)?;
    }
}

fn check(
    spoil: impl Fn(u64, &mut [u8]) + Send + 'static,
) -> (Result<(), Trouble>, std::io::Result<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = Target {
        target: format!("tcp://{}", listener.local_addr().expect("bound")),
        wire: WireName::V2,
        connections: 1,
        payload: 8,
        threads: 1,
        sources: 0,
        heartbeat_ms: None,
        watch: None,
    };
    let server = std::thread::spawn(move || serve(listener.accept()?.0, spoil));
    let time = Time {
        seconds: 0.1,
        warm_up: 0.0,
    };
    let ran = run(
        "echo",
        &target,
        &time,
        Kind::Echo,
        Pace::Closed { window: 4 },
    );
    (ran, server.join().expect("the server's assertions hold"))
}

#[test]
fn v2_handshake_ping_and_goodbye_against_a_server_written_by_hand() {
    let (ran, served) = check(|_, _| {});
    ran.expect("every echo was right");
    assert!(served.expect("ended by Goodbye") >= 4);
}

#[test]
fn one_wrong_byte_in_one_echo_fails_the_run() {
    let (ran, _) = check(|echoed, frame| frame[20] ^= u8::from(echoed == 50));
    assert!(
        ran.expect_err("a spoilt echo")
            .to_string()
            .contains("another payload")
    );
}
