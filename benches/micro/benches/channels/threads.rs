//! From thread to thread.

use std::hint;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, Thread};
use std::time::Duration;

use criterion::Criterion;
use crossbeam_queue::{ArrayQueue, SegQueue};
use micro::{Message, Sink, Stopwatch};

use crate::{BATCHES, CAPACITY, SENDERS, group, measure};

/// A channel between threads.
trait ThreadChannel {
    type Sender: Clone + Send;
    type Receiver: Send;

    fn open() -> (Self::Sender, Self::Receiver);

    /// Waits for room.
    fn send(sender: &Self::Sender, message: Message);

    /// Waits for a message and takes up to `max`.
    fn receive(receiver: &mut Self::Receiver, max: usize, sink: &mut Sink);
}

fn run<C: ThreadChannel>(senders: u64, each: u64, batch: usize) -> Duration {
    let (sender, mut receiver) = C::open();
    // The receiver is the thread that opened the channel: one that parks is known from the start.
    let start = Barrier::new(senders as usize + 1);
    let mut sink = Sink::default();
    let elapsed = thread::scope(|scope| {
        for _ in 0..senders {
            let sender = sender.clone();
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for id in 0..each {
                    C::send(&sender, Message::new(id));
                }
            });
        }
        drop(sender);
        start.wait();
        let watch = Stopwatch::start();
        while sink.count() < senders * each {
            C::receive(&mut receiver, batch, &mut sink);
        }
        watch.elapsed()
    });
    sink.check(senders, each);
    elapsed
}

struct Std;

impl ThreadChannel for Std {
    type Sender = mpsc::SyncSender<Message>;
    type Receiver = mpsc::Receiver<Message>;

    fn open() -> (Self::Sender, Self::Receiver) {
        mpsc::sync_channel(CAPACITY)
    }

    fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).expect("the receiver lives");
    }

    fn receive(receiver: &mut Self::Receiver, max: usize, sink: &mut Sink) {
        sink.take(receiver.recv().expect("messages are left"));
        receiver
            .try_iter()
            .take(max - 1)
            .for_each(|message| sink.take(message));
    }
}

struct Crossbeam;

impl ThreadChannel for Crossbeam {
    type Sender = crossbeam_channel::Sender<Message>;
    type Receiver = crossbeam_channel::Receiver<Message>;

    fn open() -> (Self::Sender, Self::Receiver) {
        crossbeam_channel::bounded(CAPACITY)
    }

    fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).expect("the receiver lives");
    }

    fn receive(receiver: &mut Self::Receiver, max: usize, sink: &mut Sink) {
        sink.take(receiver.recv().expect("messages are left"));
        receiver
            .try_iter()
            .take(max - 1)
            .for_each(|message| sink.take(message));
    }
}

struct Flume;

impl ThreadChannel for Flume {
    type Sender = flume::Sender<Message>;
    type Receiver = flume::Receiver<Message>;

    fn open() -> (Self::Sender, Self::Receiver) {
        flume::bounded(CAPACITY)
    }

    fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).expect("the receiver lives");
    }

    fn receive(receiver: &mut Self::Receiver, max: usize, sink: &mut Sink) {
        sink.take(receiver.recv().expect("messages are left"));
        if max > 1 {
            // Its best: everything for one lock.
            receiver.drain().for_each(|message| sink.take(message));
        }
    }
}

struct Kanal;

impl ThreadChannel for Kanal {
    type Sender = kanal::Sender<Message>;
    type Receiver = (kanal::Receiver<Message>, Vec<Message>);

    fn open() -> (Self::Sender, Self::Receiver) {
        let (sender, receiver) = kanal::bounded(CAPACITY);
        (sender, (receiver, Vec::with_capacity(CAPACITY)))
    }

    fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).expect("the receiver lives");
    }

    fn receive((receiver, taken): &mut Self::Receiver, max: usize, sink: &mut Sink) {
        sink.take(receiver.recv().expect("messages are left"));
        if max > 1 {
            // It tells that the senders are gone even while it hands over the last of them: the count decides.
            let _ = receiver.drain_into(taken);
            taken.drain(..).for_each(|message| sink.take(message));
        }
    }
}

/// A queue that nobody can wait on.
trait Queue: Send + Sync + 'static {
    fn new() -> Self;
    /// The message comes back when there is no room.
    fn push(&self, message: Message) -> Result<(), Message>;
    fn pop(&self) -> Option<Message>;
    fn len(&self) -> usize;
}

impl Queue for ArrayQueue<Message> {
    fn new() -> Self {
        ArrayQueue::new(CAPACITY)
    }

    fn push(&self, message: Message) -> Result<(), Message> {
        self.push(message)
    }

    fn pop(&self) -> Option<Message> {
        self.pop()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl Queue for SegQueue<Message> {
    fn new() -> Self {
        SegQueue::new()
    }

    fn push(&self, message: Message) -> Result<(), Message> {
        self.push(message);
        Ok(())
    }

    fn pop(&self) -> Option<Message> {
        self.pop()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// Waits a little longer each time; with more threads than cores pure spinning would wait for whole time slices.
fn spin(round: &mut u32) {
    if *round < 6 {
        for _ in 0..1 << *round {
            hint::spin_loop();
        }
        *round += 1;
    } else {
        thread::yield_now();
    }
}

fn push_spinning<Q: Queue>(queue: &Q, mut message: Message) {
    let mut round = 0;
    while let Err(back) = queue.push(message) {
        message = back;
        spin(&mut round);
    }
}

fn pop_some<Q: Queue>(queue: &Q, max: usize, sink: &mut Sink) -> bool {
    let before = sink.count();
    for _ in 0..max {
        match queue.pop() {
            Some(message) => sink.take(message),
            None => break,
        }
    }
    sink.count() > before
}

/// The receiver spins, then yields.
struct Spinning<Q>(Q);

impl<Q: Queue> ThreadChannel for Spinning<Q> {
    type Sender = Arc<Q>;
    type Receiver = Arc<Q>;

    fn open() -> (Self::Sender, Self::Receiver) {
        let queue = Arc::new(Q::new());
        (queue.clone(), queue)
    }

    fn send(queue: &Self::Sender, message: Message) {
        push_spinning(&**queue, message);
    }

    fn receive(queue: &mut Self::Receiver, max: usize, sink: &mut Sink) {
        let mut round = 0;
        while !pop_some(&**queue, max, sink) {
            spin(&mut round);
        }
    }
}

/// The receiver parks; a sender that finds no room spins.
struct Parking<Q>(Q);

struct Parked<Q> {
    queue: Q,
    receiver: Thread,
    /// Written true by the receiver, false by whoever sees it first.
    asleep: AtomicBool,
}

impl<Q: Queue> ThreadChannel for Parking<Q> {
    type Sender = Arc<Parked<Q>>;
    type Receiver = Arc<Parked<Q>>;

    fn open() -> (Self::Sender, Self::Receiver) {
        let shared = Arc::new(Parked {
            queue: Q::new(),
            receiver: thread::current(),
            asleep: AtomicBool::new(false),
        });
        (shared.clone(), shared)
    }

    fn send(shared: &Self::Sender, message: Message) {
        push_spinning(&shared.queue, message);
        // SeqCst: this thread pushes, then reads `asleep`; the receiver writes `asleep`, then looks at the queue. The
        // fence that comes second lets its thread see what the other has done.
        fence(Ordering::SeqCst);
        if shared.asleep.load(Ordering::Relaxed) && shared.asleep.swap(false, Ordering::Relaxed) {
            shared.receiver.unpark();
        }
    }

    fn receive(shared: &mut Self::Receiver, max: usize, sink: &mut Sink) {
        while !pop_some(&shared.queue, max, sink) {
            shared.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst); // Pairs with the one in `send`.
            if shared.queue.len() == 0 {
                thread::park();
            }
            shared.asleep.store(false, Ordering::Relaxed);
        }
    }
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = group(criterion, "thread-to-thread");
    for senders in SENDERS {
        for batch in BATCHES {
            let mut all = |name: &str, run: fn(u64, u64, usize) -> Duration| {
                measure(&mut group, name, senders, batch, |each| {
                    run(senders, each, batch)
                });
            };
            all("std", run::<Std>);
            all("crossbeam", run::<Crossbeam>);
            all("flume", run::<Flume>);
            all("kanal", run::<Kanal>);
            all("ArrayQueue+spin", run::<Spinning<ArrayQueue<Message>>>);
            all("ArrayQueue+park", run::<Parking<ArrayQueue<Message>>>);
            all("SegQueue+spin", run::<Spinning<SegQueue<Message>>>);
            all("SegQueue+park", run::<Parking<SegQueue<Message>>>);
        }
    }
}
