//! Which version ALPN decides, and which peers have nothing in common.

use msgtrans_core::{ConnectError, DecodeError, WireVersion, WireVersions};
use msgtrans_tcp::TcpServerConfig;
use msgtrans_testkit::{Peer, accept};
use msgtrans_tls::ServerTls;
use msgtrans_tls::rustls::HandshakeKind;
use msgtrans_transport::{ConnectionError, Incoming, ProtocolConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{bind, dial, frame, identity, local, meet, pinning, raw, url};

#[tokio::test]
async fn alpn_decides_where_both_have_it_and_the_first_frame_elsewhere() {
    use WireVersions::{Any, V1, V2};
    let identity = identity();
    for (theirs, ours, agreed) in [
        (Any, V2, Some(WireVersion::V2)),
        (Any, Any, Some(WireVersion::V2)),
        (V2, Any, Some(WireVersion::V2)),
        (Any, V1, None),
        (V1, V1, None),
        (V1, V2, None),
    ] {
        let (mut listener, address) = bind(&local(&identity).wire(theirs)).await;
        let client = pinning(&address, &identity);
        let met = meet(listener.as_mut(), &client, ours).await;
        for connection in [met.0.expect("came"), met.1.expect("believed")] {
            let info = connection.info();
            assert!(info.secure);
            assert_eq!(
                (info.protocol, info.negotiated),
                ("tls", agreed),
                "{theirs:?} {ours:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_without_alpn_is_served_and_one_of_another_protocol_is_not() {
    let identity = identity();
    let (mut listener, address) = bind(&local(&identity)).await;
    let (accepted, mut stream) =
        tokio::join!(accept(listener.as_mut()), raw(&address, &identity, &[]));
    stream
        .write_all(&frame(WireVersion::V1, 0))
        .await
        .expect("written");
    stream.flush().await.expect("written");
    let mut peer = Peer::new(accepted.expect("came"), WireVersion::V1);
    assert!(peer.recv().await.expect("a frame").is_some());

    let http = msgtrans_tls::ClientTls::new().pin(identity.spki_pin());
    let http = tokio_rustls::TlsConnector::from(http.build(&[b"h2"]).expect("legal"));
    let (accepted, dialled) = tokio::join!(accept(listener.as_mut()), async {
        let stream = TcpStream::connect(&address).await.expect("answers");
        let name = "localhost".try_into().expect("a name");
        http.connect(name, stream).await
    });
    assert!(accepted.is_err() && dialled.is_err());
}

#[tokio::test]
async fn what_alpn_decided_holds_for_the_first_frame() {
    let identity = identity();
    let (mut listener, address) = bind(&local(&identity)).await;
    let (accepted, mut stream) = tokio::join!(
        accept(listener.as_mut()),
        raw(&address, &identity, &[b"msgtrans/2"])
    );
    stream
        .write_all(&frame(WireVersion::V1, 0))
        .await
        .expect("written");
    stream.flush().await.expect("written");
    let mut peer = Peer::new(accepted.expect("came"), WireVersion::V1);
    match peer.recv().await {
        Err(ConnectionError::Decode(DecodeError::VersionRefused { version })) => {
            assert_eq!(version, WireVersion::V1);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn plain_and_secure_do_not_meet() {
    let identity = identity();
    let (mut listener, address) = bind(&local(&identity)).await;
    let mut plain = TcpStream::connect(&address).await.expect("answers");
    plain
        .write_all(&frame(WireVersion::V1, 0))
        .await
        .expect("written");
    assert!(accept(listener.as_mut()).await.is_err());

    // A listener that answers in plain is not believed to be the server, and nothing else is tried.
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = plain.local_addr().expect("bound").to_string();
    let client = pinning(&address, &identity);
    let answer = async {
        let (mut stream, _) = plain.accept().await.expect("came");
        let frame = frame(WireVersion::V2, 0);
        stream.write_all(&frame).await.expect("written");
        stream
    };
    let (_stream, dialled) = tokio::join!(answer, dial(&client, WireVersions::V2));
    let tls = matches!(
        dialled.map(drop),
        Err(ConnectError::Handshake { stage: "tls", .. })
    );
    assert!(tls);
}

#[tokio::test]
async fn a_peer_that_is_silent_in_its_handshake_stalls_nobody() {
    let identity = identity();
    let (mut listener, address) = bind(&local(&identity)).await;
    let _silent = TcpStream::connect(&address).await.expect("answers");
    let waiting = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
    let Ok(Incoming::Handshake {
        peer, handshake, ..
    }) = waiting
    else {
        panic!("{waiting:?} is no handshake");
    };
    assert!(peer.to_string().starts_with("127.0.0.1:"));
    let waiting = tokio::spawn(handshake);
    let client = pinning(&address, &identity);
    let (accepted, dialled) = meet(listener.as_mut(), &client, WireVersions::V2).await;
    assert!(accepted.is_ok() && dialled.is_ok());
    assert!(!waiting.is_finished());
}

#[tokio::test]
async fn a_handshake_that_the_network_cuts_may_be_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let client = pinning(&address, &identity());
    let (_, dialled) = tokio::join!(
        async { drop(listener.accept().await) },
        dial(&client, WireVersions::V2)
    );
    match dialled.map(drop) {
        Err(error @ ConnectError::Handshake { stage: "tls", .. }) => {
            assert!(error.is_retryable(), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_dial_resumes_the_session_of_the_first() {
    let identity = identity();
    let config = ServerTls::new(identity.clone()).build(&[b"msgtrans/2"]);
    let acceptor = TlsAcceptor::from(config.expect("legal"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let client = pinning(&address, &identity);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let served = async {
            let (stream, _) = listener.accept().await.expect("came");
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
            // Behind the tickets, so that a client that has read this has those.
            let frame = frame(WireVersion::V2, 0);
            stream.write_all(&frame).await.expect("written");
            stream.shutdown().await.expect("written");
        };
        let dialled = async {
            let connection = dial(&client, WireVersions::V2).await.expect("believed");
            let mut peer = Peer::new(connection, WireVersion::V2);
            assert!(peer.recv().await.expect("a frame").is_some());
        };
        tokio::join!(served, dialled);
    }
}

#[test]
fn settings_given_as_values_have_the_scheme_and_no_options() {
    let typed = TcpServerConfig::new("0.0.0.0:1").tls(ServerTls::new(identity()));
    assert_eq!(typed.endpoint(), url("tls://0.0.0.0:1"));
}
