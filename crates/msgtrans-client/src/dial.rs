//! One attempt: resolve, connect, every handshake, under one deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use msgtrans_core::{Code, ConfigError, ConnectError, TransportError, WireVersion, WireVersions};
use msgtrans_session::{OpenError, Session, TransportEvent};
use msgtrans_transport::DialContext;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::inner::{Inner, Run};

/// The longest token that a Hello takes.
pub(crate) const AUTH_MAX: usize = 12 * 1024;

/// Dials once. Dropping the future drops the attempt, whatever it has reached.
pub(crate) async fn attempt(inner: &Arc<Inner>, run: &Run) -> Result<Session, ConnectError> {
    let after = inner.settings.connect_timeout;
    timeout(after, dial(inner, run)).await.unwrap_or_else(|_| {
        Err(ConnectError::Timeout {
            endpoint: inner.endpoint(),
            after,
        })
    })
}

/// When the server wants to see this client again, if it said so.
pub(crate) fn retry_after(error: &ConnectError) -> Duration {
    match error {
        ConnectError::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

async fn dial(inner: &Arc<Inner>, run: &Run) -> Result<Session, ConnectError> {
    let settings = &inner.settings;
    let wire = settings.connector.wire().unwrap_or(settings.session.wire);
    let auth = auth(inner).await?;
    let secret = auth.is_some();
    match open(inner, run, wire, auth).await {
        Ok(session) => Ok(session),
        // A token must not make a server look like one of version 1: it would be dialled without the token.
        Err(failed) if failed.may_be_v1 && wire == WireVersions::Any && !secret => {
            tracing::warn!(endpoint = %inner.endpoint(), "closed after Hello without a byte: dialling again as version 1");
            let error = ConnectError::Handshake {
                endpoint: inner.endpoint(),
                stage: "hello",
                what: "closed without a single byte; dialling again as version 1".to_owned(),
                retryable: true,
            };
            run.events.tell(TransportEvent::Error {
                session_id: None,
                error: TransportError::Connect(error),
            });
            let second = open(inner, run, WireVersions::V1, None).await;
            second.map_err(|failed| failed.error)
        }
        Err(failed) => Err(failed.error),
    }
}

/// The token of this attempt: a fresh one where there is somebody to ask.
async fn auth(inner: &Inner) -> Result<Option<Bytes>, ConnectError> {
    let Some(provider) = &inner.settings.auth_provider else {
        return Ok(inner.settings.session.auth.clone());
    };
    let token = provider().await.map_err(|error| ConnectError::Handshake {
        endpoint: inner.endpoint(),
        stage: "auth",
        what: error.to_string(),
        retryable: true,
    })?;
    if token.len() > AUTH_MAX {
        let value = format_args!("{} bytes", token.len());
        let expected = format!("must be at most {AUTH_MAX} bytes");
        return Err(ConfigError::new("auth_provider", value, expected).into());
    }
    Ok(Some(token))
}

struct Failed {
    error: ConnectError,
    /// Whether a version 1 server would have done the same.
    may_be_v1: bool,
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        let may_be_v1 = false;
        Self { error, may_be_v1 }
    }
}

async fn open(
    inner: &Arc<Inner>,
    run: &Run,
    wire: WireVersions,
    auth: Option<Bytes>,
) -> Result<Session, Failed> {
    let settings = &inner.settings;
    let context = DialContext::new(wire, settings.session.limits);
    let connection = settings.connector.connect(&context).await?;
    let info = connection.info();
    // What was negotiated is what the server speaks, and what is encrypted is not cut by a stranger's old proxy.
    let plain = info.negotiated.is_none() && !info.secure;
    if info.negotiated == Some(WireVersion::V1) && auth.is_some() {
        // Version 1 has no place for a token: the server would take the client for anybody.
        return Err(ConnectError::Handshake {
            endpoint: inner.endpoint(),
            stage: "hello",
            what: "the server speaks version 1, which carries no auth".to_owned(),
            retryable: false,
        }
        .into());
    }
    let (runtime, number) = inner.runtime(run, auth);
    let (task, opened) = msgtrans_session::connect(runtime, connection, inner.endpoint(), wire);
    let mut opening = Opening {
        opened,
        task: tokio::spawn(task).abort_handle(),
        over: false,
    };
    match opening.finish().await {
        Ok(session) => {
            inner.opened(number, &session);
            Ok(session)
        }
        Err(OpenError { error, silent }) => Err(Failed {
            error,
            may_be_v1: silent && plain,
        }),
    }
}

/// A session's task before its session is open.
struct Opening {
    opened: oneshot::Receiver<Result<Session, OpenError>>,
    task: AbortHandle,
    over: bool,
}

impl Opening {
    async fn finish(&mut self) -> Result<Session, OpenError> {
        let outcome = (&mut self.opened).await;
        self.over = true;
        outcome.unwrap_or_else(|_| {
            Err(OpenError {
                error: ConnectError::State {
                    what: "the session's task was dropped before the session was open",
                },
                silent: false,
            })
        })
    }
}

impl Drop for Opening {
    /// Whoever dialled has given up: a session that is open meanwhile ends in good order, anything else at once.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.opened.close();
        match self.opened.try_recv() {
            Ok(Ok(session)) => session.close(Code::NORMAL, ""),
            Ok(Err(_)) => {}
            Err(_) => self.task.abort(),
        }
    }
}
