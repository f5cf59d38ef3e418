//! Packets of all sizes, both ways, in order.

use msgtrans_core::{PacketBatch, WireVersion};

use crate::end::{End, packet, pair};

async fn echo(mut server: End) {
    while let Ok(Some(packet)) = server.recv().await {
        server.queue(packet);
        while let Some(packet) = server.inbox.pop() {
            server.queue(packet);
        }
        if server.flush().await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_all_sizes_come_back() {
    for version in [WireVersion::V2, WireVersion::V1] {
        let (mut client, server, _bound) = pair(version).await;
        let echo = tokio::spawn(echo(server));
        for (count, len) in [
            (1, 0),
            (1000, 64),
            (500, 1000),
            (200, 5000),
            (50, 70_000),
            (8, 1 << 20),
            (1, 16 << 20),
        ] {
            let sent: Vec<_> = (0..count).map(|id| packet(id, len)).collect();
            for packet in &sent {
                client.queue(packet.clone());
            }
            // Written in turns with reading: nobody's buffers hold all of it.
            let mut back = Vec::new();
            let mut flushed = false;
            while back.len() < sent.len() {
                let End {
                    connection,
                    out,
                    inbox,
                } = &mut client;
                std::future::poll_fn(|cx| {
                    if !flushed {
                        flushed = connection.poll_send(cx, out)?.is_ready();
                    }
                    connection.poll_recv(cx, 256 * 1024, inbox)
                })
                .await
                .expect("moves");
                take(inbox, &mut back);
            }
            assert!(flushed);
            assert!(
                back == sent,
                "{count} packets of {len} bytes in {version:?}"
            );
        }
        drop(client);
        echo.await.expect("no panic");
    }
}

fn take(inbox: &mut PacketBatch, back: &mut Vec<msgtrans_core::Packet>) {
    while let Some(packet) = inbox.pop() {
        back.push(packet);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_move_at_once() {
    const COUNT: u32 = 400;
    let (client, server, _bound) = pair(WireVersion::V2).await;
    let mut tasks = Vec::new();
    for mut end in [client, server] {
        tasks.push(tokio::spawn(async move {
            for id in 0..COUNT {
                end.queue(packet(id, 50_000));
            }
            let mut back = Vec::new();
            let mut flushed = false;
            while back.len() < COUNT as usize || !flushed {
                let End {
                    connection,
                    out,
                    inbox,
                } = &mut end;
                std::future::poll_fn(|cx| {
                    let was = flushed;
                    if !flushed {
                        flushed = connection.poll_send(cx, out)?.is_ready();
                    }
                    let received = connection.poll_recv(cx, 256 * 1024, inbox)?;
                    if received.is_ready() || flushed != was {
                        return std::task::Poll::Ready(
                            Ok::<_, msgtrans_transport::ConnectionError>(()),
                        );
                    }
                    std::task::Poll::Pending
                })
                .await
                .expect("moves");
                take(inbox, &mut back);
            }
            for (id, got) in (0..COUNT).zip(&back) {
                assert!(*got == packet(id, 50_000), "packet {id}");
            }
            end
        }));
    }
    // The end that is done first stays until the other has everything.
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.expect("no panic"));
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_and_loses_nothing() {
    let (mut client, mut server, _bound) = pair(WireVersion::V2).await;
    const COUNT: u32 = 64;
    for id in 0..COUNT {
        client.queue(packet(id, 1 << 20));
    }
    let stuck = tokio::time::timeout(std::time::Duration::from_millis(300), client.flush()).await;
    assert!(
        stuck.is_err(),
        "64 MiB were taken by a peer that does not read"
    );
    let left = client.out.len();
    assert!(left > 50 << 20, "only {left} bytes are left to the session");
    let (flushed, ()) = tokio::join!(client.flush(), async {
        for id in 0..COUNT {
            assert!(server.expect().await == packet(id, 1 << 20), "packet {id}");
        }
    });
    flushed.expect("written");
}
