//! Churn: connections that end at every point that there is, and a server that must hold nothing of them afterwards.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::{Duration, Instant};

use msgtrans::{Code, Handler, HandlerError, Packet, Session, TransportClient};
use msgtrans_testkit::chaos::{Direction, End, Random};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::arguments::Arguments;
use crate::child::{Child, Counts};
use crate::network::Network;
use crate::process::slope;
use crate::protocol::{Protocol, Protocols};
use crate::server::order;

/// How long one connection may take; beyond it something hangs.
const CONNECTION: Duration = Duration::from_secs(60);
/// How long a server may take to let go of the last round: a QUIC client that vanished is missed for 5 s, a handshake
/// that stopped for 3 s, and the machine may be busy elsewhere.
const SETTLE: Duration = Duration::from_secs(60);
/// The rounds whose memory is not judged: allocators and pools find their size in them.
const ROUNDS_WARM: u64 = 3;
/// The growth of the server's resident memory that is allowed, once it is warm: a leak of 16 bytes a connection. The heap
/// itself goes up and down by more: who has gone is dropped later, a batch at a time.
const KIB_PER_THOUSAND_MAX: f64 = 16.0;
/// Fewer rounds say nothing about growth.
const ROUNDS_JUDGED_MIN: u64 = 8;

struct Plan {
    connections: u64,
    rounds: u64,
    lanes: u64,
    seed: u64,
}

/// `churn` with its options.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::parse(words)?;
    let protocols = arguments.take("protocols", Protocols::all())?;
    let plan = Plan {
        connections: arguments.take("connections", 10_000)?,
        rounds: arguments.take("rounds", 10)?,
        lanes: arguments.take("lanes", 64)?,
        seed: arguments.take("seed", 1)?,
    };
    arguments.finish()?;
    if plan.connections == 0 || plan.rounds == 0 || !(1..=1_000).contains(&plan.lanes) {
        return Err("connections and rounds are at least 1, lanes from 1 to 1000".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut failures = Vec::new();
    for protocol in protocols.0 {
        if let Err(reason) = runtime.block_on(churn(protocol, &plan)) {
            eprintln!("{protocol}: {reason}");
            failures.push(format!("{protocol}: {reason}"));
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("; ")),
    }
}

/// How a connection ends. What needs a network that can do it is left out where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Abort {
    /// Cut or reset at a byte of the handshakes.
    InHandshake,
    /// Cut or reset at a byte of the traffic, so in the middle of a frame.
    MidFrame,
    /// The dial is dropped before it is done.
    ConnectCancelled,
    /// Reset or dropped while requests of the client are being handled.
    MidRequest,
    /// Dropped while the server waits for an answer of the client.
    MidQuestion,
    /// Dropped while the server talks.
    MidTalk,
    /// The path is dead, and the client is gone.
    Silence,
    /// The client is dropped without a word.
    Dropped,
    /// The session is closed by the client.
    Closed,
    /// The session is closed by the server.
    ClosedByServer,
    /// The client disconnects in good order.
    Orderly,
}

impl Abort {
    fn draw(protocol: Protocol, random: &mut Random) -> Self {
        const ANYWHERE: &[Abort] = &[
            Abort::ConnectCancelled,
            Abort::MidRequest,
            Abort::MidQuestion,
            Abort::MidTalk,
            Abort::Dropped,
            Abort::Closed,
            Abort::ClosedByServer,
            Abort::Orderly,
        ];
        let own: &[Abort] = match protocol {
            Protocol::Unix => &[],
            Protocol::Quic => &[Abort::Silence],
            _ => &[Abort::InHandshake, Abort::MidFrame],
        };
        let own_share = own.len() as u64 * 2;
        let drawn = random.below(ANYWHERE.len() as u64 + own_share);
        match drawn.checked_sub(ANYWHERE.len() as u64) {
            // The networks' own aborts have many points, and so two shares.
            Some(beyond) => own[(beyond / 2) as usize],
            None => ANYWHERE[drawn as usize],
        }
    }
}

/// Never answers.
struct Mute;

impl Handler for Mute {
    async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
        pending().await
    }
}

/// What a round has seen.
#[derive(Default)]
struct Seen {
    /// By kind: connections, and those of them that became sessions.
    aborts: BTreeMap<Abort, (u64, u64)>,
    hung: Vec<Abort>,
}

async fn churn(protocol: Protocol, plan: &Plan) -> Result<(), String> {
    let mut child = Child::start("churn", &Protocols(vec![protocol]), &[])?;
    let random = Random::new(plan.seed);
    // One round of a few finds out what the server holds when nobody is there.
    round(protocol, plan.lanes * 4, plan, &child, random.fork(0)).await?;
    let before = quiet(protocol, &mut child).await?;
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    println!(
        "{protocol}: held by the server when quiet: {:?}",
        before.held
    );
    let mut memory = Vec::new();
    for number in 1..=plan.rounds {
        let start = Instant::now();
        let seen = round(
            protocol,
            plan.connections,
            plan,
            &child,
            random.fork(number),
        )
        .await?;
        let took = start.elapsed();
        let (leaked, counts) = settled(&mut child, &before).await?;
        let (resident, heap) = (counts.other("resident_kib"), heap(&mut child).await?);
        let sessions: u64 = seen.aborts.values().map(|(_, sessions)| sessions).sum();
        println!(
            "{protocol} round {number}: {} connections, {sessions} sessions in {:.1} s, settled in {:.1} s; server: \
             {} opened, {} closed, {} handshakes failed, {resident} KiB resident, {heap} bytes of heap; leaked: {}",
            plan.connections,
            took.as_secs_f64(),
            (start.elapsed() - took).as_secs_f64(),
            counts.other("opened"),
            counts.other("closed"),
            counts.other("handshakes_failed"),
            told(&leaked),
        );
        if number == 1 {
            println!(
                "{protocol} aborts (connections, sessions): {:?}",
                seen.aborts
            );
        }
        if !seen.hung.is_empty() {
            return Err(format!("connections that hang: {:?}", seen.hung));
        }
        if !leaked.is_empty() {
            return Err(format!("the server leaked: {}", told(&leaked)));
        }
        if counts.other("opened") != counts.other("closed") {
            return Err("sessions were opened and not closed".to_owned());
        }
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let since = Instant::now();
        while tasks() > tasks_before {
            if since.elapsed() > SETTLE {
                return Err(format!("clients leaked {} tasks", tasks() - tasks_before));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if number > ROUNDS_WARM {
            memory.push((
                (number * plan.connections) as f64 / 1e3,
                heap as f64 / 1024.0,
            ));
        }
    }
    let growth = slope(&memory);
    if plan.rounds < ROUNDS_JUDGED_MIN {
        println!("{protocol}: nothing leaked; too few rounds to judge memory");
        return Ok(());
    }
    println!("{protocol}: nothing leaked; memory grows by {growth:.2} KiB in 1000 connections");
    if growth >= KIB_PER_THOUSAND_MAX {
        return Err(format!(
            "memory grows by {growth:.2} KiB in 1000 connections, at most {KIB_PER_THOUSAND_MAX}"
        ));
    }
    Ok(())
}

fn told(leaked: &[(String, i64)]) -> String {
    if leaked.is_empty() {
        return "nothing".to_owned();
    }
    let words: Vec<String> = leaked
        .iter()
        .map(|(name, more)| format!("{more} {name}"))
        .collect();
    words.join(", ")
}

/// What the server holds once that no longer changes and no session is there.
async fn quiet(protocol: Protocol, child: &mut Child) -> Result<Counts, String> {
    // Over QUIC longer than any deadline for a peer that has gone; the others hear of it.
    let calm = Duration::from_secs(if protocol == Protocol::Quic { 6 } else { 1 });
    let start = Instant::now();
    let mut last = child.counts()?;
    let mut since = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = child.counts()?;
        if now.held != last.held {
            since = Instant::now();
        }
        let none = now
            .held
            .iter()
            .any(|(name, held)| name == "sessions" && *held == 0);
        if none && since.elapsed() > calm {
            return Ok(now);
        }
        if start.elapsed() > 2 * SETTLE {
            return Err(format!("the server does not come to rest: {:?}", now.held));
        }
        last = now;
    }
}

/// Waits until the server holds what it held before; what is left of the difference when the time is over.
async fn settled(
    child: &mut Child,
    before: &Counts,
) -> Result<(Vec<(String, i64)>, Counts), String> {
    let start = Instant::now();
    loop {
        let counts = child.counts()?;
        let leaked = counts.held_since(before);
        if leaked.is_empty() || start.elapsed() > SETTLE {
            return Ok((leaked, counts));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The least that the server's heap holds within a second: its control loop gives back what was removed, a part each
/// time that it is asked.
async fn heap(child: &mut Child) -> Result<i64, String> {
    let mut least = i64::MAX;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        least = least.min(child.counts()?.other("heap_bytes"));
    }
    Ok(least)
}

/// So many connections, a number of lanes at a time, each lane with a network of its own.
async fn round(
    protocol: Protocol,
    connections: u64,
    plan: &Plan,
    child: &Child,
    random: Random,
) -> Result<Seen, String> {
    let address = child.address(protocol)?;
    let mut lanes = JoinSet::new();
    for lane in 0..plan.lanes {
        let share = connections / plan.lanes + u64::from(lane < connections % plan.lanes);
        let mut random = random.fork(lane);
        let mut network = Network::to(protocol, &address, random.next())
            .await
            .map_err(|error| error.to_string())?;
        let (pin, address) = (child.pin, address.clone());
        lanes.spawn(async move {
            let mut seen = Seen::default();
            for _ in 0..share {
                let abort = Abort::draw(protocol, &mut random);
                let counts = seen.aborts.entry(abort).or_default();
                counts.0 += 1;
                let builder = protocol.dial(&network.address(), pin);
                let builder = builder
                    .auto_reconnect(false)
                    .connect_timeout(Duration::from_secs(10))
                    .with_handler(Mute);
                let Ok(client) = builder.build().await else {
                    seen.hung.push(abort);
                    continue;
                };
                match timeout(
                    CONNECTION,
                    connection(protocol, abort, client, &network, &mut random),
                )
                .await
                {
                    Ok(true) => counts.1 += 1,
                    Ok(false) => {}
                    Err(_) => seen.hung.push(abort),
                }
                if abort == Abort::Silence {
                    // The client may still speak; nobody is to hear it.
                    match Network::to(protocol, &address, random.next()).await {
                        Ok(fresh) => network = fresh,
                        Err(_) => seen.hung.push(abort),
                    }
                }
                network.end_all(End::Reset);
                network.heal();
            }
            seen
        });
    }
    let mut all = Seen::default();
    while let Some(lane) = lanes.join_next().await {
        let seen = lane.map_err(|error| format!("a lane failed: {error}"))?;
        for (abort, (connections, sessions)) in seen.aborts {
            let counts = all.aborts.entry(abort).or_default();
            *counts = (counts.0 + connections, counts.1 + sessions);
        }
        all.hung.extend(seen.hung);
    }
    Ok(all)
}

/// About how many bytes one direction carries before a session is open.
fn handshake_bytes(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::Tcp | Protocol::Unix => 100,
        Protocol::Ws => 400,
        Protocol::Tls => 1_500,
        Protocol::Wss | Protocol::Quic => 2_000,
    }
}

/// One connection from its dial to its end; whether it became a session. Errors are what is wanted here: only what
/// neither succeeds nor fails is a fault, and the caller's deadline finds it.
async fn connection(
    protocol: Protocol,
    abort: Abort,
    client: TransportClient,
    network: &Network,
    random: &mut Random,
) -> bool {
    let direction = match random.below(2) {
        0 => Direction::ToServer,
        _ => Direction::ToClient,
    };
    let how = match random.below(3) {
        0 => End::Cut,
        _ => End::Reset,
    };
    match abort {
        Abort::InHandshake => {
            let at = random.below(handshake_bytes(protocol));
            network.end_at(direction, at, how);
        }
        Abort::MidFrame => network.end_at(direction, 500 + random.below(40_000), how),
        Abort::ConnectCancelled => {
            let after = Duration::from_micros(random.below(4_000));
            return matches!(timeout(after, client.connect()).await, Ok(Ok(())));
        }
        _ => {}
    }
    if client.connect().await.is_err() {
        return false;
    }
    let Some(session) = client.session() else {
        return true;
    };
    for _ in 0..random.below(4) {
        let _ = client
            .send(Packet::binary(vec![b'm'; random.below(4_000) as usize]))
            .await;
    }
    match abort {
        Abort::InHandshake | Abort::MidFrame => {
            // To the byte that is the last.
            for _ in 0..40 {
                let payload = vec![b'm'; 1_000 + random.below(2_000) as usize];
                if client.request(Packet::request(payload)).await.is_err() {
                    break;
                }
            }
        }
        Abort::MidRequest => {
            let asking: Vec<_> = (0..3)
                .map(|_| {
                    let client = client.clone();
                    tokio::spawn(async move { client.request(order::WAIT).await })
                })
                .collect();
            // Answered after those that came before have begun.
            let _ = client.request("?").await;
            if random.below(2) == 0 {
                network.end_all(how);
            }
            session.close(Code::NORMAL, "");
            for asked in asking {
                // Each ends with its session.
                let _ = asked.await;
            }
        }
        Abort::MidQuestion => {
            let _ = client.send(order::ASK_ME).await;
            let _ = client.request("?").await;
        }
        Abort::MidTalk => {
            let _ = client.send(order::TALK).await;
        }
        Abort::Silence => {
            let _ = client.request("?").await;
            network.blackhole(true);
        }
        Abort::ClosedByServer => {
            let _ = client.send(order::CLOSE_ME).await;
            session.closed().await;
        }
        Abort::Closed => {
            session.close(Code(1_000), "enough");
            session.closed().await;
        }
        Abort::Orderly => {
            let _ = client.disconnect().await;
        }
        Abort::Dropped | Abort::ConnectCancelled => {}
    }
    true
}
