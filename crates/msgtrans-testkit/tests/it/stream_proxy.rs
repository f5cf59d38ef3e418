//! TCP through a bad network.

use std::io::ErrorKind;
use std::time::Duration;

use msgtrans_testkit::chaos::{Direction, End, StreamFaults, StreamProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::within_deadline;

/// A proxy in front of a listener, and both ends of a connection through it.
struct Path {
    proxy: StreamProxy,
    client: TcpStream,
    server: TcpStream,
}

async fn path(faults: impl Fn(&mut StreamFaults)) -> Path {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = listener.local_addr().expect("bound");
    let proxy = StreamProxy::start(target, 11).await.expect("a port");
    proxy.change(Direction::Both, faults);
    let client = TcpStream::connect(proxy.address()).await.expect("listens");
    let (server, _) = listener.accept().await.expect("dialled");
    Path {
        proxy,
        client,
        server,
    }
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

#[tokio::test]
async fn bytes_pass_unchanged_and_so_does_the_end_of_either_stream() {
    within_deadline(async {
        let Path {
            proxy: _proxy,
            client,
            mut server,
        } = path(|_| {}).await;
        let sent = numbers(1_000_000);
        let (mut read, mut write) = client.into_split();
        let writing = tokio::spawn({
            let sent = sent.clone();
            async move {
                write.write_all(&sent).await.expect("open");
                write.shutdown().await.expect("open");
            }
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.expect("open");
        assert!(got == sent);
        writing.await.expect("ran");
        // The other direction is still there.
        server.write_all(b"thanks").await.expect("open");
        drop(server);
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.expect("in good order");
        assert_eq!(got, b"thanks");
    })
    .await;
}

#[tokio::test]
async fn a_slice_is_never_longer_than_told() {
    within_deadline(async {
        let Path {
            proxy: _proxy,
            mut client,
            mut server,
        } = path(|faults| {
            faults.slice_bytes_max = 3.try_into().ok();
            // So slow that two slices are never in the reader's socket together.
            faults.bytes_per_second = 600.try_into().ok();
        })
        .await;
        let sent = numbers(60);
        client.write_all(&sent).await.expect("open");
        let (mut got, mut sizes) = (Vec::new(), Vec::new());
        let mut buffer = [0; 64];
        while got.len() < sent.len() {
            let count = server.read(&mut buffer).await.expect("open");
            got.extend_from_slice(&buffer[..count]);
            sizes.push(count);
        }
        assert_eq!(got, sent);
        assert!(sizes.len() >= 20, "{sizes:?}");
    })
    .await;
}

#[tokio::test]
async fn latency_delays_each_byte_and_reorders_none() {
    within_deadline(async {
        let latency = Duration::from_millis(30);
        let Path {
            proxy: _proxy,
            mut client,
            mut server,
        } = path(|faults| {
            faults.latency = latency;
            faults.jitter = Duration::from_millis(20);
        })
        .await;
        let start = Instant::now();
        for number in 0..20_u8 {
            client.write_all(&[number]).await.expect("open");
            tokio::task::yield_now().await;
        }
        let mut got = [0; 20];
        server.read_exact(&mut got[..1]).await.expect("open");
        assert!(start.elapsed() >= latency);
        server.read_exact(&mut got[1..]).await.expect("open");
        assert_eq!(got.to_vec(), (0..20).collect::<Vec<u8>>());
    })
    .await;
}

#[tokio::test]
async fn a_bandwidth_limit_is_kept() {
    within_deadline(async {
        let Path {
            proxy: _proxy,
            mut client,
            mut server,
        } = path(|faults| faults.bytes_per_second = 100_000.try_into().ok()).await;
        let sent = numbers(20_000);
        let start = Instant::now();
        client.write_all(&sent).await.expect("open");
        let mut got = vec![0; sent.len()];
        server.read_exact(&mut got).await.expect("open");
        // 200 ms, of which the first burst costs nothing.
        assert!(
            start.elapsed() >= Duration::from_millis(180),
            "{:?}",
            start.elapsed()
        );
        assert!(got == sent);
    })
    .await;
}

#[tokio::test]
async fn a_reset_comes_after_exactly_the_byte_it_was_told() {
    within_deadline(async {
        let Path {
            proxy,
            mut client,
            mut server,
        } = path(|_| {}).await;
        proxy.change(Direction::ToServer, |faults| {
            faults.end_at = Some((777, End::Reset));
        });
        // The reset may come back before the last of it is written.
        let _ = client.write_all(&numbers(2_000)).await;
        let mut got = Vec::new();
        let error = server.read_to_end(&mut got).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(got, numbers(777));
        let error = client.read(&mut [0; 8]).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(proxy.stats().ended, 1);
    })
    .await;
}

#[tokio::test]
async fn a_cut_ends_both_streams_in_good_order() {
    within_deadline(async {
        let Path {
            proxy,
            mut client,
            mut server,
        } = path(|faults| faults.end_at = Some((500, End::Cut))).await;
        client.write_all(&numbers(2_000)).await.expect("open");
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.expect("no reset");
        assert_eq!(got, numbers(500));
        assert_eq!(client.read(&mut [0; 8]).await.expect("no reset"), 0);
        drop((client, server));
        while proxy.stats().open > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_blackhole_says_nothing_and_keeps_what_was_sent() {
    within_deadline(async {
        let Path {
            proxy,
            mut client,
            mut server,
        } = path(|_| {}).await;
        proxy.change(Direction::Both, |faults| faults.blackhole = true);
        client.write_all(b"hello?").await.expect("the proxy's");
        client.shutdown().await.expect("open");
        let mut got = Vec::new();
        timeout(Duration::from_millis(50), server.read_to_end(&mut got))
            .await
            .expect_err("silence");
        assert!(got.is_empty());
        proxy.set(Direction::Both, StreamFaults::default());
        server.read_to_end(&mut got).await.expect("open");
        assert_eq!(got, b"hello?");
    })
    .await;
}

#[tokio::test]
async fn a_reset_of_one_side_reaches_the_other() {
    within_deadline(async {
        let Path {
            proxy: _proxy,
            client,
            mut server,
        } = path(|_| {}).await;
        client.set_zero_linger().expect("a socket");
        drop(client);
        let error = server.read(&mut [0; 8]).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn orders_reach_connections_that_are_open() {
    within_deadline(async {
        let Path {
            proxy,
            mut client,
            server: _server,
        } = path(|_| {}).await;
        proxy.refuse(true);
        let mut refused = TcpStream::connect(proxy.address()).await.expect("listens");
        refused.read(&mut [0; 8]).await.expect_err("reset");
        assert_eq!(proxy.stats().open, 1);
        proxy.end_all(End::Reset);
        client.read(&mut [0; 8]).await.expect_err("reset");
        while proxy.stats().open > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(proxy.stats().refused, 1);
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_writer() {
    within_deadline(async {
        let Path {
            proxy: _proxy,
            mut client,
            server,
        } = path(|_| {}).await;
        let chunk = vec![0; 64 * 1024];
        let mut written = 0_u64;
        // The buffers of the sockets and of the proxy are full some time.
        while let Ok(result) = timeout(Duration::from_millis(200), client.write_all(&chunk)).await {
            result.expect("open");
            written += chunk.len() as u64;
            assert!(written < 256 << 20, "no end of it");
        }
        drop(server);
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_stops_resets_what_is_open() {
    within_deadline(async {
        let Path {
            proxy,
            mut client,
            mut server,
        } = path(|_| {}).await;
        proxy.stop().await;
        client.read(&mut [0; 8]).await.expect_err("reset");
        server.read(&mut [0; 8]).await.expect_err("reset");
    })
    .await;
}
