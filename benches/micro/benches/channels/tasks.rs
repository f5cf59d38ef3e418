//! From task to task on a tokio runtime, and from a thread to a task.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Barrier};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use criterion::Criterion;
use micro::{MESSAGE_BYTES, Message, Sink, Stopwatch};
use msgtrans_actor::{Bounds, Mailbox};
use msgtrans_lockfree::{LockFreeQueue, PushError};
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc;
use tokio::task::yield_now;

use crate::{BATCHES, CAPACITY, SENDERS, group, measure};

/// A channel whose receiver is a task.
trait TaskChannel: 'static {
    type Sender: Clone + Send + Sync + 'static;
    type Receiver: Send + 'static;

    fn open() -> (Self::Sender, Self::Receiver);

    /// Waits for room.
    fn send(sender: &Self::Sender, message: Message) -> impl Future<Output = ()> + Send;

    /// The same from a thread outside the runtime.
    fn send_blocking(sender: &Self::Sender, message: Message);

    /// Waits for a message and takes up to `max`.
    fn receive(
        receiver: &mut Self::Receiver,
        max: usize,
        sink: &mut Sink,
    ) -> impl Future<Output = ()> + Send;
}

async fn receive_all<C: TaskChannel>(mut receiver: C::Receiver, total: u64, batch: usize) -> Sink {
    let mut sink = Sink::default();
    while sink.count() < total {
        C::receive(&mut receiver, batch, &mut sink).await;
    }
    sink
}

/// Senders and receiver are tasks of `runtime`.
fn between_tasks<C: TaskChannel>(
    runtime: &Runtime,
    senders: u64,
    each: u64,
    batch: usize,
) -> Duration {
    let (sender, receiver) = C::open();
    runtime.block_on(async move {
        let watch = Stopwatch::start();
        let sink = tokio::spawn(receive_all::<C>(receiver, senders * each, batch));
        for _ in 0..senders {
            let sender = sender.clone();
            tokio::spawn(async move {
                for id in 0..each {
                    C::send(&sender, Message::new(id)).await;
                    if (id + 1) % batch as u64 == 0 {
                        yield_now().await;
                    }
                }
            });
        }
        let sink = sink.await.expect("the receiver does not panic");
        let elapsed = watch.elapsed();
        sink.check(senders, each);
        elapsed
    })
}

/// Senders are threads, the receiver is a task of `runtime`.
fn from_threads<C: TaskChannel>(
    runtime: &Runtime,
    senders: u64,
    each: u64,
    batch: usize,
) -> Duration {
    let (sender, receiver) = C::open();
    let start = Barrier::new(senders as usize + 1);
    thread::scope(|scope| {
        for _ in 0..senders {
            let sender = sender.clone();
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for id in 0..each {
                    C::send_blocking(&sender, Message::new(id));
                }
            });
        }
        start.wait();
        let watch = Stopwatch::start();
        let sink = runtime.block_on(receive_all::<C>(receiver, senders * each, batch));
        let elapsed = watch.elapsed();
        sink.check(senders, each);
        elapsed
    })
}

/// The mailbox of an actor: whoever receives takes all there is.
struct Ours;

struct MailboxReceiver {
    mailbox: Arc<Mailbox<(), Message>>,
    /// What the mailbox knows already.
    registered: Option<Waker>,
    taken: VecDeque<Message>,
}

impl TaskChannel for Ours {
    type Sender = Arc<Mailbox<(), Message>>;
    type Receiver = MailboxReceiver;

    fn open() -> (Self::Sender, Self::Receiver) {
        let mailbox = Arc::new(Mailbox::new(Bounds {
            items: CAPACITY,
            bytes: CAPACITY * MESSAGE_BYTES,
        }));
        let receiver = MailboxReceiver {
            mailbox: mailbox.clone(),
            registered: None,
            taken: VecDeque::new(),
        };
        (mailbox, receiver)
    }

    async fn send(mailbox: &Self::Sender, message: Message) {
        mailbox
            .push(message, MESSAGE_BYTES)
            .await
            .expect("the mailbox is open");
    }

    fn send_blocking(mailbox: &Self::Sender, mut message: Message) {
        // It has no blocking send: a thread without a runtime has nothing better than to come back.
        while let Err(error) = mailbox.try_push(message, MESSAGE_BYTES) {
            let (msgtrans_actor::PushError::Full(back) | msgtrans_actor::PushError::Closed(back)) =
                error;
            message = back;
            thread::yield_now();
        }
    }

    async fn receive(receiver: &mut Self::Receiver, _: usize, sink: &mut Sink) {
        let MailboxReceiver {
            mailbox,
            registered,
            taken,
        } = receiver;
        poll_fn(|cx| {
            if !registered
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                mailbox.register(cx.waker());
                *registered = Some(cx.waker().clone());
            }
            if mailbox.is_signalled() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        mailbox.take(usize::MAX, taken, |_| MESSAGE_BYTES);
        taken.drain(..).for_each(|message| sink.take(message));
    }
}

struct Flume;

impl TaskChannel for Flume {
    type Sender = flume::Sender<Message>;
    type Receiver = flume::Receiver<Message>;

    fn open() -> (Self::Sender, Self::Receiver) {
        flume::bounded(CAPACITY)
    }

    async fn send(sender: &Self::Sender, message: Message) {
        sender
            .send_async(message)
            .await
            .expect("the receiver lives");
    }

    fn send_blocking(sender: &Self::Sender, message: Message) {
        sender.send(message).expect("the receiver lives");
    }

    async fn receive(receiver: &mut Self::Receiver, max: usize, sink: &mut Sink) {
        sink.take(receiver.recv_async().await.expect("messages are left"));
        if max > 1 {
            receiver.drain().for_each(|message| sink.take(message));
        }
    }
}

struct Tokio;

impl TaskChannel for Tokio {
    type Sender = mpsc::Sender<Message>;
    type Receiver = (mpsc::Receiver<Message>, Vec<Message>);

    fn open() -> (Self::Sender, Self::Receiver) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (sender, (receiver, Vec::with_capacity(CAPACITY)))
    }

    async fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).await.expect("the receiver lives");
    }

    fn send_blocking(sender: &Self::Sender, message: Message) {
        sender.blocking_send(message).expect("the receiver lives");
    }

    async fn receive((receiver, taken): &mut Self::Receiver, max: usize, sink: &mut Sink) {
        if max == 1 {
            sink.take(receiver.recv().await.expect("messages are left"));
        } else {
            receiver.recv_many(taken, max).await;
            taken.drain(..).for_each(|message| sink.take(message));
        }
    }
}

struct Kanal;

impl TaskChannel for Kanal {
    type Sender = kanal::AsyncSender<Message>;
    type Receiver = (kanal::AsyncReceiver<Message>, Vec<Message>);

    fn open() -> (Self::Sender, Self::Receiver) {
        let (sender, receiver) = kanal::bounded_async(CAPACITY);
        (sender, (receiver, Vec::with_capacity(CAPACITY)))
    }

    async fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).await.expect("the receiver lives");
    }

    fn send_blocking(sender: &Self::Sender, message: Message) {
        sender.as_sync().send(message).expect("the receiver lives");
    }

    async fn receive((receiver, taken): &mut Self::Receiver, max: usize, sink: &mut Sink) {
        sink.take(receiver.recv().await.expect("messages are left"));
        if max > 1 {
            // It tells that the senders are gone even while it hands over the last of them: the count decides.
            let _ = receiver.drain_into(taken);
            taken.drain(..).for_each(|message| sink.take(message));
        }
    }
}

struct LockFree;

fn push(queue: &LockFreeQueue<Message>, message: Message) -> Result<(), Message> {
    queue.try_push(message).map_err(|error| match error {
        PushError::Full(back) | PushError::Closed(back) => back,
    })
}

impl TaskChannel for LockFree {
    type Sender = Arc<LockFreeQueue<Message>>;
    type Receiver = Arc<LockFreeQueue<Message>>;

    fn open() -> (Self::Sender, Self::Receiver) {
        let queue = Arc::new(LockFreeQueue::bounded(CAPACITY));
        (queue.clone(), queue)
    }

    async fn send(queue: &Self::Sender, mut message: Message) {
        // Its producers cannot wait.
        while let Err(back) = push(queue, message) {
            message = back;
            yield_now().await;
        }
    }

    fn send_blocking(queue: &Self::Sender, mut message: Message) {
        while let Err(back) = push(queue, message) {
            message = back;
            thread::yield_now();
        }
    }

    async fn receive(queue: &mut Self::Receiver, max: usize, sink: &mut Sink) {
        sink.take(queue.recv().await.expect("the queue is open"));
        for _ in 1..max {
            match queue.pop() {
                Some(message) => sink.take(message),
                None => break,
            }
        }
    }
}

type Run = fn(&Runtime, u64, u64, usize) -> Duration;

fn compare(criterion: &mut Criterion, name: &str, runtime: &Runtime, channels: [(&str, Run); 5]) {
    let mut group = group(criterion, name);
    for senders in SENDERS {
        for batch in BATCHES {
            for (channel, run) in channels {
                measure(&mut group, channel, senders, batch, |each| {
                    run(runtime, senders, each, batch)
                });
            }
        }
    }
}

fn all_between_tasks() -> [(&'static str, Run); 5] {
    [
        ("Mailbox", between_tasks::<Ours>),
        ("LockFreeQueue", between_tasks::<LockFree>),
        ("tokio", between_tasks::<Tokio>),
        ("flume", between_tasks::<Flume>),
        ("kanal", between_tasks::<Kanal>),
    ]
}

fn one_thread() -> Runtime {
    runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

pub(crate) fn within_one_thread(criterion: &mut Criterion) {
    compare(
        criterion,
        "task-to-task",
        &one_thread(),
        all_between_tasks(),
    );
}

pub(crate) fn over_two_threads(criterion: &mut Criterion) {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    compare(
        criterion,
        "task-to-task-2-workers",
        &runtime,
        all_between_tasks(),
    );
}

pub(crate) fn from_a_thread(criterion: &mut Criterion) {
    let channels: [(&str, Run); 5] = [
        ("Mailbox", from_threads::<Ours>),
        ("LockFreeQueue", from_threads::<LockFree>),
        ("tokio", from_threads::<Tokio>),
        ("flume", from_threads::<Flume>),
        ("kanal", from_threads::<Kanal>),
    ];
    compare(criterion, "thread-to-task", &one_thread(), channels);
}
