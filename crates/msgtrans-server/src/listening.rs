//! [`Listening`]: the sockets of one place, each with the runtime that accepts from it.

use std::sync::Arc;

use msgtrans_core::{BindError, WireVersions};
use msgtrans_session::SessionRuntime;
use msgtrans_transport::{Endpoint, ListenContext, Listener, ServerProtocol};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::accept;
use crate::cores::{self, Cores};
use crate::server::Inner;

/// Where a server listens.
pub(crate) struct Listening {
    pub(crate) endpoint: Endpoint,
    wire: WireVersions,
    sockets: Vec<Socket>,
}

struct Socket {
    /// `None`: wherever the server is started.
    core: Option<Handle>,
    accepting: Accepting,
}

enum Accepting {
    /// Bound, not accepting yet.
    Waiting(Box<dyn Listener>),
    Task(JoinHandle<()>),
    Stopped,
}

impl Listening {
    /// Binds `protocol`: one socket, or one for each of `cores` where it can share its port.
    ///
    /// # Errors
    /// The address cannot be had, on whichever thread; nothing is left bound.
    pub(crate) async fn bind(
        protocol: Box<dyn ServerProtocol>,
        context: ListenContext,
        cores: Option<&Cores>,
    ) -> Result<Self, BindError> {
        let wire = protocol.wire().unwrap_or(context.wire);
        let (endpoint, sockets) = match cores {
            None => {
                let listener = protocol.bind(&context).await?;
                (
                    listener.local_endpoint(),
                    vec![Socket::waiting(None, listener)],
                )
            }
            Some(cores) => {
                let (home, others) = cores.next();
                let context = context.shared(cores.len() > 1);
                let endpoint = protocol.endpoint();
                let bound = cores::on(home, async move { protocol.bind(&context).await }).await;
                let first = bound.map_err(|source| BindError {
                    endpoint: endpoint.to_string(),
                    source,
                })??;
                let mut sockets = beside(first.as_ref(), others)?;
                let endpoint = first.local_endpoint();
                sockets.push(Socket::waiting(Some(home.clone()), first));
                (endpoint, sockets)
            }
        };
        Ok(Self {
            endpoint,
            wire,
            sockets,
        })
    }

    /// Accepts from here on.
    pub(crate) fn start(&mut self, inner: &Arc<Inner>, runtime: &Arc<SessionRuntime>) {
        for socket in &mut self.sockets {
            let Accepting::Waiting(listener) =
                std::mem::replace(&mut socket.accepting, Accepting::Stopped)
            else {
                continue;
            };
            let accepting = accept::run(inner.clone(), runtime.clone(), listener, self.wire);
            let accepting = tokio::task::coop::unconstrained(accepting);
            socket.accepting = Accepting::Task(match &socket.core {
                Some(core) => core.spawn(accepting),
                None => tokio::spawn(accepting),
            });
        }
    }

    /// Loops that each hold a place for who comes next, beside the first.
    pub(crate) fn loops_beside(&self) -> usize {
        self.sockets.len().saturating_sub(1)
    }

    /// Begins to close every socket.
    pub(crate) fn stop(self) -> Closing {
        let mut tasks = Vec::new();
        for socket in self.sockets {
            if let Accepting::Task(task) = socket.accepting {
                task.abort();
                tasks.push(task);
            }
        }
        Closing(tasks)
    }
}

impl Socket {
    fn waiting(core: Option<Handle>, listener: Box<dyn Listener>) -> Self {
        Self {
            core,
            accepting: Accepting::Waiting(listener),
        }
    }
}

/// What `first` shares its port with, one socket for each of `cores`; none where it shares none.
fn beside<'a>(
    first: &dyn Listener,
    cores: impl Iterator<Item = &'a Handle>,
) -> Result<Vec<Socket>, BindError> {
    let mut sockets = Vec::new();
    for core in cores {
        let _current = core.enter();
        let Some(listener) = first.beside() else {
            break;
        };
        sockets.push(Socket::waiting(Some(core.clone()), listener?));
    }
    Ok(sockets)
}

/// Sockets that are about to be closed.
#[derive(Default)]
pub(crate) struct Closing(Vec<JoinHandle<()>>);

impl Closing {
    pub(crate) fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Resolves when they are, so that the port is free.
    pub(crate) async fn closed(self) {
        for task in self.0 {
            let _ = task.await;
        }
    }
}
