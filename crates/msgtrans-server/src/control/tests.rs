//! The loop seen from outside: through what it publishes to a recorder, which runs on its thread.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{Gauge, GaugeFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use msgtrans_core::{ConfigError, TransportError};
use msgtrans_inproc::InprocServerConfig;
use msgtrans_lockfree::LockFreeHashMap;
use msgtrans_mempool::worker::{self, WorkerStats};
use msgtrans_transport::{Connector, Endpoint, Schemes, ServerProtocol};

use super::{Control, INTERVAL_MAX, INTERVAL_MIN, UseWatch, drop_removed, lock};
use crate::memory::MemoryBudget;
use crate::{TransportServer, TransportServerBuilder};

/// Longer than any machine needs; a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Held by tests whose loops tick: the buffers they trim are those of the whole process.
static TICKING: Mutex<()> = Mutex::new(());

#[derive(Debug)]
struct NoSchemes;

impl Schemes for NoSchemes {
    fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        Err(ConfigError::new("endpoint", endpoint, "no schemes here"))
    }

    fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
        Err(ConfigError::new("endpoint", endpoint, "no schemes here"))
    }
}

fn builder(name: &str) -> TransportServerBuilder<NoSchemes> {
    TransportServer::builder().with_protocol(InprocServerConfig::new(name))
}

/// One set of a gauge, and the control thread's id where the system names it.
struct Published {
    name: String,
    value: f64,
    thread: Option<String>,
}

/// Sends what is published over a channel.
struct Spy(Sender<Published>);

struct SpyGauge {
    name: String,
    sender: Sender<Published>,
}

impl GaugeFn for SpyGauge {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        let thread = std::fs::read_link("/proc/thread-self").ok();
        // The test has seen enough.
        let _ = self.sender.send(Published {
            name: self.name.clone(),
            value,
            thread: thread.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
        });
    }
}

impl Recorder for Spy {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(SpyGauge {
            name: key.name().to_owned(),
            sender: self.0.clone(),
        }))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

/// Runs `start` so that what it starts publishes to the receiver.
fn spied<R>(start: impl FnOnce() -> R) -> (R, Receiver<Published>) {
    let (sender, published) = mpsc::channel();
    let result = metrics::with_local_recorder(&Spy(sender), start);
    (result, published)
}

/// Blocks the thread until `name` is published with a value that `wanted` likes.
fn await_gauge(
    published: &Receiver<Published>,
    name: &str,
    wanted: impl Fn(f64) -> bool,
) -> Published {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let next = published
            .recv_timeout(left)
            .expect("published in good time");
        if next.name == name && wanted(next.value) {
            return next;
        }
    }
}

/// Blocks the thread for `count` samples, by the gauge that each publishes last.
fn await_samples(published: &Receiver<Published>, count: usize) {
    for _ in 0..count {
        await_gauge(published, "msgtrans_read_buffer_shared_bytes", |_| true);
    }
}

/// Blocks the thread until the loop has ended: the senders go with it.
fn await_end(published: &Receiver<Published>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match published.recv_timeout(left) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => panic!("the loop goes on"),
        }
    }
}

fn block_on<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn samples_are_taken_while_every_thread_of_the_runtime_is_blocked() {
    let _ticking = lock(&TICKING);
    block_on(async {
        let server = builder("control-saturated")
            .control_interval(INTERVAL_MIN)
            .build()
            .await
            .expect("builds");
        let (started, published) = spied(|| server.start());
        started.expect("starts");
        // The only thread of the runtime waits here. The first sample comes with the start, the others with ticks.
        await_samples(&published, 3);
        assert!(server.process_stats().samples >= 3);
        server.shutdown().await;
        await_end(&published);
    });
}

#[test]
fn before_the_start_nothing_is_known() {
    block_on(async {
        let server = builder("control-unknown").build().await.expect("builds");
        let stats = server.sample_process().await;
        assert_eq!(
            (stats.samples, stats.resident_bytes, stats.at),
            (0, None, stats.since)
        );
        server.trim_memory();
        assert_eq!(server.process_stats().trims, 0);
    });
}

#[test]
fn a_sample_that_was_asked_for_is_fresh() {
    block_on(async {
        let server = builder("control-fresh")
            .control_interval(INTERVAL_MAX)
            .build()
            .await
            .expect("builds");
        server.start().expect("starts");
        let first = server.sample_process().await;
        let second = server.sample_process().await;
        assert_eq!(second.samples, first.samples + 1);
        assert!(second.at > first.at && first.at > first.since);
        assert_eq!(second.sessions, 0);
        assert_eq!(server.process_stats(), second);
        server.shutdown().await;
        // What is known stays known, and nobody waits for a loop that has ended.
        assert_eq!(server.sample_process().await, second);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_sample_says_what_the_system_says() {
    block_on(async {
        let server = builder("control-linux").build().await.expect("builds");
        server.start().expect("starts");
        let before = server.sample_process().await;
        let held = vec![1_u8; 32 << 20];
        let files: Vec<_> = (0..100)
            .map(|_| std::fs::File::open("/proc/self/stat").expect("opens"))
            .collect();
        // 10 ms of work at the least, which is what processor time is counted in.
        let busy = Instant::now();
        while busy.elapsed() < Duration::from_millis(50) {
            std::hint::black_box(&held);
        }
        let after = server.sample_process().await;
        drop((held, files));
        let grown = after.resident_bytes.expect("known") - before.resident_bytes.expect("known");
        // Tests beside this one may give some back.
        assert!(grown > 16 << 20, "{grown} bytes");
        let opened = after.open_fds.expect("known") - before.open_fds.expect("known");
        assert!((50..200).contains(&opened), "{opened} descriptors");
        assert!(after.cpu_time.expect("known") > before.cpu_time.expect("known"));
        // The test's own and the control loop's.
        assert!(after.threads.expect("known") >= 2);
        server.shutdown().await;
    });
}

#[cfg(target_os = "linux")]
mod thread {
    use super::*;

    /// The thread's name as the kernel has it, cut to 15 bytes.
    fn name_of(thread: &str) -> Option<String> {
        std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).ok()
    }

    /// Starts a server, ends it by `end`, and waits for its thread to be gone.
    fn check_ends(
        name: &str,
        end: impl AsyncFnOnce(TransportServer<NoSchemes>) -> Option<TransportServer<NoSchemes>>,
    ) {
        block_on(async {
            let server = builder(name)
                .control_interval(INTERVAL_MAX)
                .build()
                .await
                .expect("builds");
            let (started, published) = spied(|| server.start());
            started.expect("starts");
            let sample = await_gauge(&published, "msgtrans_process_threads", |_| true);
            let thread = sample.thread.expect("Linux names its threads");
            assert_eq!(name_of(&thread).as_deref(), Some("msgtrans-contro\n"));

            let left = end(server).await;
            let deadline = Instant::now() + PATIENCE;
            while name_of(&thread).is_some_and(|name| name == "msgtrans-contro\n") {
                assert!(Instant::now() < deadline, "the thread lives on");
                std::thread::yield_now();
            }
            drop(left);
        });
    }

    #[test]
    fn ends_with_a_shutdown_though_handles_remain() {
        check_ends("control-shutdown", async |server| {
            server.shutdown().await;
            Some(server)
        });
    }

    #[test]
    fn ends_with_the_last_handle() {
        check_ends("control-dropped", async |server| {
            let clone = server.clone();
            drop(server);
            drop(clone);
            None
        });
    }
}

#[test]
fn a_loop_stopped_before_its_start_never_runs() {
    let control = Control::new();
    control.stop();
    let ((), published) = spied(|| start(&control, INTERVAL_MIN, || (), 0));
    // Nothing holds the recorder's sender: no meters were made.
    assert!(published.recv().is_err());
    assert_eq!(control.stats().samples, 0);
}

/// A loop that has nothing to cut.
fn start(
    control: &Control,
    interval: Duration,
    upkeep: impl FnMut() + Send + 'static,
    sessions: usize,
) {
    let memory = MemoryBudget(usize::MAX);
    control.start(interval, memory, || false, upkeep, move || sessions);
}

/// Leaves buffers on the stack that all threads share: this thread keeps 4 of 10.
fn fill_shared_stack() {
    let taken: Vec<_> = (0..10).map(|_| worker::take_read_buffer()).collect();
    drop(taken);
}

#[test]
fn idle_buffers_are_freed_by_a_tick() {
    let _ticking = lock(&TICKING);
    fill_shared_stack();
    let control = Control::new();
    let ((), published) = spied(|| start(&control, INTERVAL_MIN, || (), 0));
    let shared = "msgtrans_read_buffer_shared_bytes";
    await_gauge(&published, shared, |bytes| bytes > 0.0);
    await_gauge(&published, shared, |bytes| bytes == 0.0);
    assert!(control.stats().trims > 0);
    control.stop();
    await_end(&published);
}

#[test]
fn buffers_are_freed_by_a_command() {
    let _ticking = lock(&TICKING);
    fill_shared_stack();
    assert!(worker::stats().shared_bytes > 0);
    let control = Control::new();
    start(&control, INTERVAL_MAX, || (), 7);
    control.trim();
    let sample = block_on(control.sample());
    assert_eq!(sample.read_buffer_shared_bytes, 0);
    assert_eq!((sample.trims, sample.sessions), (1, 7));
    control.stop();
}

#[test]
fn buffers_in_use_are_not_idle() {
    let counted = |takes: u64, shared_bytes: usize| {
        let mut stats = WorkerStats::default();
        stats.read_hits = takes;
        stats.shared_bytes = shared_bytes;
        stats
    };
    let mut watch = UseWatch::new(&counted(10, 0));
    assert!(!watch.idle(&counted(100, 4096)), "90 takes");
    assert!(watch.idle(&counted(100, 4096)), "none since");
    assert!(!watch.idle(&counted(100, 0)), "trimmed already");
    assert!(watch.idle(&counted(100, 4096)), "buffers came back late");
    assert!(!watch.idle(&counted(101, 0)), "in use again");
    assert!(watch.idle(&counted(101, 0)), "and idle again");
}

#[test]
fn what_another_thread_removed_is_dropped() {
    let map = Arc::new(LockFreeHashMap::new());
    let witness = Arc::new(());
    for key in 0..100_u64 {
        map.insert(key, witness.clone());
    }
    let remover = std::thread::spawn({
        let map = map.clone();
        move || {
            for key in 0..100_u64 {
                map.remove(&key);
            }
        }
    });
    remover.join().expect("removed");
    let deadline = Instant::now() + PATIENCE;
    // Tests beside this one may hold an epoch for a moment.
    while Arc::strong_count(&witness) > 1 {
        assert!(Instant::now() < deadline, "removed entries live on");
        drop_removed(&map);
    }
}

#[test]
fn intervals_out_of_bounds_are_refused() {
    let check = |interval: Duration, good: bool| {
        let built = block_on(
            builder("control-interval")
                .control_interval(interval)
                .build(),
        );
        match built {
            Ok(_) => assert!(good, "{interval:?} was taken"),
            Err(TransportError::Config(error)) => {
                assert!(!good, "{interval:?}: {error}");
                assert!(error.to_string().contains("control_interval"), "{error}");
            }
            Err(error) => panic!("{interval:?}: {error}"),
        }
    };
    check(Duration::ZERO, false);
    check(INTERVAL_MIN - Duration::from_nanos(1), false);
    check(INTERVAL_MIN, true);
    check(INTERVAL_MAX, true);
    check(INTERVAL_MAX + Duration::from_nanos(1), false);
}

#[cfg(target_os = "linux")]
mod format {
    use std::time::Duration;

    use crate::control::process::linux::{parse_resident, parse_stat};

    #[test]
    fn a_program_name_may_hold_blanks_and_brackets() {
        let stat = "4242 (a) b (c) S 1 4242 4242 0 -1 4194304 1234 0 2 0 150 25 7 8 20 0 9 0 \
                    4183 1073741824 2500 18446744073709551615 1 1\n";
        assert_eq!(parse_stat(stat), Some((Duration::from_millis(1_750), 9)));
    }

    #[test]
    fn what_does_not_parse_is_not_known() {
        for stat in [
            "",
            "1 (x) S 1 2",
            "1 (x) S 1 1 1 0 -1 4 1 0 2 0 a 25 7 8 20 0 9",
        ] {
            assert_eq!(parse_stat(stat), None, "{stat:?}");
        }
        for status in ["", "VmRSS:\n", "VmRSS: 12 MB\n", "VmSize: 12 kB\n"] {
            assert_eq!(parse_resident(status), None, "{status:?}");
        }
    }

    #[test]
    fn resident_memory_is_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t   9200 kB\nVmRSS:\t    9104 kB\nThreads:\t3\n";
        assert_eq!(parse_resident(status), Some(9104 * 1024));
    }
}

#[test]
fn memory_is_given_back_when_a_crowd_has_gone_and_not_only_on_a_tick() {
    let _ticking = lock(&TICKING);
    let control = Control::new();
    let (upkeep, kept_up) = mpsc::channel();
    let tell = move || upkeep.send(()).expect("the test listens");
    start(&control, INTERVAL_MAX, tell, 0);
    control.ebb();
    kept_up
        .recv_timeout(PATIENCE)
        .expect("looked after without a tick");
    // The loop takes one thing after the other: the sample is after the trim.
    assert_eq!(block_on(control.sample()).trims, 1);
    control.stop();
}
