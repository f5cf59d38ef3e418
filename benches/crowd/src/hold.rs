//! Opening all, and asking them: everybody once, or one after the other with a clock.

use crate::dial::Dialler;
use crate::member::{Ask, Manner, Member};
use crate::{Hold, Trouble};
use bench_kit::process;
use hdrhistogram::Histogram;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Between two sessions of a run of pings, so that it meets the whole crowd; a prime, so that it meets everybody.
const STRIDE: usize = 7_919;

/// Handshakes of one session; the last failure is the run's.
const TRIES: usize = 5;

struct Crowd {
    members: Vec<mpsc::Sender<Ask>>,
    lives: JoinSet<Result<(), Trouble>>,
    at_once: usize,
    patience: Duration,
    /// Handshakes that failed, and were tried again as a client does.
    again: usize,
}

pub(crate) async fn run(hold: &Hold) -> Result<(), Trouble> {
    let patience = Duration::from_secs(hold.patience);
    let retransmits = process::syn_retransmits()?;
    let begin = Instant::now();
    let mut crowd = timeout(patience, open(hold, patience))
        .await
        .map_err(|_| "not all sessions opened in time")??;
    say(&json!({
        "event": "up",
        "connections": crowd.members.len(),
        "seconds": begin.elapsed().as_secs_f64(),
        "again": crowd.again,
        "syn_retransmits": process::syn_retransmits()?.saturating_sub(retransmits),
    }))?;
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let command = tokio::select! {
            command = commands.next_line() => command?,
            ended = crowd.lives.join_next() => {
                ended.ok_or("nobody is there")???;
                return Err("a session ended by itself".into());
            }
        };
        let command = command.unwrap_or_else(|| "close".to_owned());
        match command.split_once(' ') {
            None if command == "echo" => crowd.echo().await?,
            Some(("ping", count)) => crowd.ping(count.parse()?).await?,
            None if command == "close" => break,
            _ => return Err(format!("{command}: neither echo, ping COUNT nor close").into()),
        }
    }
    for member in &crowd.members {
        // Full is impossible: whatever was asked before has been answered.
        member.send(Ask::Close).await?;
    }
    while let Some(ended) = crowd.lives.join_next().await {
        ended??;
    }
    say(&json!({ "event": "closed" }))
}

async fn open(hold: &Hold, patience: Duration) -> Result<Crowd, Trouble> {
    let dialler = Arc::new(Dialler::new(hold)?);
    let manner = Arc::new(Manner {
        raw: hold.raw,
        websocket: dialler.websocket,
        host: dialler.host.clone(),
        heartbeat_ms: hold.heartbeat_ms,
    });
    let places = Arc::new(Semaphore::new(hold.at_once.max(1)));
    let (mut members, mut lives) = (Vec::with_capacity(hold.connections), JoinSet::new());
    let (opened, mut open) = mpsc::unbounded_channel::<Result<(Member, usize), Trouble>>();
    let mut again = 0;
    for index in 0..hold.connections {
        let place = places.clone().acquire_owned().await?;
        let (dialler, manner, opened) = (dialler.clone(), manner.clone(), opened.clone());
        // A task for the handshake and one for the life after it: the first is larger, and gone when it is done.
        tokio::spawn(async move {
            let mut tries = 1;
            let mut member = join(&dialler, &manner, index).await;
            while member.is_err() && tries < TRIES {
                tries += 1;
                member = join(&dialler, &manner, index).await;
            }
            drop(place);
            // Nobody listens once another has failed.
            let _ = opened.send(member.map(|member| (member, tries - 1)));
        });
        while let Ok(joined) = open.try_recv() {
            let (member, more) = joined?;
            again += more;
            members.push(settle(member, &mut lives));
        }
    }
    while members.len() < hold.connections {
        let joined = open.recv().await;
        let (member, more) = joined.ok_or("a handshake ended without a word")??;
        again += more;
        members.push(settle(member, &mut lives));
    }
    Ok(Crowd {
        members,
        lives,
        at_once: hold.at_once.max(1),
        patience,
        again,
    })
}

/// One try of one session's handshakes.
async fn join(dialler: &Dialler, manner: &Manner, index: usize) -> Result<Member, Trouble> {
    Member::greet(dialler.dial(index).await?, manner).await
}

fn settle(member: Member, lives: &mut JoinSet<Result<(), Trouble>>) -> mpsc::Sender<Ask> {
    let (asks, inbox) = mpsc::channel(1);
    lives.spawn(member.live(inbox));
    asks
}

impl Crowd {
    /// Everybody, `at_once` at a time.
    async fn echo(&mut self) -> Result<(), Trouble> {
        let begin = Instant::now();
        let asking = async {
            for members in self.members.chunks(self.at_once) {
                let mut answers = Vec::with_capacity(members.len());
                for member in members {
                    let (sender, answer) = oneshot::channel();
                    member.send(Ask::Echo(sender)).await?;
                    answers.push(answer);
                }
                for answer in answers {
                    answer.await?;
                }
            }
            Ok::<_, Trouble>(())
        };
        timeout(self.patience, asking)
            .await
            .map_err(|_| "not everybody answered in time")??;
        say(&json!({
            "event": "echo",
            "answers": self.members.len(),
            "seconds": begin.elapsed().as_secs_f64(),
        }))
    }

    /// `count` sessions, one after the other: how long each takes.
    async fn ping(&mut self, count: usize) -> Result<(), Trouble> {
        let mut latency = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
        let mut at = 0;
        for _ in 0..count {
            at = (at + STRIDE) % self.members.len();
            let (sender, answer) = oneshot::channel();
            let begin = Instant::now();
            self.members[at].send(Ask::Ping(sender)).await?;
            timeout(self.patience, answer)
                .await
                .map_err(|_| "a ping was not answered in time")??;
            let taken = (begin.elapsed().as_nanos() as u64).clamp(1, latency.high());
            latency.record(taken)?;
        }
        let micros = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
        say(&json!({
            "event": "ping",
            "answers": count,
            "latency_us": {
                "p50": micros(0.5), "p99": micros(0.99), "p999": micros(0.999),
                "max": latency.max() as f64 / 1e3,
            },
        }))
    }
}

fn say(line: &serde_json::Value) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
