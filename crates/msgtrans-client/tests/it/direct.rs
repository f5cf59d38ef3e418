//! In process a packet goes past the tasks of its sessions, and nothing else is different.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use msgtrans_core::{Code, Packet, RequestError};
use msgtrans_session::{Session, TransportEvent};
use tokio::time::Instant;

use crate::support::{BURST, Client, Seen, Server, event, pass_time, rest, soon};

/// A client whose session's task has nothing to do, and its session.
async fn idle_client(server: &mut Server) -> (Client, Session) {
    let (client, _) = server.client().await;
    client.request("echo").await.expect("answered");
    let session = client.session().expect("open");
    (client, session)
}

/// The number in the next message that the server sees.
async fn number(server: &mut Server) -> u32 {
    match server.seen().await {
        Seen::Message(packet) => number_of(&packet),
        other => panic!("{other:?} instead of a message"),
    }
}

fn number_of(packet: &Packet) -> u32 {
    let bytes = packet.payload.as_ref().try_into().expect("four bytes");
    u32::from_be_bytes(bytes)
}

fn numbered(number: u32) -> Packet {
    Packet::binary(number.to_be_bytes().to_vec())
}

#[tokio::test]
async fn a_send_while_the_session_is_idle_leaves_without_its_task() {
    let mut server = Server::inproc().await;
    let (client, session) = idle_client(&mut server).await;
    let mut events = client.events();
    let before = session.stats();
    session.try_send(Packet::text("past")).expect("sent");
    // No other task has run.
    assert_eq!(session.stats().packets_out, before.packets_out + 1);
    assert_eq!(session.stats().queued, 0);
    assert!(session.stats().bytes_out > before.bytes_out);
    assert_eq!(client.stats().packets_out, before.packets_out + 1);
    loop {
        if let TransportEvent::MessageReceived { packet, .. } = event(&mut events).await {
            assert_eq!(packet.payload.as_ref(), b"past");
            break;
        }
    }
    assert_eq!(session.stats().packets_in, before.packets_in + 1);
    assert_eq!(client.stats().packets_in, before.packets_in + 1);
    assert_eq!(client.stats().round_trip.count, 1);
}

#[tokio::test]
async fn of_the_round_trips_past_the_task_one_in_eight_is_timed() {
    let mut server = Server::inproc().await;
    let (client, _session) = idle_client(&mut server).await;
    let before = client.stats().round_trip.count;
    for number in 0..16u32 {
        let answer = client.request(number.to_be_bytes().to_vec()).await;
        assert_eq!(number_of(&answer.expect("answered")), number);
    }
    // Each that went through the task is timed, as it may where the task was not idle yet.
    let timed = client.stats().round_trip.count - before;
    assert!((2..16).contains(&timed), "{timed} of 16");
}

#[tokio::test]
async fn nothing_overtakes_what_was_queued_for_the_task() {
    let mut server = Server::inproc().await;
    let (_client, session) = idle_client(&mut server).await;
    for round in 0..100 {
        let number = round * 3;
        session.try_send(numbered(number)).expect("sent");
        // The second one is for the task, because somebody waits for its confirmation.
        let (confirmed, sent) = tokio::join!(
            session.send_confirmed(numbered(number + 1)),
            session.send(numbered(number + 2)),
        );
        confirmed.expect("confirmed");
        sent.expect("sent");
    }
    for expected in 0..300 {
        assert_eq!(number(&mut server).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_task_keep_their_order_whoever_else_sends() {
    const EACH: u32 = 3_000;
    let mut server = Server::inproc().await;
    let (client, session) = idle_client(&mut server).await;
    let mut events = client.events();
    let senders: Vec<_> = (0..3)
        .map(|sender: u32| {
            let session = session.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    let packet = numbered(sender << 24 | number);
                    if number % 7 == 0 {
                        session.send_confirmed(packet).await.expect("confirmed");
                    } else {
                        session.send(packet).await.expect("sent");
                    }
                    if number % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    let mut next = [0; 3];
    while next != [EACH; 3] {
        if let TransportEvent::MessageReceived { packet, .. } = event(&mut events).await {
            let number = number_of(&packet);
            let sender = (number >> 24) as usize;
            assert_eq!(
                number & 0xFF_FFFF,
                next[sender],
                "echoes of sender {sender}"
            );
            next[sender] += 1;
        }
    }
    for sender in senders {
        soon(sender).await.expect("no panic");
    }
}

#[tokio::test]
async fn an_answer_comes_behind_what_its_handler_sent_before() {
    let mut server = Server::inproc().await;
    let (client, _session) = idle_client(&mut server).await;
    let mut events = client.events();
    while events.try_next().is_some() {}
    for _ in 0..3 {
        client.request("burst").await.expect("answered");
        for expected in 0..BURST {
            match event(&mut events).await {
                TransportEvent::MessageReceived { packet, .. } => {
                    assert_eq!(number_of(&packet), expected);
                }
                other => panic!("{other:?} instead of a message"),
            }
        }
    }
}

#[tokio::test]
async fn what_was_sent_before_the_close_arrives_before_it() {
    let mut server = Server::inproc().await;
    let (client, session) = idle_client(&mut server).await;
    let mut events = client.events();
    for number in 0..50 {
        session.try_send(numbered(number)).expect("sent");
    }
    session.close(Code::NORMAL, "enough");
    for expected in 0..50 {
        assert_eq!(number(&mut server).await, expected);
    }
    assert_eq!(server.closed().await.reason, "enough");
    client.disconnect().await.expect("disconnected");
    // No message comes behind the end.
    assert_eq!(
        rest(&mut events).await.last().map(String::as_str),
        Some("closed")
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_past_the_task_ends_at_its_deadline() {
    let mut server = Server::inproc().await;
    let (_client, session) = idle_client(&mut server).await;
    let began = Instant::now();
    let hang = |millis| {
        let session = session.clone();
        async move {
            let deadline = Duration::from_millis(millis);
            let outcome = session.request_with("hang".into(), deadline).await;
            assert!(matches!(outcome, Err(RequestError::Timeout { after }) if after == deadline));
            began.elapsed()
        }
    };
    // The task sets its alarm for the first one, and hears nothing of the second.
    let first = tokio::spawn(hang(300));
    assert!(matches!(server.seen().await, Seen::Hanging));
    let second = tokio::spawn(hang(400));
    let shorter = tokio::spawn(hang(100));
    for (request, least) in [(shorter, 100), (first, 300), (second, 400)] {
        let taken = soon(request).await.expect("no panic").as_millis();
        assert!(
            (least..least + 50).contains(&taken),
            "{taken} ms, {least} asked"
        );
    }
    assert_eq!(session.stats().requests_pending, 0);
}

#[tokio::test(start_paused = true)]
async fn traffic_past_the_task_counts_as_life() {
    let mut server = Server::inproc().await;
    let (client, session) = idle_client(&mut server).await;
    let mut events = client.events();
    for _ in 0..100 {
        session.send(Packet::text("busy")).await.expect("sent");
        pass_time(Duration::from_secs(1)).await;
        while events.try_next().is_some() {}
    }
    assert_eq!(client.stats().pings_out, 0);
    pass_time(Duration::from_secs(100)).await;
    assert!(client.stats().pings_out >= 3, "{:?}", client.stats());
    assert!(client.is_connected());
}

#[tokio::test]
async fn a_handler_does_not_overtake_what_was_queued_before_it_ran() {
    let mut server = Server::inproc().await;
    let client = server.builder().build().await.expect("valid");
    let slot = Arc::new(OnceLock::<Session>::new());
    let own = slot.clone();
    client.on_message(move |_, packet| {
        let session = own.get().cloned();
        async move {
            session.expect("set").send(packet).await?;
            Ok(())
        }
    });
    client.connect().await.expect("connected");
    let asking = server.opened().await;
    client.request("echo").await.expect("answered");
    let session = slot.get_or_init(|| client.session().expect("open"));
    let before = asking.stats().packets_out;
    asking.try_send(numbered(2)).expect("sent");
    assert_eq!(
        asking.stats().packets_out,
        before + 1,
        "it waits at the client"
    );
    session
        .send_confirmed(numbered(1))
        .await
        .expect("confirmed");
    assert_eq!(number(&mut server).await, 1);
    assert_eq!(number(&mut server).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_message_does_not_overtake_those_that_wait_for_room_in_the_event_stream() {
    const MESSAGES: u32 = 30_000;
    let mut server = Server::inproc().await;
    let client = server
        .builder()
        .events_capacity(8)
        .build()
        .await
        .expect("valid");
    let mut events = client.events();
    client.connect().await.expect("connected");
    let session = server.opened().await;
    let sender = tokio::spawn(async move {
        for number in 0..MESSAGES {
            session.send(numbered(number)).await.expect("sent");
        }
    });
    let mut next = 0;
    while next < MESSAGES {
        if let TransportEvent::MessageReceived { packet, .. } = event(&mut events).await {
            assert_eq!(number_of(&packet), next);
            next += 1;
        }
    }
    soon(sender).await.expect("no panic");
}
