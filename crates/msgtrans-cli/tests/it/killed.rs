//! Processes that are killed or stopped in the middle of their traffic, and what the other side makes of it.
#![cfg(unix)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use msgtrans::tls::{Identity, ServerTls};
use msgtrans::{
    Packet, QuicServerConfig, TcpServerConfig, TransportClient, TransportServer,
    WebSocketServerConfig,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::command::Process;

/// Everybody is back by then.
const BACK: Duration = Duration::from_secs(60);

/// `short` without the variable.
fn count(name: &str, short: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(short, |count| count.parse().expect("a number"))
}

/// Blocking calls of the command's harness, off the runtime.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.expect("ran")
}

async fn serve(urls: Vec<String>) -> (Process, Vec<String>) {
    blocking(move || {
        let args = ["serve", "--echo"].into_iter();
        let args: Vec<_> = args.chain(urls.iter().map(String::as_str)).collect();
        let server = Process::start(&args);
        let bound = urls.iter().map(|_| server.listening()).collect();
        (server, bound)
    })
    .await
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(20));
    let waiting = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    let came = timeout(BACK, waiting).await;
    came.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_server_fail_what_waited_and_are_all_back_within_a_minute() {
    let each = count("MSGTRANS_KILLED_CLIENTS", 10);
    let asked = ["tcp", "tls", "ws", "wss", "quic"].map(|scheme| format!("{scheme}://127.0.0.1:0"));
    let (server, urls) = serve(asked.to_vec()).await;
    let (killed, restarted) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let answered = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    // So many come in at a time as a server's listener has patience for.
    let (doors, inside) = (Arc::new(Semaphore::new(64)), Arc::new(AtomicU64::new(0)));
    for url in &urls {
        let secure = !url.starts_with("tcp") && !url.starts_with("ws:");
        let url = format!("{url}{}", if secure { "?insecure=true" } else { "" });
        for _ in 0..each {
            let client = TransportClient::builder()
                .with_protocol(url.as_str())
                .heartbeat(Duration::from_secs(5))
                .request_timeout(Duration::from_secs(5));
            let client = client.build().await.expect("valid");
            let (killed, restarted) = (killed.clone(), restarted.clone());
            let (answered, name) = (answered.clone(), url.clone());
            let (doors, inside) = (doors.clone(), inside.clone());
            clients.spawn(async move {
                let door = doors.acquire().await.expect("never closed");
                client.connect().await.expect("connected");
                drop(door);
                inside.fetch_add(1, Ordering::Relaxed);
                let mut ticks = interval(Duration::from_millis(20));
                let (mut failed, mut number) = (0_u64, 0_u64);
                loop {
                    number += 1;
                    let again = restarted.load(Ordering::Acquire);
                    let asked = number.to_be_bytes().to_vec();
                    // Answered or failed, and never later than its deadline and the time of a busy machine.
                    let answer = timeout(BACK, client.request(asked.clone())).await;
                    match answer.unwrap_or_else(|_| panic!("{name}: neither")) {
                        Ok(answer) => {
                            assert_eq!(answer.payload, asked, "{name}");
                            answered.fetch_add(1, Ordering::Relaxed);
                            if again {
                                break;
                            }
                        }
                        Err(_) => {
                            assert!(killed.load(Ordering::Acquire), "{name}: failed in peace");
                            failed += 1;
                            ticks.tick().await;
                        }
                    }
                }
                assert_eq!(client.stats().responses_unmatched, 0, "{name}");
                client.disconnect().await.expect("disconnected");
                failed
            });
        }
    }
    let all = each * urls.len();
    let mut before = 0;
    while before < all as u64 {
        until("one more inside", || {
            inside.load(Ordering::Relaxed) > before
        })
        .await;
        before = inside.load(Ordering::Relaxed);
    }
    until("traffic", || {
        answered.load(Ordering::Relaxed) > 20 * all as u64
    })
    .await;
    killed.store(true, Ordering::Release);
    server.signal("-KILL");
    blocking(move || drop(server)).await;
    let (server, again) = serve(urls.clone()).await;
    assert_eq!(again, urls);
    let begun = Instant::now();
    restarted.store(true, Ordering::Release);
    let mut failed = 0;
    let back = async {
        while let Some(client) = clients.join_next().await {
            failed += client.expect("a client");
        }
    };
    let back = timeout(BACK, back).await;
    back.unwrap_or_else(|_| panic!("{} of {all} are not back", clients.len()));
    assert!(failed > 0, "nobody noticed");
    #[expect(clippy::print_stdout, reason = "a long run says what it did")]
    {
        let back = begun.elapsed();
        println!("{all} clients back after {back:?}; {failed} requests failed meanwhile");
    }
    blocking(move || drop(server)).await;
}

/// A server that pushes, over every protocol.
async fn pusher() -> TransportServer {
    let identity = Identity::development().expect("a certificate");
    let tls = || ServerTls::new(identity.clone());
    let server = TransportServer::builder()
        .with_protocol("tcp://127.0.0.1:0")
        .with_protocol(TcpServerConfig::new("127.0.0.1:0").tls(tls()))
        .with_protocol("ws://127.0.0.1:0")
        .with_protocol(WebSocketServerConfig::new("127.0.0.1:0").tls(tls()))
        .with_protocol(QuicServerConfig::new("127.0.0.1:0").with_identity(identity.clone()))
        .send_timeout(Duration::from_secs(3))
        .session_config(|config| {
            config.heartbeat = Duration::from_secs(5);
            config.outbound.bytes = 512 * 1024;
        });
    let server = server.build().await.expect("bound");
    server.start().expect("the first start");
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_killed_or_stopped_in_the_middle_go_and_the_others_do_not_feel_it() {
    let server = pusher().await;
    let urls: Vec<String> = server
        .local_endpoints()
        .iter()
        .map(ToString::to_string)
        .collect();
    // Who behaves hears each number once and in order, or not at all: a broadcast waits for nobody.
    let heard = Arc::new(AtomicU64::new(0));
    let mut good = Vec::new();
    for url in ["tcp", "ws"] {
        let url = urls.iter().find(|it| it.starts_with(&format!("{url}:")));
        let client = TransportClient::builder().with_protocol(url.expect("bound").as_str());
        let client = client.build().await.expect("valid");
        let (heard, last) = (heard.clone(), AtomicU64::new(0));
        let _ = client.on_message(move |_, packet: Packet| {
            let number = std::str::from_utf8(&packet.payload[..16]).expect("text");
            let number = u64::from_str_radix(number, 16).expect("a number");
            assert!(
                last.swap(number, Ordering::Relaxed) < number,
                "out of order"
            );
            heard.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        client.connect().await.expect("connected");
        good.push(client);
    }
    let (starting, mut listeners) = (urls.clone(), Vec::new());
    let started = blocking(move || {
        let twice = starting.iter().flat_map(|url| [url, url]);
        let started = twice.map(|url| Process::start(&["listen", "--insecure", url]));
        started.collect::<Vec<_>>()
    });
    listeners.extend(started.await);
    let all = good.len() + listeners.len();
    until("connected", || server.session_count() == all).await;

    let pushing = {
        let server = server.clone();
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(5));
            for number in 1_u64.. {
                ticks.tick().await;
                let mut payload = format!("{number:016x}").into_bytes();
                payload.resize(32 * 1024, b' ');
                let report = server.broadcast(Packet::binary(payload)).await;
                report.expect("encoded");
            }
        })
    };
    until("traffic", || heard.load(Ordering::Relaxed) > 20).await;
    for (number, listener) in listeners.iter().enumerate() {
        listener.signal(if number % 2 == 0 { "-KILL" } else { "-STOP" });
    }
    until("the others go", || server.session_count() == good.len()).await;
    let before = heard.load(Ordering::Relaxed);
    until("traffic goes on", || {
        heard.load(Ordering::Relaxed) > before + 20
    })
    .await;
    let rejections = server.stats().rejections;
    assert!(rejections.slow_consumer >= 1, "{rejections:?}");
    pushing.abort();
    // Stopped processes cannot end by themselves.
    for listener in listeners.iter().skip(1).step_by(2) {
        listener.signal("-CONT");
    }
    blocking(move || drop(listeners)).await;
    for client in good {
        assert!(client.session().is_some(), "a client that behaves was cut");
        client.disconnect().await.expect("disconnected");
    }
    until("all have gone", || server.session_count() == 0).await;
    server.shutdown().await;
}
