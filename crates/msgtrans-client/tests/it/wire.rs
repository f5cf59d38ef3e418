//! Which version is spoken, and the one step down to version 1.

use msgtrans_core::{ConnectError, TransportError, WireVersion, WireVersions};
use msgtrans_session::TransportEvent;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{Builder, Server, event, name, soon};

/// Reads something and closes without a word, as a version 1 server does with a Hello. Returns the first byte.
async fn hang_up(listener: &TcpListener) -> u8 {
    let (mut socket, _) = soon(listener.accept()).await.expect("accepted");
    let mut bytes = [0; 4096];
    let count = soon(socket.read(&mut bytes)).await.expect("read");
    assert!(count > 0, "a first frame");
    bytes[0]
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("tcp://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

#[tokio::test]
async fn auto_steps_down_to_version_1_once() {
    let (listener, url) = listener().await;
    let client = Builder::new()
        .with_protocol(&url)
        .wire(WireVersions::Any)
        .auto_reconnect(false)
        .build()
        .await
        .expect("valid");
    let mut events = client.events();
    let (connected, hello) = tokio::join!(soon(client.connect()), hang_up(&listener));
    connected.expect("as version 1");
    assert_eq!(hello, 2);
    assert_eq!(
        client.session().expect("open").version(),
        Some(WireVersion::V1)
    );
    assert_eq!(name(&event(&mut events).await), "error");
    assert_eq!(name(&event(&mut events).await), "established");
    client.send("old").await.expect("sent");
    assert_eq!(hang_up(&listener).await, 1);
    match event(&mut events).await {
        TransportEvent::ConnectionClosed { .. } => {}
        other => panic!("{other:?} instead of Closed"),
    }
    assert!(soon(events.next()).await.is_none(), "no third connection");
}

async fn fails_after_one_connection(builder: impl FnOnce(Builder) -> Builder) {
    let (listener, url) = listener().await;
    let client = builder(Builder::new().with_protocol(&url))
        .build()
        .await
        .expect("valid");
    let (connected, hello) = tokio::join!(soon(client.connect()), hang_up(&listener));
    assert_eq!(hello, 2);
    match connected {
        Err(TransportError::Connect(ConnectError::Handshake { stage, .. })) => {
            assert_eq!(stage, "hello")
        }
        other => panic!("{other:?} instead of a failed handshake"),
    }
    // Nobody else has come: the next one is ours.
    let address = listener.local_addr().expect("bound");
    let (ours, next) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    let ours = ours.expect("connected").local_addr().expect("bound");
    assert_eq!(next.expect("accepted").1, ours);
}

#[tokio::test]
async fn a_token_is_never_answered_by_stepping_down() {
    fails_after_one_connection(|builder| builder.wire(WireVersions::Any).auth("secret")).await;
}

#[tokio::test]
async fn version_2_alone_never_steps_down() {
    fails_after_one_connection(|builder| builder).await;
}

#[tokio::test]
async fn version_1_is_spoken_where_asked_for() {
    let mut server = Server::tcp().await;
    let client = server
        .builder()
        .wire(WireVersions::V1)
        .build()
        .await
        .expect("valid");
    client.connect().await.expect("connected");
    let answer = soon(client.request("old")).await.expect("answered");
    assert_eq!(answer.payload.as_ref(), b"old");
    let session = server.opened().await;
    assert_eq!(session.version(), Some(WireVersion::V1));
}

#[tokio::test]
async fn auto_speaks_version_2_with_a_server_that_does() {
    let mut server = Server::tcp().await;
    let client = server
        .builder()
        .wire(WireVersions::Any)
        .build()
        .await
        .expect("valid");
    client.connect().await.expect("connected");
    assert_eq!(server.opened().await.version(), Some(WireVersion::V2));
    assert_eq!(
        client.session().expect("open").version(),
        Some(WireVersion::V2)
    );
}
