//! [`Harness`]: the invariants that hold during and after every attack.
//!
//! | | invariant | how it is seen |
//! |---|---|---|
//! | I1 | nothing panics | a hook counts panics |
//! | I2 | whoever behaves is served | canaries ping on every protocol from before the attack to its end; none may fail |
//! | I3 | nothing is left behind | descriptors, tasks and the given gauges return to where they were |
//! | I4 | memory stays | resident memory returns to at most 64 MiB above where it was |
//! | I5 | what was acknowledged was handled, once and in order | the [`Ledger`] |
//! | I6 | who was turned away was counted | every reason that the attack must cause has been counted, and no other |

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use super::ledger::Ledger;
use super::process::{descriptors, memory_bytes, panics, watch_panics};

/// A future in a box.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How long the figures may take to return.
const SETTLE: Duration = Duration::from_secs(10);
/// What memory may grow by.
const MEMORY_MAX: u64 = 64 << 20;
/// A ping that takes this long has failed.
const PING_MAX: Duration = Duration::from_secs(10);
/// Pings of each canary in peace, before the attack.
const QUIET_PINGS: u64 = 20;
/// Below this, three times the quiet latency is noise: server, canaries and adversary share the machine.
const P99_FLOOR: Duration = Duration::from_secs(2);

/// A client that behaves. Each ping has a number of its own and says what went wrong.
pub struct Canary {
    /// What it speaks.
    pub name: &'static str,
    /// One exchange, numbered from 0.
    pub ping: Box<dyn Fn(u64) -> BoxFuture<Result<(), String>> + Send + Sync>,
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Canary").field(&self.name).finish()
    }
}

/// A figure that must return to where it was, by name.
pub type Gauge = (&'static str, Box<dyn Fn() -> u64 + Send + Sync>);

/// Where the harness looks.
pub struct Probe {
    /// Sessions, pending requests.
    pub gauges: Vec<Gauge>,
    /// How often peers were turned away, by reason.
    pub rejections: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
    /// What the canaries sent and the application was given.
    pub ledger: Ledger,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

/// Watches a server from before an attack to after it.
#[derive(Debug)]
pub struct Harness {
    probe: Probe,
    canaries: Vec<Song>,
    over: Arc<AtomicBool>,
    before: Figures,
    rejections_before: Vec<(&'static str, u64)>,
    panics_expected: u64,
    settle: Duration,
}

#[derive(Debug)]
struct Song {
    name: &'static str,
    quiet: Vec<Duration>,
    task: JoinHandle<Sung>,
}

#[derive(Debug, Default)]
struct Sung {
    times: Vec<Duration>,
    failures: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Figures {
    panics: u64,
    descriptors: u64,
    tasks: u64,
    memory: u64,
    gauges: Vec<(&'static str, u64)>,
}

impl Figures {
    fn now(probe: &Probe) -> Self {
        Self {
            panics: panics(),
            descriptors: descriptors(),
            tasks: Handle::current().metrics().num_alive_tasks() as u64,
            memory: memory_bytes(),
            gauges: probe
                .gauges
                .iter()
                .map(|(name, gauge)| (*name, gauge()))
                .collect(),
        }
    }

    /// What has not returned.
    fn beyond(&self, before: &Self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |name: &str, before: u64, now: u64| {
            faults.push(format!("I3: {name}: {before} before, {now} now"));
        };
        // Fewer is no fault: what a row before this one had left may still have been closing when this one began. That
        // everything is there that should be, the canaries show.
        for (name, before, now) in [
            ("descriptors", before.descriptors, self.descriptors),
            ("tasks", before.tasks, self.tasks),
        ] {
            if now > before {
                fault(name, before, now);
            }
        }
        for ((name, before), (_, now)) in before.gauges.iter().zip(&self.gauges) {
            if now != before {
                fault(name, *before, *now);
            }
        }
        if self.memory > before.memory + MEMORY_MAX {
            let grown = (self.memory - before.memory) >> 20;
            faults.push(format!("I4: memory grew by {grown} MiB"));
        }
        faults
    }
}

/// What an attack has cost.
#[derive(Debug)]
pub struct Report {
    /// Peers turned away during the attack, by reason; reasons that did not occur are left out.
    pub rejections: Vec<(&'static str, u64)>,
    /// Pings of all canaries during the attack.
    pub pings: u64,
    /// The slowest canary's 99th percentile, and what it was before the attack.
    pub p99: (Duration, Duration),
    /// Messages that were acknowledged, all of them handled once.
    pub acknowledged: u64,
}

impl Report {
    /// How often peers were turned away for `reason`.
    pub fn rejected(&self, reason: &str) -> u64 {
        let found = self.rejections.iter().find(|(name, _)| *name == reason);
        found.map_or(0, |(_, count)| *count)
    }
}

impl Harness {
    /// Lets each canary ping in peace, then takes the figures that everything must return to.
    ///
    /// # Errors
    /// A canary is not served even now.
    pub async fn start(probe: Probe, canaries: Vec<Canary>) -> Result<Self, String> {
        watch_panics();
        let over = Arc::new(AtomicBool::new(false));
        let mut songs = Vec::new();
        for canary in canaries {
            let mut quiet = Sung::default();
            for number in 0..QUIET_PINGS {
                quiet.ping(&canary, number).await;
            }
            if let Some(failure) = quiet.failures.pop() {
                return Err(format!("before the attack: {failure}"));
            }
            let name = canary.name;
            let task = tokio::spawn(sing(canary, over.clone()));
            let quiet = quiet.times;
            songs.push(Song { name, quiet, task });
        }
        let before = steady(&probe).await;
        Ok(Self {
            rejections_before: (probe.rejections)(),
            probe,
            canaries: songs,
            over,
            before,
            panics_expected: 0,
            settle: SETTLE,
        })
    }

    /// The attack makes the application panic so often, on purpose.
    pub fn expect_panics(&mut self, count: u64) {
        self.panics_expected = count;
    }

    /// The figures may take so long to return, instead of 10 s: where a peer's last word may be lost on its way.
    pub fn settle_within(&mut self, time: Duration) {
        self.settle = time;
    }

    /// Asserts the invariants. `expected` are the reasons for which peers must have been turned away, each with the
    /// least number.
    ///
    /// # Errors
    /// Everything that does not hold.
    pub async fn finish(self, expected: &[(&str, u64)]) -> Result<Report, String> {
        let mut faults = self.settle().await;
        let panicked = panics() - self.before.panics;
        if panicked != self.panics_expected {
            let expected = self.panics_expected;
            faults.push(format!("I1: {panicked} panics instead of {expected}"));
        }
        self.over.store(true, Ordering::Relaxed);
        let (mut pings, mut p99) = (0, (Duration::ZERO, Duration::ZERO));
        for song in self.canaries {
            let name = song.name;
            let sung = match song.task.await {
                Ok(sung) => sung,
                Err(error) => {
                    faults.push(format!("I2: {name}: {error}"));
                    continue;
                }
            };
            let ratio = (percentile_99(sung.times.clone()), percentile_99(song.quiet));
            if ratio.0 > (ratio.1 * 3).max(P99_FLOOR) {
                faults.push(format!(
                    "I2: {name}: p99 {:?}, {:?} in peace",
                    ratio.0, ratio.1
                ));
            }
            p99 = p99.max(ratio);
            pings += sung.times.len() as u64;
            faults.extend(sung.failures.iter().map(|fault| format!("I2: {fault}")));
        }
        let lost = || self.probe.ledger.faults();
        settled(self.settle, || lost().is_empty()).await;
        faults.extend(lost().into_iter().map(|fault| format!("I5: {fault}")));
        let rejections = since(&self.rejections_before, &(self.probe.rejections)());
        faults.extend(unexpected(&rejections, expected));
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        Ok(Report {
            rejections,
            pings,
            p99,
            acknowledged: self.probe.ledger.acknowledged_total(),
        })
    }

    /// Waits until every figure has returned, and says which have not.
    async fn settle(&self) -> Vec<String> {
        let faults = || Figures::now(&self.probe).beyond(&self.before);
        settled(self.settle, || faults().is_empty()).await;
        faults()
    }
}

impl Sung {
    async fn ping(&mut self, canary: &Canary, number: u64) {
        let begun = Instant::now();
        let name = canary.name;
        match timeout(PING_MAX, (canary.ping)(number)).await {
            Ok(Ok(())) => self.times.push(begun.elapsed()),
            Ok(Err(error)) => self
                .failures
                .push(format!("{name}: ping {number}: {error}")),
            Err(_) => self
                .failures
                .push(format!("{name}: ping {number}: no answer")),
        }
    }
}

/// Pings until it is over, or one has failed.
async fn sing(canary: Canary, over: Arc<AtomicBool>) -> Sung {
    let mut sung = Sung::default();
    let mut ticks = interval(Duration::from_millis(10));
    let mut number = QUIET_PINGS;
    while !over.load(Ordering::Relaxed) && sung.failures.is_empty() {
        ticks.tick().await;
        sung.ping(&canary, number).await;
        number += 1;
    }
    sung
}

/// The figures once two looks in a row agree: others in the process open a file now and then, or end a task late.
async fn steady(probe: &Probe) -> Figures {
    let mut ticks = interval(Duration::from_millis(20));
    let mut last = Figures::now(probe);
    loop {
        ticks.tick().await;
        let now = Figures::now(probe);
        if now.beyond(&last).is_empty() {
            return now;
        }
        last = now;
    }
}

/// Looks again and again until it is so, or time is up.
async fn settled(within: Duration, so: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    let mut ticks = interval(Duration::from_millis(5));
    while !so() && Instant::now() < deadline {
        ticks.tick().await;
    }
}

fn percentile_99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let index = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default()
}

fn since(before: &[(&'static str, u64)], now: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    let count = |name: &str| before.iter().find(|it| it.0 == name).map_or(0, |it| it.1);
    now.iter()
        .map(|(name, now)| (*name, now - count(name)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Reasons that are missing, and those that nobody expects.
fn unexpected(rejections: &[(&'static str, u64)], expected: &[(&str, u64)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, least) in expected {
        let found = rejections.iter().find(|it| it.0 == *name);
        let count = found.map_or(0, |it| it.1);
        if count < *least {
            faults.push(format!(
                "I6: {count} rejections as `{name}`, at least {least} were due"
            ));
        }
    }
    for (name, count) in rejections {
        if !expected.iter().any(|it| it.0 == *name) {
            faults.push(format!(
                "I6: {count} rejections as `{name}`, which nobody has caused"
            ));
        }
    }
    faults
}
