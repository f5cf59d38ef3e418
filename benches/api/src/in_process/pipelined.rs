//! Messages under way between two tasks of one process: echoed, or counted and not answered.

use super::{Clock, Echo, LARGE, SMALL, check, client_of};
use crate::{Time, Trouble, Who};
use bytes::Bytes;
use msgtrans::{Handler, HandlerError, Packet, Session, TransportEvent};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::{mpsc, oneshot};

/// Between two requests for the count so many messages leave.
const EVERY: u64 = 4_096;
/// The clock is looked at once in so many messages.
const LOOK: u64 = 64;

/// `window` messages of `payload` bytes are under way until time is over.
pub(crate) async fn echoes(
    who: Who,
    window: usize,
    payload: usize,
    time: &Time,
) -> Result<(), Trouble> {
    let payload = Bytes::from(vec![0x5a; payload.min(LARGE)]);
    let mut clock = Clock::new(time)?;
    let (mut owed, mut over) = (0, false);
    match who {
        Who::Ours => {
            let (_server, client) = client_of(Echo).await?;
            let mut events = client.events();
            while !over || owed > 0 {
                while !over && owed < window {
                    client.send(payload.clone()).await?;
                    owed += 1;
                    over = clock.turn(LOOK)?.is_none();
                }
                match events.next().await {
                    Some(TransportEvent::MessageReceived { packet, .. }) => {
                        check(&packet.payload, &payload)?;
                        owed -= 1;
                    }
                    Some(TransportEvent::ConnectionEstablished { .. }) => {}
                    other => return Err(format!("{other:?}").into()),
                }
            }
        }
        Who::Hand => {
            let (there, mut at_peer) = mpsc::channel::<Bytes>(window);
            let (back, mut answers) = mpsc::channel::<Bytes>(window);
            tokio::spawn(async move {
                while let Some(message) = at_peer.recv().await {
                    if back.send(message).await.is_err() {
                        return;
                    }
                }
            });
            while !over || owed > 0 {
                while !over && owed < window {
                    there.send(payload.clone()).await?;
                    owed += 1;
                    over = clock.turn(LOOK)?.is_none();
                }
                let answer = answers.recv().await.ok_or("the peer has gone")?;
                check(&answer, &payload)?;
                owed -= 1;
            }
        }
    }
    clock.print(2 * payload.len())
}

/// Counts messages and answers a request with the count.
#[derive(Default)]
struct Count(AtomicU64);

impl Handler for Count {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        // Relaxed: the session's own task adds and reads.
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
        let count = self.0.load(Relaxed).to_be_bytes();
        Ok(Packet::response(count.to_vec()))
    }
}

/// What a task by hand is told.
enum Told {
    Message(Bytes),
    Count(oneshot::Sender<u64>),
}

/// Messages of 64 B that are counted, and now and then the question how many they were.
pub(crate) async fn one_way(who: Who, time: &Time) -> Result<(), Trouble> {
    let payload = Bytes::from(vec![0x5a; SMALL]);
    let mut clock = Clock::new(time)?;
    let (mut sent, mut over) = (0u64, false);
    match who {
        Who::Ours => {
            let (_server, client) = client_of(Count::default()).await?;
            while !over {
                for _ in 0..EVERY {
                    client.send(payload.clone()).await?;
                    sent += 1;
                    over |= clock.turn(LOOK)?.is_none();
                }
                let answer = client.request(Bytes::new()).await?;
                let count = answer.payload.as_ref().try_into().map(u64::from_be_bytes);
                counted(count?, sent)?;
            }
        }
        Who::Hand => {
            let (there, mut at_peer) = mpsc::channel::<Told>(EVERY as usize);
            tokio::spawn(async move {
                let mut count = 0;
                while let Some(told) = at_peer.recv().await {
                    match told {
                        Told::Message(message) => count += u64::from(!message.is_empty()),
                        // Who asked and went away has ended the run.
                        Told::Count(asker) => drop(asker.send(count)),
                    }
                }
            });
            while !over {
                for _ in 0..EVERY {
                    let told = Told::Message(payload.clone());
                    there.send(told).await.map_err(|_| "the peer has gone")?;
                    sent += 1;
                    over |= clock.turn(LOOK)?.is_none();
                }
                let (asker, answer) = oneshot::channel();
                let told = Told::Count(asker);
                there.send(told).await.map_err(|_| "the peer has gone")?;
                counted(answer.await?, sent)?;
            }
        }
    }
    clock.print(SMALL)
}

fn counted(count: u64, sent: u64) -> Result<(), Trouble> {
    if count == sent {
        Ok(())
    } else {
        Err(format!("{count} were counted of {sent}").into())
    }
}
