//! `listen`, against a server of the library that pushes.

use msgtrans::{Handler, Packet, QuicServerConfig, Refusal, Session, TransportServer};

use crate::command::{Process, json, stderr, stdout};

/// Sends each new session three messages.
struct Pusher;

impl Handler for Pusher {
    async fn on_connect(
        &self,
        session: &Session,
        _: &msgtrans::ConnectRequest,
    ) -> Result<(), Refusal> {
        let session = session.clone();
        // From a task of its own: nothing can be sent before the session is open.
        tokio::spawn(async move {
            while !session.is_connected() {
                tokio::task::yield_now().await;
            }
            for text in ["one", "two", "three"] {
                let sent = session.send(Packet::text(text).with_biz_type(7)).await;
                sent.expect("an open session");
            }
        });
        Ok(())
    }
}

async fn pusher() -> TransportServer {
    let server = TransportServer::builder()
        .with_protocol("tcp://127.0.0.1:0")
        .with_protocol("ws://127.0.0.1:0")
        .with_protocol(QuicServerConfig::new("127.0.0.1:0"))
        .with_handler(Pusher)
        .build()
        .await
        .expect("free ports");
    server.start().expect("first start");
    server
}

fn urls(server: &TransportServer) -> Vec<String> {
    server
        .local_endpoints()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_printed_in_order_over_each_protocol() {
    let server = pusher().await;
    for url in urls(&server) {
        for wire in ["v1", "v2"] {
            let listener =
                Process::start(&["listen", "--insecure", "--wire", wire, "--count", "3", &url]);
            let output = tokio::task::spawn_blocking(|| listener.end())
                .await
                .expect("it ends");
            assert_eq!(
                output.status.code(),
                Some(0),
                "{url} {wire}: {}",
                stderr(&output)
            );
            assert_eq!(stdout(&output), "one\ntwo\nthree\n", "{url} {wire}");
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_tell_the_session_its_messages_and_its_end() {
    let server = pusher().await;
    let url = &urls(&server)[0];
    let listener = Process::start(&["listen", "--json", "--count", "3", url]);
    let output = tokio::task::spawn_blocking(|| listener.end())
        .await
        .expect("it ends");
    let lines: Vec<_> = stdout(&output).lines().map(json).collect();
    let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(
        events,
        ["connected", "message", "message", "message", "closed"]
    );
    assert_eq!(lines[2]["payload"], "two");
    assert_eq!(lines[2]["biz_type"], 7);
    assert_eq!(lines[4]["messages"], 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_do_not_come_in_time_are_a_failure_where_they_were_counted_on() {
    let server = pusher().await;
    let url = &urls(&server)[0];
    let listener = Process::start(&["listen", "--count", "4", "--timeout", "1", url]);
    let output = tokio::task::spawn_blocking(|| listener.end())
        .await
        .expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("3 of 4 messages came within 1s"),
        "{}",
        stderr(&output)
    );
    server.shutdown().await;
}

#[cfg(unix)]
#[test]
fn a_server_that_is_killed_is_a_lost_connection() {
    let server = Process::start(&["serve", "--echo", "tcp://127.0.0.1:0"]);
    let url = server.listening();
    let listener = Process::start(&["--json", "listen", &url]);
    assert_eq!(json(&listener.line())["event"], "connected");
    server.signal("-KILL");
    let output = listener.end();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("connection lost"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains(&url), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_listener_in_good_order() {
    let server = Process::start(&["serve", "--echo", "tcp://127.0.0.1:0"]);
    let url = server.listening();
    let listener = Process::start(&["--json", "listen", &url]);
    assert_eq!(json(&listener.line())["event"], "connected");
    listener.signal("-INT");
    let output = listener.end();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(json(stdout(&output).trim_end())["reason"], "interrupted");
}
