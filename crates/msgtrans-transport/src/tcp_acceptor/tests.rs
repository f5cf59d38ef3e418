//! A connection is readable when something has come, and not before.

use std::future::poll_fn;
use std::io::Write;
use std::net::TcpStream as StdStream;
use std::task::{Context, Poll, Waker};

use tokio::net::TcpStream;

use super::TcpAcceptor;
use crate::socket::{TcpOptions, listen};

async fn acceptor() -> TcpAcceptor {
    let endpoint = "tcp://127.0.0.1:0".parse().expect("an address");
    listen(&endpoint, &TcpOptions::default(), false)
        .await
        .expect("a free port")
}

fn dial(acceptor: &TcpAcceptor) -> StdStream {
    StdStream::connect(acceptor.local_addr().expect("bound")).expect("it listens")
}

async fn accept(acceptor: &TcpAcceptor) -> TcpStream {
    let (stream, _) = poll_fn(|cx| acceptor.poll_accept(cx))
        .await
        .expect("accepted");
    stream
}

fn readable(stream: &TcpStream) -> bool {
    stream
        .poll_read_ready(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

#[tokio::test]
async fn a_connection_whose_peer_is_silent_is_not_taken_for_readable() {
    let acceptor = acceptor().await;
    let mut peer = dial(&acceptor);
    let accepted = accept(&acceptor).await;
    assert!(!readable(&accepted));

    // By now the system has told what it knows, which is that there is room.
    accepted.writable().await.expect("there is room");
    assert!(!readable(&accepted));

    peer.write_all(b"x").expect("sent");
    accepted.readable().await.expect("there are bytes");
    assert_eq!(accepted.try_read(&mut [0; 8]).expect("there are bytes"), 1);
}

#[tokio::test]
async fn what_came_before_it_was_accepted_makes_a_connection_readable() {
    let acceptor = acceptor().await;
    let mut peer = dial(&acceptor);
    peer.write_all(b"x").expect("sent");
    let accepted = accept(&acceptor).await;
    accepted.readable().await.expect("there are bytes");
    assert_eq!(accepted.try_read(&mut [0; 8]).expect("there are bytes"), 1);
}

#[tokio::test]
async fn every_connection_of_a_burst_is_accepted() {
    let acceptor = acceptor().await;
    let peers: Vec<StdStream> = (0..100).map(|_| dial(&acceptor)).collect();
    for peer in &peers {
        let (_, address) = poll_fn(|cx| acceptor.poll_accept(cx))
            .await
            .expect("accepted");
        assert_eq!(address, peer.local_addr().expect("connected"));
    }
    let none = acceptor.poll_accept(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(none, Poll::Pending));
}
