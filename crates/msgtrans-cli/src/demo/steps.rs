//! What each protocol must do, checked message by message; the first two steps are measured too.

use std::future::Future;
use std::time::Duration;

use msgtrans::{
    Endpoint, EventStream, Packet, SessionId, TransportClient, TransportEvent, TransportServer,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// What each step may take, so that one that hangs leaves time for the other protocols.
const STEP: Duration = Duration::from_secs(3);
/// How long the measured steps go on.
const MEASURE: Duration = Duration::from_millis(600);

/// The size of every payload.
pub(super) const PAYLOAD: usize = 64;
const REQUESTERS: u64 = 32;
const REQUESTS_EACH: u64 = 32;
const PUSHES: u64 = 1_000;
const BROADCASTS: u64 = 100;

/// What messages carry as their type: which step they belong to.
const ECHO: u8 = 1;
/// The last message of a pipeline.
const LAST: u8 = 2;
const PUSH: u8 = 3;
const BROADCAST: u8 = 4;

/// The step that failed, and how.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) step: &'static str,
    pub(super) what: String,
}

/// Messages that came back, and the time that took.
#[derive(Debug, Default)]
pub(super) struct Echoed {
    pub(super) messages: u64,
    pub(super) time: Duration,
}

/// Latencies, shortest first.
#[derive(Debug, Default)]
pub(super) struct RoundTrips(Vec<Duration>);

impl RoundTrips {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency that `per_cent` of the round trips do not exceed.
    pub(super) fn quantile(&self, per_cent: usize) -> Duration {
        let rank = (self.0.len() * per_cent).div_ceil(100).max(1) - 1;
        self.0.get(rank).copied().unwrap_or_default()
    }
}

/// One client, connected over one protocol.
pub(super) struct Lane {
    pub(super) client: TransportClient,
    events: EventStream,
    session: SessionId,
}

impl Lane {
    pub(super) async fn connect(endpoint: Endpoint, deadline: Instant) -> Result<Self, StepError> {
        within("connect", deadline, async {
            let client = TransportClient::builder()
                .with_protocol(endpoint)
                .connect_timeout(STEP)
                .auto_reconnect(false)
                .build()
                .await
                .map_err(told)?;
            let mut events = client.events();
            client.connect().await.map_err(told)?;
            let Some(TransportEvent::ConnectionEstablished {
                session_id: session,
                ..
            }) = events.next().await
            else {
                return Err("the first event was not that of the connection".to_owned());
            };
            Ok(Self {
                client,
                events,
                session,
            })
        })
        .await
    }

    /// Pipelines messages for a while; all must come back, in order, as they were.
    pub(super) async fn echo(&mut self, deadline: Instant) -> Result<Echoed, StepError> {
        let client = self.client.clone();
        // A task of its own, so that sending and taking back run beside each other; dropped, it is aborted.
        let mut sender = JoinSet::new();
        let events = &mut self.events;
        within("echo", deadline, async {
            let start = Instant::now();
            sender.spawn(async move {
                let mut number = 0;
                while number % 64 != 0 || start.elapsed() < MEASURE {
                    client.send(message(number, ECHO)).await.map_err(told)?;
                    number += 1;
                }
                client.send(message(number, LAST)).await.map_err(told)
            });
            let mut messages = 0;
            loop {
                let packet = next(events).await?;
                let last = packet.biz_type == LAST;
                check(&packet, messages, if last { LAST } else { ECHO })?;
                messages += 1;
                if last {
                    break;
                }
            }
            let time = start.elapsed();
            match sender.join_next().await {
                Some(Ok(sent)) => sent.map(|()| Echoed { messages, time }),
                _ => Err("the sending task was lost".to_owned()),
            }
        })
        .await
    }

    /// Requests one after the other for a while; each must be answered with its payload.
    pub(super) async fn round_trips(&mut self, deadline: Instant) -> Result<RoundTrips, StepError> {
        const WARM_UP: u64 = 100;
        within(REQUEST, deadline, async {
            let mut latencies = Vec::new();
            let mut start = Instant::now();
            for number in 0.. {
                if number == WARM_UP {
                    latencies.clear();
                    start = Instant::now();
                }
                let before = Instant::now();
                request(&self.client, number).await?;
                let after = Instant::now();
                latencies.push(after - before);
                if number > WARM_UP && after - start > MEASURE {
                    break;
                }
            }
            latencies.sort_unstable();
            Ok(RoundTrips(latencies))
        })
        .await
    }

    /// Requests from many tasks at once; each must get its own response.
    pub(super) async fn concurrent_requests(&mut self, deadline: Instant) -> Result<(), StepError> {
        within(REQUEST, deadline, async {
            let mut requesters = JoinSet::new();
            for requester in 0..REQUESTERS {
                let client = self.client.clone();
                requesters.spawn(async move {
                    for number in 0..REQUESTS_EACH {
                        request(&client, requester * REQUESTS_EACH + number).await?;
                    }
                    Ok::<(), String>(())
                });
            }
            while let Some(outcome) = requesters.join_next().await {
                outcome.map_err(told)??;
            }
            Ok(())
        })
        .await
    }

    /// The server sends unasked; all must arrive, in order.
    pub(super) async fn push(
        &mut self,
        server: &TransportServer,
        deadline: Instant,
    ) -> Result<(), StepError> {
        let session = self.session;
        let events = &mut self.events;
        within("server push", deadline, async {
            let send = async {
                for number in 0..PUSHES {
                    server
                        .send_to(session, message(number, PUSH))
                        .await
                        .map_err(told)?;
                }
                Ok(())
            };
            let receive = async {
                for number in 0..PUSHES {
                    check(&next(events).await?, number, PUSH)?;
                }
                Ok(())
            };
            tokio::try_join!(send, receive).map(|_| ())
        })
        .await
    }

    async fn receive_broadcasts(&mut self, deadline: Instant) -> Result<(), StepError> {
        within(BROADCAST_STEP, deadline, async {
            for number in 0..BROADCASTS {
                check(&next(&mut self.events).await?, number, BROADCAST)?;
            }
            Ok(())
        })
        .await
    }
}

const REQUEST: &str = "request/response";
const BROADCAST_STEP: &str = "broadcast";

/// The server sends to all at once; each client must receive all, in order. One outcome for each lane.
pub(super) async fn broadcast(
    server: &TransportServer,
    lanes: &mut [&mut Lane],
    deadline: Instant,
) -> Vec<Result<(), StepError>> {
    for number in 0..BROADCASTS {
        if let Err(error) = server.broadcast(message(number, BROADCAST)).await {
            let what = told(error);
            let failed = |_| {
                Err(StepError {
                    step: BROADCAST_STEP,
                    what: what.clone(),
                })
            };
            return lanes.iter().map(failed).collect();
        }
    }
    let mut outcomes = Vec::new();
    for lane in lanes {
        outcomes.push(lane.receive_broadcasts(deadline).await);
    }
    outcomes
}

async fn within<T>(
    step: &'static str,
    deadline: Instant,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, StepError> {
    let start = Instant::now();
    let outcome = timeout_at(deadline.min(start + STEP), work).await;
    outcome
        .unwrap_or_else(|_| {
            Err(format!(
                "not done within {:.1} s",
                start.elapsed().as_secs_f64()
            ))
        })
        .map_err(|what| StepError { step, what })
}

/// An error with its causes, in a line.
fn told(error: impl std::error::Error + 'static) -> String {
    crate::failure::chain(&error).join(": ")
}

async fn request(client: &TransportClient, number: u64) -> Result<(), String> {
    let payload = payload(number);
    let response = client
        .request(Packet::request(payload.to_vec()))
        .await
        .map_err(told)?;
    if response.payload[..] != payload {
        return Err(format!(
            "request {number} was answered with another's payload"
        ));
    }
    Ok(())
}

/// The next message; anything that ends the session is an error.
async fn next(events: &mut EventStream) -> Result<Packet, String> {
    loop {
        match events.next().await {
            Some(TransportEvent::MessageReceived { packet, .. }) => return Ok(packet),
            Some(TransportEvent::ConnectionClosed { reason, .. }) => return Err(reason.to_string()),
            Some(TransportEvent::Error { error, .. }) => return Err(told(error)),
            Some(_) => {}
            None => return Err("the client's events have ended".to_owned()),
        }
    }
}

fn message(number: u64, biz_type: u8) -> Packet {
    Packet::binary(payload(number).to_vec())
        .with_message_id(number as u32)
        .with_biz_type(biz_type)
}

/// Whether `packet` is message `number`, unchanged.
fn check(packet: &Packet, number: u64, biz_type: u8) -> Result<(), String> {
    if packet.message_id != number as u32 || packet.biz_type != biz_type {
        return Err(format!(
            "message {number} of type {biz_type} was due, message {} of type {} came",
            packet.message_id, packet.biz_type
        ));
    }
    if packet.payload[..] != payload(number) {
        return Err(format!("the payload of message {number} was changed"));
    }
    Ok(())
}

/// 64 bytes that no other number has.
fn payload(number: u64) -> [u8; PAYLOAD] {
    let mut payload = [0; PAYLOAD];
    for (index, word) in payload.chunks_exact_mut(8).enumerate() {
        let value = number
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(index as u32 * 8);
        word.copy_from_slice(&value.to_be_bytes());
    }
    payload
}

#[cfg(test)]
mod tests {
    use msgtrans::{Handler, HandlerError, Session};

    use super::*;

    /// Changes every message and mixes up the responses.
    struct Broken;

    impl Handler for Broken {
        async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
            let changed = Packet::echo(packet.message_id, "changed").with_biz_type(packet.biz_type);
            session.send(changed).await?;
            Ok(())
        }

        async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
            Ok(Packet::response(payload(u64::MAX).to_vec()))
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_do_its_job_fails_the_step() {
        let server = TransportServer::builder()
            .with_protocol("inproc://broken")
            .with_handler(Broken)
            .build()
            .await
            .expect("a free name");
        server.start().expect("first start");
        let deadline = Instant::now() + 10 * STEP;
        let endpoint = Endpoint::parse("inproc://broken").expect("a URL");
        let mut lane = Lane::connect(endpoint, deadline).await.expect("a session");
        let error = lane
            .round_trips(deadline)
            .await
            .expect_err("wrong responses");
        assert_eq!(error.step, "request/response");
        let error = lane
            .concurrent_requests(deadline)
            .await
            .expect_err("wrong responses");
        assert_eq!(error.step, "request/response");
        let error = lane.echo(deadline).await.expect_err("changed messages");
        assert_eq!(
            (error.step, error.what.as_str()),
            ("echo", "the payload of message 0 was changed")
        );
        server.shutdown().await;
        let error = lane.push(&server, deadline).await.expect_err("no session");
        assert_eq!(error.step, "server push");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_is_given_up() {
        let deadline = Instant::now() + 10 * STEP;
        let hangs = std::future::pending::<Result<(), String>>();
        let error = within("echo", deadline, hangs).await.expect_err("it hangs");
        assert_eq!(error.what, "not done within 3.0 s");
    }

    #[test]
    fn check_finds_what_is_lost_reordered_or_changed() {
        let mut packet = message(7, ECHO);
        assert_eq!(check(&packet, 7, ECHO), Ok(()));
        assert!(check(&packet, 6, ECHO).is_err());
        assert!(check(&packet, 7, PUSH).is_err());
        packet.payload = message(8, ECHO).payload;
        assert!(check(&packet, 7, ECHO).is_err());
    }

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let trips = RoundTrips((1..=200).map(Duration::from_micros).collect());
        assert_eq!(trips.quantile(50), Duration::from_micros(100));
        assert_eq!(trips.quantile(99), Duration::from_micros(198));
        assert_eq!(RoundTrips::default().quantile(50), Duration::ZERO);
    }
}
