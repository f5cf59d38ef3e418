//! Soak: mixed load through networks that fail, and a ledger at the other end.
//!
//! What is acknowledged must never be lost, and what that means is the point of it:
//! - A request that was answered is acknowledged, and so are the messages that an answer counts (a *sync*: the server
//!   answers with the number of the last one-way message it has handled). These must be in the server's ledger, each
//!   once.
//! - A confirmed send is not: it says that the protocol has taken the bytes (tcp, tls, ws, wss, unix: written to the
//!   socket; quic: acknowledged by the peer's QUIC), and a reset may still take them from the kernel's buffers or from
//!   those of the session. How many were lost so is counted, and is no failure.
//! - Within a session nothing may be lost before what arrives, nothing repeated, nothing reordered, nothing damaged, and
//!   nothing may appear that belongs to another session. That is judged at the first message that breaks it.

mod client;
mod faults;
pub(crate) mod ledger;
mod message;
mod violations;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use msgtrans::ReconnectConfig;
use msgtrans_testkit::chaos::Random;
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::child::{Child, Counts};
use crate::network::Network;
use crate::process::{resident_kib, slope};
use crate::protocol::{Protocol, Protocols};
use client::{Load, Receiver, Shared};

/// The growth of either process that is allowed.
const MIB_PER_MINUTE_MAX: f64 = 1.0;
/// Shorter runs say nothing about growth: allocators and pools find their size meanwhile.
const JUDGED_MIN: Duration = Duration::from_secs(240);
/// The share of the run that is not judged.
const WARM: f64 = 0.25;
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Of the rate: one-way messages, requests; the rest is what the server sends by itself.
const ONE_WAY: f64 = 0.6;
const REQUESTS: f64 = 0.2;

struct Plan {
    time: Duration,
    rate: f64,
    clients: u32,
    fault_every: Duration,
    payload_bytes: usize,
    seed: u64,
}

/// `soak` with its options.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::parse(words)?;
    let protocols = arguments.take("protocols", Protocols::all())?;
    let minutes = arguments.take("minutes", 15.0)?;
    let plan = Plan {
        time: Duration::try_from_secs_f64(minutes * 60.0).map_err(|error| error.to_string())?,
        rate: arguments.take("rate", 5_000.0)?,
        clients: arguments.take("clients", 4)?,
        fault_every: Duration::from_secs(arguments.take("fault-every", 10)?),
        payload_bytes: arguments.take("payload", 200)?,
        seed: arguments.take("seed", 1)?,
    };
    arguments.finish()?;
    if plan.clients == 0 || plan.fault_every.is_zero() || plan.rate.is_nan() || plan.rate < 1.0 {
        return Err("clients, rate and fault-every are at least 1".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(soak(&protocols, &plan))
}

async fn soak(protocols: &Protocols, plan: &Plan) -> Result<(), String> {
    let clients = f64::from(plan.clients) * protocols.0.len() as f64;
    let rate = plan.rate / clients;
    let push_every = Duration::from_secs_f64(1.0 / (rate * (1.0 - ONE_WAY - REQUESTS)));
    let pause = push_every.as_micros().to_string();
    let mut child = Child::start("soak", protocols, &["--push-every-us", &pause])?;
    let shared = Shared::default();
    let mut random = Random::new(plan.seed);
    let mut networks = Vec::new();
    let mut loads = JoinSet::new();
    for protocol in &protocols.0 {
        for _ in 0..plan.clients {
            let number = networks.len() as u32 + 1;
            let network = Network::to(*protocol, &child.address(*protocol)?, random.next())
                .await
                .map_err(|error| error.to_string())?;
            let load = load(*protocol, number, &network, &child, &shared, plan, rate).await?;
            networks.push((*protocol, network));
            loads.spawn(load.run());
        }
    }
    let start = Instant::now();
    let mut memory = Memory::default();
    let mut struck: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut next_fault, mut next_heal, mut next_line) = (
        start + plan.fault_every / 2,
        None,
        start + Duration::from_secs(60),
    );
    let mut failed = None;
    while start.elapsed() < plan.time && failed.is_none() {
        tokio::select! {
            () = tokio::time::sleep(SAMPLE_EVERY.min(plan.fault_every / 4)) => {}
            ended = loads.join_next() => {
                failed = Some(match ended {
                    Some(Ok(Err(reason))) => reason,
                    other => format!("a client has ended: {other:?}"),
                });
            }
        }
        let now = Instant::now();
        if next_heal.is_some_and(|at| now >= at) {
            networks.iter().for_each(|(_, network)| network.heal());
            next_heal = None;
        }
        if now >= next_fault {
            for (_, network) in &networks {
                *struck
                    .entry(faults::strike(network, &mut random))
                    .or_default() += 1;
            }
            next_heal = Some(now + plan.fault_every / 2);
            next_fault += plan.fault_every;
        }
        let counts = child.sample()?;
        memory.sample(start.elapsed(), counts.other("resident_kib"));
        if now >= next_line {
            line(start.elapsed(), &shared, &counts);
            next_line += Duration::from_secs(60);
        }
    }
    networks.iter().for_each(|(_, network)| network.heal());
    shared.stop();
    while let Some(ended) = loads.join_next().await {
        let ended = ended.map_err(|error| error.to_string())?;
        failed = failed.or(ended.err());
    }
    let counts = child.sample()?;
    line(start.elapsed(), &shared, &counts);
    println!("faults, each on one client's network: {struck:?}");
    let violations =
        shared.violations.count() + u64::try_from(counts.other("violations")).unwrap_or(0);
    println!("promises broken: {violations}");
    let growth = memory.judge(plan.time);
    match failed {
        Some(reason) => Err(reason),
        None if violations > 0 => Err(format!("{violations} promises broken")),
        None if counts.other("unclaimed") > 0 => {
            Err("the ledger has sessions that no client knows of".to_owned())
        }
        None => growth,
    }
}

/// A client that is connected, and its load.
async fn load(
    protocol: Protocol,
    number: u32,
    network: &Network,
    child: &Child,
    shared: &Shared,
    plan: &Plan,
    rate: f64,
) -> Result<Load, String> {
    let reconnect = ReconnectConfig::new()
        .base(Duration::from_millis(50))
        .cap(Duration::from_secs(1));
    let client = protocol
        .dial(&network.address(), child.pin)
        .reconnect(reconnect)
        .with_handler(Receiver {
            client: number,
            shared: shared.clone(),
            last: Mutex::new(HashMap::new()),
        })
        .build()
        .await
        .map_err(|error| error.to_string())?;
    client
        .connect()
        .await
        .map_err(|error| format!("{protocol}: {error}"))?;
    Ok(Load {
        number,
        client,
        shared: shared.clone(),
        one_way: rate * ONE_WAY / 100.0,
        requests: rate * REQUESTS / 100.0,
        payload_bytes: plan.payload_bytes,
    })
}

fn line(elapsed: Duration, shared: &Shared, server: &Counts) {
    let counts = &shared.counts;
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{:.0} s: {} sessions; one way {} sent, {} handled, {} confirmed, {} acknowledged, {} confirmed but lost with \
         their connection; requests {} answered, {} not; pushes {} of {}, questions {}, broadcasts {} of {} times; \
         server {} KiB, clients {} KiB",
        elapsed.as_secs_f64(),
        of(&counts.sessions),
        of(&counts.one_way),
        server.other("one_way"),
        of(&counts.confirmed),
        of(&counts.acknowledged),
        of(&counts.confirmed_lost),
        of(&counts.answered),
        of(&counts.unanswered),
        of(&counts.pushes),
        server.other("pushes"),
        of(&counts.questions),
        of(&counts.broadcasts),
        server.other("broadcasts"),
        server.other("resident_kib"),
        resident_kib(),
    );
}

/// Resident memory of both processes over time, in minutes and MiB.
#[derive(Default)]
struct Memory {
    server: Vec<(f64, f64)>,
    clients: Vec<(f64, f64)>,
}

impl Memory {
    fn sample(&mut self, elapsed: Duration, server_kib: i64) {
        let minutes = elapsed.as_secs_f64() / 60.0;
        self.server.push((minutes, server_kib as f64 / 1024.0));
        self.clients.push((minutes, resident_kib() as f64 / 1024.0));
    }

    /// Fits a line through what is left of the run once it is warm.
    fn judge(&self, time: Duration) -> Result<(), String> {
        let warm = time.as_secs_f64() / 60.0 * WARM;
        let growth = |samples: &[(f64, f64)]| {
            let judged: Vec<(f64, f64)> = samples
                .iter()
                .copied()
                .filter(|(at, _)| *at >= warm)
                .collect();
            slope(&judged)
        };
        let (server, clients) = (growth(&self.server), growth(&self.clients));
        let judged = time >= JUDGED_MIN;
        println!(
            "memory, after the first quarter: server {server:+.3} MiB a minute, clients and networks {clients:+.3}{}",
            if judged {
                ""
            } else {
                " (too short a run to judge)"
            }
        );
        if judged && server.max(clients) >= MIB_PER_MINUTE_MAX {
            return Err(format!(
                "memory grows by {MIB_PER_MINUTE_MAX} MiB a minute or more"
            ));
        }
        Ok(())
    }
}
