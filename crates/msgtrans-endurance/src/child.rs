//! [`Child`]: the server's process as its parent sees it, and [`Counts`], what it says it holds.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use msgtrans::tls::SpkiPin;

use crate::protocol::{Protocol, Protocols};

/// A server that takes this long to answer hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a server that was told to end may take.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The order to give memory back before counting.
pub(crate) const SETTLED: &str = "settled";

/// A server in a process of its own, which ends when this is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    /// Closed, it tells the server to end.
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    addresses: Vec<(Protocol, String)>,
    pub(crate) pin: SpkiPin,
}

impl Child {
    /// Starts a server of `kind` and waits until it listens.
    pub(crate) fn start(kind: &str, protocols: &Protocols, more: &[&str]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut process = Command::new(program)
            .args([
                "server",
                "--kind",
                kind,
                "--protocols",
                &protocols.to_string(),
            ])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the server: {error}"))?;
        let (Some(orders), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the server has no pipes".to_owned());
        };
        let (sender, answers) = channel();
        // Ends with the server's output.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut words = HashMap::new();
        for _ in 0..=protocols.0.len() {
            let line = answer(&answers)?;
            let (word, rest) = line
                .split_once(' ')
                .ok_or_else(|| format!("the server says `{line}`"))?;
            words.insert(word.to_owned(), rest.to_owned());
        }
        let mut word = |name: &str| {
            words
                .remove(name)
                .ok_or_else(|| format!("the server does not say its {name}"))
        };
        let pin = word("pin")?;
        let mut addresses = Vec::new();
        for protocol in &protocols.0 {
            addresses.push((*protocol, word(&protocol.to_string())?));
        }
        let pin = pin.parse().map_err(|error| format!("pin {pin}: {error}"))?;
        Ok(Self {
            process,
            orders: Some(orders),
            answers,
            addresses,
            pin,
        })
    }

    /// Where it listens: `host:port`, or the path of a socket.
    pub(crate) fn address(&self, protocol: Protocol) -> Result<String, String> {
        let found = self.addresses.iter().find(|(known, _)| *known == protocol);
        found
            .map(|(_, address)| address.clone())
            .ok_or_else(|| format!("the server does not listen on {protocol}"))
    }

    /// What it holds, once it has given back what nobody uses.
    pub(crate) fn counts(&mut self) -> Result<Counts, String> {
        self.ask(SETTLED)
    }

    /// What it holds now, as it is.
    pub(crate) fn sample(&mut self) -> Result<Counts, String> {
        self.ask("sample")
    }

    fn ask(&mut self, order: &str) -> Result<Counts, String> {
        if let Some(orders) = &mut self.orders {
            writeln!(orders, "{order}")
                .and_then(|()| orders.flush())
                .map_err(|error| format!("the server has gone: {error}"))?;
        }
        Counts::parse(&answer(&self.answers)?)
    }
}

fn answer(answers: &Receiver<String>) -> Result<String, String> {
    answers
        .recv_timeout(PATIENCE)
        .map_err(|_| format!("the server has not answered in {PATIENCE:?}, or has ended"))
}

impl Drop for Child {
    fn drop(&mut self) {
        self.orders = None;
        // It ends by itself, and takes its socket file with it, unless it hangs.
        let start = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && start.elapsed() < ENDS_WITHIN {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process holds, by name. What must be the same before and after is apart from what only grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Sessions, entries of maps, pending requests, descriptors, tasks.
    pub(crate) held: Vec<(String, i64)>,
    pub(crate) other: HashMap<String, i64>,
}

impl Counts {
    /// Reads `sessions=0 fds=12 +opened=500`: a plus marks what is not held.
    fn parse(line: &str) -> Result<Self, String> {
        let mut counts = Self {
            held: Vec::new(),
            other: HashMap::new(),
        };
        for word in line.split_ascii_whitespace() {
            let pair = word.split_once('=');
            let parsed = pair.and_then(|(name, value)| Some((name, value.parse::<i64>().ok()?)));
            match parsed {
                Some((name, value)) => match name.strip_prefix('+') {
                    Some(name) => {
                        counts.other.insert(name.to_owned(), value);
                    }
                    None => counts.held.push((name.to_owned(), value)),
                },
                None => return Err(format!("the server says `{line}`")),
            }
        }
        Ok(counts)
    }

    pub(crate) fn other(&self, name: &str) -> i64 {
        self.other.get(name).copied().unwrap_or(0)
    }

    /// What is held more, or less, than in `before`.
    pub(crate) fn held_since(&self, before: &Self) -> Vec<(String, i64)> {
        let held = |counts: &Self, name: &str| {
            let found = counts.held.iter().find(|(known, _)| known == name);
            found.map_or(0, |(_, value)| *value)
        };
        self.held
            .iter()
            .map(|(name, value)| (name.clone(), value - held(before, name)))
            .filter(|(_, more)| *more != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_more_is_told_and_what_only_grows_is_not() {
        let parse = |line| Counts::parse(line).expect("pairs");
        let before = parse("sessions=0 fds=12 +opened=500");
        let after = parse("sessions=2 fds=12 +opened=900");
        assert_eq!(after.held_since(&before), [("sessions".to_owned(), 2)]);
        assert_eq!(after.other("opened"), 900);
        assert!(Counts::parse("sessions").is_err());
    }
}
