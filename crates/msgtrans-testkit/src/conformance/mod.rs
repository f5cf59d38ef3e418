//! The conformance suites: named cases that hold for every protocol, at the seam and at the facade.

mod cases;
mod facade;
mod pair;
mod report;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use msgtrans_transport::{Connector, Endpoint, ServerProtocol};
use tokio::time::{Instant, timeout};

use crate::capabilities::Capabilities;
use crate::failure::Failure;

pub use facade::{FacadeSuite, facade};
pub use report::{CaseReport, Outcome, Report};

/// Far more than any case needs, also on a loaded machine without optimisation: what takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(60);

type CaseFuture = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
type MakeServer = dyn Fn() -> Box<dyn ServerProtocol> + Send + Sync;
type MakeConnector = dyn Fn(&Endpoint) -> Box<dyn Connector> + Send + Sync;

/// One named demand on a protocol, which the case gets as `P`.
struct Case<P = Protocol> {
    name: &'static str,
    /// Why it does not apply to a protocol with these capabilities.
    skip: fn(&Capabilities) -> Option<&'static str>,
    /// Whether it is idle for most of its time, and may run beside others.
    waits: bool,
    run: fn(P) -> CaseFuture,
}

impl<P> Clone for Case<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Case<P> {}

/// The protocol under test, as each case gets it.
#[derive(Clone)]
struct Protocol {
    capabilities: Capabilities,
    server: Arc<MakeServer>,
    connector: Arc<MakeConnector>,
}

/// The cases of the seam for one protocol, ready to run.
#[must_use = "a suite that does not run proves nothing"]
pub struct SeamSuite {
    protocol: Protocol,
    only: Option<String>,
}

impl fmt::Debug for SeamSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeamSuite")
            .field("capabilities", &self.protocol.capabilities)
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

/// A suite for the protocol that `server` listens with and `connector` dials.
///
/// `server` is called for every listener and must give one that can be bound beside all others: port 0, a fresh name,
/// a fresh path. `connector` gets what the listener's `local_endpoint` says.
pub fn seam(
    capabilities: Capabilities,
    server: impl Fn() -> Box<dyn ServerProtocol> + Send + Sync + 'static,
    connector: impl Fn(&Endpoint) -> Box<dyn Connector> + Send + Sync + 'static,
) -> SeamSuite {
    SeamSuite {
        protocol: Protocol {
            capabilities,
            server: Arc::new(server),
            connector: Arc::new(connector),
        },
        only: None,
    }
}

impl SeamSuite {
    /// Runs only the cases whose names contain `part`.
    pub fn only(mut self, part: impl Into<String>) -> Self {
        self.only = Some(part.into());
        self
    }

    /// Runs the cases one after the other on the current tokio runtime, each with a deadline of 60 s.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn run(self) -> Report {
        let scheme = (self.protocol.server)().endpoint().scheme().to_owned();
        let mut cases = Vec::new();
        for case in cases::all() {
            if self
                .only
                .as_ref()
                .is_some_and(|part| !case.name.contains(part.as_str()))
            {
                continue;
            }
            let start = Instant::now();
            let outcome = match (case.skip)(&self.protocol.capabilities) {
                Some(why) => Outcome::Skipped(why),
                None => run(&case, self.protocol.clone()).await,
            };
            cases.push(CaseReport {
                name: case.name,
                outcome,
                took: start.elapsed(),
            });
        }
        Report::new("seam", scheme, cases)
    }
}

async fn run<P>(case: &Case<P>, protocol: P) -> Outcome {
    // A task of its own, so that a panic in a protocol is a failed case and not the end of the suite.
    let mut task = tokio::spawn((case.run)(protocol));
    match timeout(DEADLINE, &mut task).await {
        Ok(Ok(Ok(()))) => Outcome::Passed,
        Ok(Ok(Err(failure))) => Outcome::Failed(failure.to_string()),
        Ok(Err(error)) => Outcome::Failed(format!("panicked: {error}")),
        Err(_) => {
            task.abort();
            Outcome::Failed(format!("hangs: not done after {DEADLINE:?}"))
        }
    }
}
