//! [`ThreadPerCore`]: a server on threads of its own, each with a runtime for itself.

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use msgtrans_actor::{TaskGroup, Timers};
use msgtrans_core::ConfigError;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use crate::shutdown::CLOSE_TIMEOUT;

/// More threads than any machine has processors.
const THREADS_MAX: usize = 1_024;

/// How long threads that have nothing to do any more have to end.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// The threads of [`TransportServerBuilder::thread_per_core`](crate::TransportServerBuilder::thread_per_core), each with
/// a runtime of one thread. A number of threads is one too; [`default`](Self::default) is one for each processor that
/// the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPerCore {
    threads: usize,
    timers: bool,
}

impl ThreadPerCore {
    /// So many threads, from 1 to 1 024.
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            timers: true,
        }
    }

    /// Runtimes without timers of tokio's, which the server does not need unless it speaks QUIC: a thread that goes to
    /// sleep looks at the clock once less. Handlers that ask tokio for the time (`sleep`, `timeout`) panic.
    #[must_use]
    pub fn without_timers(mut self) -> Self {
        self.timers = false;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if (1..=THREADS_MAX).contains(&self.threads) {
            return Ok(());
        }
        Err(ConfigError::new(
            "thread_per_core",
            self.threads,
            "must be from 1 to 1024",
        ))
    }
}

impl Default for ThreadPerCore {
    fn default() -> Self {
        Self::new(thread::available_parallelism().map_or(1, NonZero::get))
    }
}

impl From<usize> for ThreadPerCore {
    fn from(threads: usize) -> Self {
        Self::new(threads)
    }
}

/// The threads. They end when they are told, and by themselves when this is gone.
pub(crate) struct Cores {
    handles: Vec<Handle>,
    /// Where the next listener has its first, and maybe only, socket.
    next: AtomicUsize,
    /// Each thread holds a receiver to its very end.
    end: watch::Sender<End>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum End {
    NotYet,
    /// When no session is left, or soon.
    Empty,
    /// With whatever still runs.
    Now,
}

impl Cores {
    /// Starts the threads; `tasks` are those that an end waits for.
    ///
    /// # Errors
    /// The system has no more threads or descriptors. Those that were started have ended.
    ///
    /// # Cancel safety
    /// The threads end.
    pub(crate) async fn start(
        config: ThreadPerCore,
        tasks: &TaskGroup,
    ) -> Result<Self, ConfigError> {
        let mut cores = Self {
            handles: Vec::with_capacity(config.threads),
            next: AtomicUsize::new(0),
            end: watch::Sender::new(End::NotYet),
            threads: Mutex::default(),
        };
        for number in 0..config.threads {
            if let Err(error) = cores.add(number, config, tasks).await {
                cores.end(End::Now);
                cores.ended().await;
                let why = format!("the system gives no more threads: {error}");
                return Err(ConfigError::new("thread_per_core", config.threads, why));
            }
        }
        Ok(cores)
    }

    async fn add(
        &mut self,
        number: usize,
        config: ThreadPerCore,
        tasks: &TaskGroup,
    ) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        let (tasks, end) = (tasks.clone(), self.end.subscribe());
        let thread = thread::Builder::new()
            .name(format!("msgtrans-core-{number}"))
            .spawn(move || run(config, &tasks, end, tell))?;
        self.threads().push(thread);
        // A thread that tells nothing has panicked, and said so.
        let handle = told.await.map_err(io::Error::other)?;
        self.handles.push(handle?);
        Ok(())
    }

    /// The runtime for the next listener, and those of the other threads.
    pub(crate) fn next(&self) -> (&Handle, impl Iterator<Item = &Handle>) {
        // Relaxed: only spreads listeners.
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        let (before, behind) = self.handles.split_at(at);
        (&behind[0], behind[1..].iter().chain(before))
    }

    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    /// Tells the threads to end; what they were told before counts where it was more.
    pub(crate) fn end(&self, how: End) {
        self.end.send_if_modified(|end| {
            let more = how > *end;
            if more {
                *end = how;
            }
            more
        });
    }

    /// Waits until the threads have ended, and joins them. One that a handler blocks is let go.
    ///
    /// A task on one of these threads does not come out of this: it is dropped with its runtime.
    ///
    /// # Cancel safety
    /// The threads end all the same.
    pub(crate) async fn ended(&self) {
        let timers = Timers::start();
        let all = timers.timeout(END_TIMEOUT, self.end.closed()).await.is_ok();
        for thread in self.threads().drain(..) {
            if !all && !thread.is_finished() {
                tracing::error!(thread = thread.thread().name(), "blocked, and let go");
                continue;
            }
            // Behind its last statement, so this takes no time. Its panic has been printed.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the threads, from its runtime's beginning to its end.
fn run(
    config: ThreadPerCore,
    tasks: &TaskGroup,
    mut end: watch::Receiver<End>,
    tell: oneshot::Sender<io::Result<Handle>>,
) {
    let mut builder = Builder::new_current_thread();
    if config.timers {
        builder.enable_time();
    }
    let runtime = match builder.enable_io().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody waits any more: then nobody wants the error either.
            let _ = tell.send(Err(error));
            return;
        }
    };
    if tell.send(Ok(runtime.handle().clone())).is_err() {
        return;
    }
    runtime.block_on(until(&mut end, tasks));
    // Tasks are dropped; work of theirs that blocks is not waited for.
    runtime.shutdown_background();
}

/// Until the thread may end.
async fn until(end: &mut watch::Receiver<End>, tasks: &TaskGroup) {
    // An error: nobody is left who could tell, as when a server was dropped.
    let _ = end.wait_for(|end| *end > End::NotYet).await;
    if *end.borrow() == End::Now {
        return;
    }
    let empty = async {
        tokio::select! {
            () = tasks.wait() => {}
            Ok(_) = end.wait_for(|end| *end == End::Now) => {}
        }
    };
    // Sessions that take longer are dropped with their runtime.
    let _ = Timers::start().timeout(CLOSE_TIMEOUT, empty).await;
}

/// Runs `work` on `core` and waits for it; a panic of it goes on here.
pub(crate) async fn on<F>(core: &Handle, work: F) -> io::Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    core.spawn(work).await.map_err(|error| {
        if error.is_panic() {
            resume_unwind(error.into_panic());
        }
        io::Error::other("the server ends")
    })
}
