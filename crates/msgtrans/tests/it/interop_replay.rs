//! Exchanges recorded with the published crate, played again over real sockets: our bytes must be those of then.

use std::time::Duration;

use msgtrans::{
    Handler, HandlerError, Packet, Session, TransportClient, TransportEvent, TransportServer,
    WireVersions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{connect, run, start};

macro_rules! recording {
    ($name:literal) => {
        include_bytes!(concat!("../fixtures/interop/", $name, ".bin"))
    };
}

/// The turns of a recording, by the published crate (`P`) and by ours (`O`); see the README beside the recordings.
fn turns(mut recording: &[u8]) -> Vec<(u8, &[u8])> {
    let mut turns = Vec::new();
    while let Some((head, rest)) = recording.split_first_chunk::<5>() {
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (turn, rest) = rest.split_at(len);
        turns.push((head[0], turn));
        recording = rest;
    }
    assert!(recording.is_empty(), "half a turn");
    assert!(
        turns.iter().any(|(who, _)| *who == b'O'),
        "nothing of ours to compare"
    );
    turns
}

/// Writes what the published crate wrote, and compares what ours writes in between.
async fn play_published_side(stream: &mut TcpStream, recording: &[u8]) {
    for (number, (who, bytes)) in turns(recording).into_iter().enumerate() {
        if who == b'P' {
            stream.write_all(bytes).await.expect("written");
        } else {
            let mut ours = vec![0; bytes.len()];
            stream
                .read_exact(&mut ours)
                .await
                .expect("as many bytes as then");
            let differs = ours.iter().zip(bytes).position(|(now, then)| now != then);
            assert_eq!(
                differs, None,
                "turn {number}: the first byte that is not as recorded"
            );
        }
    }
}

/// Nothing more comes, and our side closes.
async fn must_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .await
        .expect("an end in good order");
    assert!(rest.is_empty(), "{} bytes that nobody recorded", rest.len());
}

/// What our side did while it was recorded: it answered requests with their payloads, and as a server sent messages back.
struct Mirror {
    messages: bool,
}

impl Handler for Mirror {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        if self.messages {
            let back = Packet::binary(packet.payload)
                .with_biz_type(packet.biz_type)
                .with_ext_header(packet.ext_header);
            session.send(back).await?;
        }
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn mirror_server() -> TransportServer {
    let builder = TransportServer::builder()
        .with_protocol("tcp://127.0.0.1:0")
        .with_handler(Mirror { messages: true })
        // The recording was made with a second; what is said does not depend on it.
        .session_config(|session| session.listen_first_after = Duration::from_millis(10));
    start(builder).await
}

async fn published_client(server: &TransportServer) -> TcpStream {
    let port = server.local_endpoints()[0].port().expect("a port");
    TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a listener")
}

/// Plays a published client against a server of ours, up to the end that both see.
fn check_server(recording: &'static [u8]) {
    run(async move {
        let server = mirror_server().await;
        let mut client = published_client(&server).await;
        play_published_side(&mut client, recording).await;
        client.shutdown().await.expect("an end");
        must_end(&mut client).await;
    });
}

#[test]
fn server_answers_a_published_client_as_recorded() {
    check_server(recording!("published_client_requests"));
}

#[test]
fn server_sends_messages_to_a_published_client_as_recorded() {
    check_server(recording!("published_client_messages"));
}

#[test]
fn server_answers_compressed_requests_of_a_published_client_as_recorded() {
    check_server(recording!("published_client_compressed"));
}

#[test]
fn server_speaks_to_a_published_client_that_listens_as_recorded() {
    run(async {
        let server = mirror_server().await;
        let mut client = published_client(&server).await;
        let speaking = async {
            let session = next_session(&server).await;
            let push = Packet::binary("the server first").with_biz_type(5);
            let push = push.with_ext_header("push");
            session.send(push).await.expect("sent");
            let question = Packet::request("anybody there?").with_biz_type(6);
            let answer = session.request(question).await.expect("an answer");
            assert_eq!(answer.payload, "anybody there?");
            let answer = session.request(counted(2000)).await.expect("an answer");
            assert_eq!(answer.payload, counted(2000));
        };
        let recording = recording!("published_client_listens");
        tokio::join!(speaking, play_published_side(&mut client, recording));
        client.shutdown().await.expect("an end");
        must_end(&mut client).await;
    });
}

async fn next_session(server: &TransportServer) -> Session {
    let mut events = server.events();
    loop {
        let event = events.next().await.expect("an event");
        if let TransportEvent::ConnectionEstablished { session_id, .. } = event {
            return server.session(session_id).expect("open");
        }
    }
}

/// The payload that says where each byte stands, as in the recordings.
fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Our client, and the socket of the published server that it has connected to.
async fn mirror_client() -> (TransportClient, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let builder = TransportClient::builder()
        .with_protocol(format!("tcp://127.0.0.1:{port}").as_str())
        .wire(WireVersions::V1)
        .auto_reconnect(false)
        .with_handler(Mirror { messages: false });
    let (client, accepted) = tokio::join!(connect(builder), listener.accept());
    (client, accepted.expect("a client").0)
}

#[test]
fn client_asks_a_published_server_as_recorded() {
    run(async {
        let (client, mut server) = mirror_client().await;
        let asking = async {
            for request in [
                Packet::request("?"),
                Packet::request(counted(1000))
                    .with_biz_type(7)
                    .with_ext_header("route:42"),
                Packet::request(""),
                Packet::request(counted(9000)).with_biz_type(255),
            ] {
                let payload = request.payload.clone();
                let answer = client.request(request).await.expect("an answer");
                assert_eq!(answer.payload, payload);
            }
        };
        let recording = recording!("published_server_answers");
        tokio::join!(asking, play_published_side(&mut server, recording));
        let (left, ()) = tokio::join!(client.disconnect(), end_as_server(&mut server));
        left.expect("an end in good order");
    });
}

#[test]
fn client_answers_a_published_server_as_recorded() {
    run(async {
        let (client, mut server) = mirror_client().await;
        play_published_side(&mut server, recording!("published_server_speaks")).await;
        let (left, ()) = tokio::join!(client.disconnect(), end_as_server(&mut server));
        left.expect("an end in good order");
    });
}

/// A published server closes when its client has.
async fn end_as_server(stream: &mut TcpStream) {
    must_end(stream).await;
    stream.shutdown().await.expect("an end");
}
