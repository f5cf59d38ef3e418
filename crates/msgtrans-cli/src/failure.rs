//! [`Failure`]: why the command ends without having done its job, in words that say what to do.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use msgtrans::{BindError, Code, ConnectError, Endpoint, Initiator, RequestError, TransportError};
use serde_json::json;

use crate::output::Output;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit code 1 or 2, with words.
    Told(Box<Told>),
    /// Nobody reads standard output any more: there is nobody to tell, and nothing is wrong.
    OutputClosed,
}

#[derive(Debug)]
pub(crate) struct Told {
    usage: bool,
    /// What was tried, then the error, then what caused it.
    chain: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// It was tried and failed.
    pub(crate) fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::told(false, error.into())
    }

    /// It cannot be tried as it was asked for.
    pub(crate) fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::told(true, error.into())
    }

    fn told(usage: bool, error: Box<dyn Error + Send + Sync>) -> Self {
        Self::Told(Box::new(Told {
            usage,
            chain: chain(&*error),
            hint: None,
        }))
    }

    /// An error of the library, at `url`.
    pub(crate) fn at(url: &Endpoint, error: impl Into<TransportError>) -> Self {
        // Options stay out: the errors that name an endpoint name it without them, and once is enough.
        Self::library(Some(url), error.into()).context(url.clone().without_options())
    }

    /// An error of the library that names the endpoint itself, where it has one.
    pub(crate) fn of(error: impl Into<TransportError>) -> Self {
        Self::library(None, error.into())
    }

    fn library(url: Option<&Endpoint>, error: TransportError) -> Self {
        let usage = matches!(
            error,
            TransportError::Config(_) | TransportError::Connect(ConnectError::Config(_))
        );
        let hint = hint(url, &error);
        let failure = Self::told(usage, error.into());
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Puts what was tried in front, unless the error says it.
    pub(crate) fn context(mut self, what: impl ToString) -> Self {
        if let Self::Told(told) = &mut self {
            let what = what.to_string();
            if !told.chain.iter().any(|link| link.contains(&what)) {
                told.chain.insert(0, what);
            }
        }
        self
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.hint = Some(hint.into());
        }
        self
    }

    /// Tells the user; the exit code.
    pub(crate) fn report(self, output: &Output) -> ExitCode {
        let Self::Told(told) = self else {
            return ExitCode::SUCCESS;
        };
        if output.is_json() {
            let mut object = json!({ "error": told.chain.join(": ") });
            if let Some(hint) = &told.hint {
                object["hint"] = json!(hint);
            }
            output.diagnostic(&object.to_string());
        } else {
            output.tell("error", "31", &told.chain.join(": "));
            if let Some(hint) = &told.hint {
                output.tell("hint", "36", hint);
            }
        }
        ExitCode::from(if told.usage { 2 } else { 1 })
    }
}

impl From<io::Error> for Failure {
    /// Writing to standard output failed.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::failed(error).context("cannot write to standard output")
    }
}

/// The error and its causes; a cause that the error already tells is not told again.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut links = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !links.iter().any(|link| link.contains(&text)) {
            links.push(text);
        }
        next = cause.source();
    }
    links
}

const OTHER_PROTOCOL: &str = "check that the server speaks this protocol at this port";

/// What to do about it, where that can be known.
fn hint(url: Option<&Endpoint>, error: &TransportError) -> Option<String> {
    let bare = url.map_or_else(
        || "URL".to_owned(),
        |url| url.clone().without_options().to_string(),
    );
    match error {
        TransportError::Config(error) | TransportError::Connect(ConnectError::Config(error))
            if error.field() == "trust" =>
        {
            Some(format!(
                "for a development certificate: `{bare}?pin=sha256/...` as `msgtrans serve` prints it, or --insecure"
            ))
        }
        TransportError::Bind(BindError { source, .. }) => match source.kind() {
            io::ErrorKind::AddrInUse => Some(
                "another program listens there: choose another port, or port 0 for a free one"
                    .to_owned(),
            ),
            io::ErrorKind::PermissionDenied => Some(
                "ports below 1024 belong to privileged programs: choose a higher one".to_owned(),
            ),
            io::ErrorKind::AddrNotAvailable => {
                Some("this machine has no such address; 0.0.0.0 stands for all it has".to_owned())
            }
            _ => None,
        },
        TransportError::Connect(ConnectError::Io { source, .. })
            if source.kind() == io::ErrorKind::ConnectionRefused =>
        {
            Some(format!(
                "nothing listens there; `msgtrans serve --echo {bare}` would"
            ))
        }
        TransportError::Connect(ConnectError::Io { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ) =>
        {
            Some(OTHER_PROTOCOL.to_owned())
        }
        TransportError::Connect(ConnectError::Resolve { .. }) => {
            Some("check the spelling of the host".to_owned())
        }
        TransportError::Connect(ConnectError::Timeout { .. }) => {
            Some("check host, port and protocol; --timeout SECONDS waits longer".to_owned())
        }
        TransportError::Connect(ConnectError::Handshake { stage, what, .. }) => {
            if what.contains("certificate") || what.contains("pin") {
                Some(
                    "give the server's pin (?pin=sha256/...) or authority (?ca=roots.pem), or --insecure to believe it blindly"
                        .to_owned(),
                )
            } else if what.contains("unknown wire version") {
                Some(
                    "what listens there is no MsgTrans server, or speaks another protocol"
                        .to_owned(),
                )
            } else if *stage == "hello"
                || what.contains("known protocol")
                || what.contains("subprotocol")
            {
                Some("the server may speak the other wire version: try --wire auto".to_owned())
            } else {
                Some(OTHER_PROTOCOL.to_owned())
            }
        }
        TransportError::Request(RequestError::Closed(reason))
            if reason.initiator == Initiator::Peer && reason.code == Code::NORMAL =>
        {
            Some("the server may speak the other wire version: try --wire auto".to_owned())
        }
        TransportError::Request(RequestError::Timeout { .. }) => {
            Some("--timeout SECONDS waits longer".to_owned())
        }
        _ => None,
    }
}
