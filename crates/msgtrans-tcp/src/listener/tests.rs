//! Every socket option shows at both ends of a connection.

use std::future::poll_fn;
use std::time::Duration;

use msgtrans_transport::socket::listen;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::poll_socket;
use crate::{TcpClientConfig, TcpServerConfig};

/// The sockets of a connection between these two: the dialled one and the accepted one.
async fn sockets(
    server: TcpServerConfig,
    client: impl FnOnce(String) -> TcpClientConfig,
) -> (TcpStream, TcpStream) {
    let address = server.address().expect("an address");
    let listener = listen(&address, &server.options, false)
        .await
        .expect("a free port");
    let at = listener.local_addr().expect("bound").to_string();
    let client = client(at);
    let dialled = client.dial_socket();
    let accepted = poll_fn(|cx| poll_socket(&listener, &server.options, cx));
    let (dialled, accepted) = tokio::join!(dialled, accepted);
    (dialled.expect("dialled"), accepted.expect("accepted").0)
}

fn local() -> TcpServerConfig {
    TcpServerConfig::new("127.0.0.1:0")
}

#[tokio::test]
async fn nodelay_is_on_unless_it_is_switched_off() {
    let (dialled, accepted) = sockets(local(), TcpClientConfig::new).await;
    assert!(dialled.nodelay().expect("option"));
    assert!(accepted.nodelay().expect("option"));

    let off = |at| TcpClientConfig::new(at).nodelay(false);
    let (dialled, accepted) = sockets(local().nodelay(false), off).await;
    assert!(!dialled.nodelay().expect("option"));
    assert!(!accepted.nodelay().expect("option"));
}

#[tokio::test]
async fn keepalive_is_off_unless_a_time_is_given() {
    let (dialled, accepted) = sockets(local(), TcpClientConfig::new).await;
    for socket in [&dialled, &accepted] {
        assert!(!SockRef::from(socket).keepalive().expect("option"));
    }

    let (at_client, at_server) = (Duration::from_secs(7), Duration::from_secs(9));
    let client = |at| TcpClientConfig::new(at).keepalive(at_client);
    let (dialled, accepted) = sockets(local().keepalive(at_server), client).await;
    for (socket, time) in [(&dialled, at_client), (&accepted, at_server)] {
        let socket = SockRef::from(socket);
        assert!(socket.keepalive().expect("option"));
        assert_eq!(socket.tcp_keepalive_time().expect("option"), time);
        assert_eq!(socket.tcp_keepalive_interval().expect("option"), time);
    }
}

#[tokio::test]
async fn buffers_are_as_large_as_asked_for() {
    // The kernel doubles them for its own bookkeeping; the four sizes differ, so none can stand for another.
    let server = local().send_buffer(20_000).recv_buffer(30_000);
    let client = |at| {
        TcpClientConfig::new(at)
            .send_buffer(40_000)
            .recv_buffer(50_000)
    };
    let (dialled, accepted) = sockets(server, client).await;
    let sizes = |socket: &TcpStream| {
        let socket = SockRef::from(socket);
        (
            socket.send_buffer_size().expect("option"),
            socket.recv_buffer_size().expect("option"),
        )
    };
    let doubled = if cfg!(target_os = "linux") { 2 } else { 1 };
    assert_eq!(sizes(&dialled), (40_000 * doubled, 50_000 * doubled));
    assert_eq!(sizes(&accepted), (20_000 * doubled, 30_000 * doubled));
}
