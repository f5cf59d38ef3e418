//! Each channel where it fits, in one program: a hot thread behind crossbeam, flume from there into the runtime, a
//! mailbox in front of the actor, and tokio's broadcast for whoever watches. A million messages, all of them checked.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml -p micro --example hybrid`

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Instant;

use micro::{MESSAGE_BYTES, Message, Sink};
use msgtrans_actor::{Bounds, Mailbox};
use tokio::runtime::{self, Runtime};
use tokio::sync::broadcast::{self, error::RecvError};

const MESSAGES: u64 = 1_000_000;

/// Each channel holds so many; a sender waits for room.
const CAPACITY: usize = 1024;

/// The actor reports after so many messages. Whoever watches is told of progress, not of each message.
const REPORT_EVERY: u64 = 1_000;

type Inbox = Arc<Mailbox<(), Message>>;

/// How a stage ended: what it took in, and when the last message came.
struct Done {
    sink: Sink,
    at: Instant,
}

impl Done {
    fn new(sink: Sink) -> Self {
        sink.check(1, MESSAGES);
        Self {
            sink,
            at: Instant::now(),
        }
    }

    fn per_second(&self, start: Instant) -> f64 {
        self.sink.count() as f64 / (self.at - start).as_secs_f64()
    }
}

/// Where messages come from: a thread that does nothing but produce.
fn produce(mut send: impl FnMut(Message)) {
    for id in 0..MESSAGES {
        send(Message::new(id));
    }
}

/// The hot thread: no runtime, nothing to await; it blocks where there is nothing to do.
fn hot(input: &crossbeam_channel::Receiver<Message>, mut deliver: impl FnMut(Message)) -> Done {
    let mut sink = Sink::default();
    for message in input {
        sink.take(message);
        deliver(message);
    }
    Done::new(sink)
}

/// The way into the runtime: a blocking send on one side, an awaited receive on the other.
async fn route(input: flume::Receiver<Message>, inbox: Option<Inbox>) -> Done {
    let mut sink = Sink::default();
    while let Ok(message) = input.recv_async().await {
        sink.take(message);
        if let Some(inbox) = &inbox {
            inbox
                .push(message, MESSAGE_BYTES)
                .await
                .expect("the actor runs until it has them all");
        }
    }
    Done::new(sink)
}

/// The actor: woken once however much came, takes all of it at once.
async fn act(inbox: Inbox, reports: Option<broadcast::Sender<u64>>) -> Done {
    let mut sink = Sink::default();
    let mut batch = VecDeque::new();
    let mut reported = 0;
    while sink.count() < MESSAGES {
        poll_fn(|cx| {
            inbox.register(cx.waker());
            if inbox.is_signalled() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        // At most 64 KiB in one go, so that no other task waits for a full inbox to be worked off.
        let left = inbox.take(64 * 1024, &mut batch, |_| MESSAGE_BYTES);
        batch.drain(..).for_each(|message| sink.take(message));
        if let Some(reports) = &reports {
            while reported + REPORT_EVERY <= sink.count() {
                reported += REPORT_EVERY;
                // Nobody has to listen.
                let _ = reports.send(reported);
            }
        }
        if left {
            tokio::task::yield_now().await;
        }
    }
    Done::new(sink)
}

/// Watches until the last report; what it was too slow for is counted, and slows nobody down.
async fn watch(mut reports: broadcast::Receiver<u64>) -> (u64, u64) {
    let (mut heard, mut lost) = (0, 0);
    loop {
        match reports.recv().await {
            Ok(_) => heard += 1,
            Err(RecvError::Lagged(count)) => lost += count,
            Err(RecvError::Closed) => return (heard, lost),
        }
    }
}

fn inbox() -> Inbox {
    Arc::new(Mailbox::new(Bounds {
        items: CAPACITY,
        bytes: CAPACITY * MESSAGE_BYTES,
    }))
}

fn print(stage: &str, per_second: f64) {
    println!("  {stage:<46}{:>8.2} M/s", per_second / 1e6);
}

fn each_alone(runtime: &Runtime) {
    println!("each stage alone:");
    let start = Instant::now();
    let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
    let done = thread::scope(|scope| {
        scope.spawn(move || produce(|message| sender.send(message).expect("the hot thread runs")));
        hot(&receiver, |_| ())
    });
    print("thread to thread, crossbeam", done.per_second(start));

    let start = Instant::now();
    let (sender, receiver) = flume::bounded(CAPACITY);
    let producer =
        thread::spawn(move || produce(|message| sender.send(message).expect("the router runs")));
    let done = runtime.block_on(route(receiver, None));
    producer.join().expect("the producer does not panic");
    print("thread to task, flume", done.per_second(start));

    let start = Instant::now();
    let inbox = inbox();
    let done = runtime.block_on(async {
        let actor = tokio::spawn(act(inbox.clone(), None));
        for id in 0..MESSAGES {
            inbox
                .push(Message::new(id), MESSAGE_BYTES)
                .await
                .expect("the actor runs");
        }
        actor.await.expect("the actor does not panic")
    });
    print("task to actor, mailbox", done.per_second(start));

    let start = Instant::now();
    let (heard, lost) = runtime.block_on(async {
        let (sender, receiver) = broadcast::channel(CAPACITY);
        let watcher = tokio::spawn(watch(receiver));
        for id in 0..MESSAGES {
            let _ = sender.send(id);
            if id % 32 == 31 {
                tokio::task::yield_now().await;
            }
        }
        drop(sender);
        watcher.await.expect("the watcher does not panic")
    });
    assert_eq!(heard + lost, MESSAGES);
    print(
        "task to watcher, broadcast",
        MESSAGES as f64 / start.elapsed().as_secs_f64(),
    );
    println!("    of which the watcher was too slow for {lost}");
}

fn end_to_end(runtime: &Runtime) {
    println!("all of them, end to end:");
    let start = Instant::now();
    let (into_hot, from_producer) = crossbeam_channel::bounded(CAPACITY);
    let (into_runtime, from_hot) = flume::bounded(CAPACITY);
    let inbox = inbox();
    let (reports, watcher) = broadcast::channel(CAPACITY);

    let producer = thread::spawn(move || {
        produce(|message| into_hot.send(message).expect("the hot thread runs"));
    });
    let hot = thread::spawn(move || {
        hot(&from_producer, |message| {
            into_runtime.send(message).expect("the router runs")
        })
    });
    let (routed, acted, (heard, lost)) = runtime.block_on(async {
        let watcher = tokio::spawn(watch(watcher));
        let actor = tokio::spawn(act(inbox.clone(), Some(reports)));
        let router = tokio::spawn(route(from_hot, Some(inbox)));
        (
            router.await.expect("the router does not panic"),
            actor.await.expect("the actor does not panic"),
            watcher.await.expect("the watcher does not panic"),
        )
    });
    producer.join().expect("the producer does not panic");
    let hot = hot.join().expect("the hot thread does not panic");

    print(
        "hot thread, from crossbeam into flume",
        hot.per_second(start),
    );
    print(
        "router task, from flume into the mailbox",
        routed.per_second(start),
    );
    print("actor task, from the mailbox", acted.per_second(start));
    assert_eq!(heard + lost, MESSAGES / REPORT_EVERY);
    println!("    watcher, from the broadcast: {heard} reports heard, {lost} lost");
}

fn main() {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    println!("{MESSAGES} messages of {MESSAGE_BYTES} bytes through channels of {CAPACITY}");
    each_alone(&runtime);
    end_to_end(&runtime);
}
