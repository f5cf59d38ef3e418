//! The conformance suite of the facade: what a session does, whatever protocol it runs over.

mod cases;
mod protocol;

use std::fmt;
use std::sync::Arc;

use msgtrans_transport::Schemes;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Case, CaseReport, Outcome, Report, run};
use crate::capabilities::Capabilities;
use protocol::Protocol;

/// The cases of the facade for one protocol, ready to run.
#[must_use = "a suite that does not run proves nothing"]
pub struct FacadeSuite {
    protocol: Protocol,
    only: Option<String>,
    except: Option<String>,
}

impl fmt::Debug for FacadeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacadeSuite")
            .field("capabilities", &self.protocol.capabilities)
            .field("only", &self.only)
            .field("except", &self.except)
            .finish_non_exhaustive()
    }
}

/// A suite for the protocol that `S` makes of the URLs that `listen` gives: servers listen at them, and clients dial what
/// [`local_endpoints`](msgtrans::custom::TransportServer::local_endpoints) says.
///
/// `listen` is called for every listener and must give a URL that can be bound beside all others: port 0, a fresh name,
/// a fresh path. `S` must take the endpoint of a listener too, to listen there again and to dial it; where that needs
/// more than a URL says (a certificate, whom to believe), the table adds it.
///
/// ```no_run
/// # use msgtrans::{BuiltIn, custom};
/// # use msgtrans_testkit::{Capabilities, conformance};
/// # async fn example() {
/// let report = conformance::facade::<BuiltIn>(Capabilities::byte_stream(), || "tcp://127.0.0.1:0".to_owned())
///     .run()
///     .await;
/// assert!(report.passed(), "{report}");
/// # }
/// ```
pub fn facade<S: Schemes>(
    capabilities: Capabilities,
    listen: impl Fn() -> String + Send + Sync + 'static,
) -> FacadeSuite {
    FacadeSuite {
        protocol: Protocol {
            capabilities,
            listen: Arc::new(listen),
            server: S::server,
            connector: S::connector,
            thread_per_core: None,
        },
        only: None,
        except: None,
    }
}

impl FacadeSuite {
    /// Runs only the cases whose names contain `part`.
    pub fn only(mut self, part: impl Into<String>) -> Self {
        self.only = Some(part.into());
        self
    }

    /// Leaves out the cases whose names contain `part`.
    ///
    /// Those of `"heartbeats"` do nothing for 17 s but wait, beside the others. Who has several protocols may run them
    /// for all at once.
    pub fn except(mut self, part: impl Into<String>) -> Self {
        self.except = Some(part.into());
        self
    }

    /// Every server runs on so many threads of its own, each with a runtime of one thread: see
    /// [`thread_per_core`](msgtrans::TransportServerBuilder::thread_per_core).
    pub fn thread_per_core(mut self, threads: usize) -> Self {
        self.protocol.thread_per_core = Some(threads);
        self
    }

    /// Runs the cases, each on a runtime of its own with two threads and a deadline of 60 s: one after the other, but
    /// those that wait for heartbeats beside all others. A case fails by panicking; the report has its words.
    ///
    /// # Panics
    /// Outside a tokio runtime, and where no runtime can be made.
    pub async fn run(self) -> Report {
        let scheme = self.protocol.url().scheme().to_owned();
        let chosen = |case: &Case<Protocol>| {
            let only = self.only.as_deref();
            let except = self.except.as_deref();
            only.is_none_or(|part| case.name.contains(part))
                && !except.is_some_and(|part| case.name.contains(part))
        };
        let cases: Vec<_> = cases::all().into_iter().filter(chosen).collect();
        let start = |case: Case<Protocol>| {
            let protocol = self.protocol.clone();
            spawn_blocking(move || run_apart(case, protocol))
        };
        let waiting: Vec<_> = cases
            .iter()
            .map(|case| case.waits.then(|| start(*case)))
            .collect();
        let mut reports = Vec::new();
        for (case, waiting) in cases.into_iter().zip(waiting) {
            // It does not panic: a case's panic stays in the case's task.
            let report = waiting.unwrap_or_else(|| start(case)).await;
            reports.push(report.expect("a runtime"));
        }
        Report::new("facade", scheme, reports)
    }
}

/// One case on a runtime of its own, with which everything ends that the case has left behind.
fn run_apart(case: Case<Protocol>, protocol: Protocol) -> CaseReport {
    let start = Instant::now();
    let outcome = match (case.skip)(&protocol.capabilities) {
        Some(why) => Outcome::Skipped(why),
        None => {
            let mut builder = Builder::new_multi_thread();
            let runtime = builder.worker_threads(2).enable_all().build();
            let runtime = runtime.expect("threads and descriptors for a runtime");
            let outcome = runtime.block_on(run(&case, protocol));
            runtime.shutdown_background();
            outcome
        }
    };
    CaseReport {
        name: case.name,
        outcome,
        took: start.elapsed(),
    }
}
