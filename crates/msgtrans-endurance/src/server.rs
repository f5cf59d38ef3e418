//! The server's process: listens, says where, and answers what it holds whenever it is asked on its standard input.

use std::future::pending;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use msgtrans::tls::Identity;
use msgtrans::{Code, Handler, HandlerError, Packet, Session, TransportServer};
use tokio::runtime::Handle;

use crate::arguments::Arguments;
use crate::child::SETTLED;
use crate::process::{heap_bytes, open_descriptors, resident_kib};
use crate::protocol::{Protocol, Protocols};
use crate::soak::ledger::Ledger;

/// Runs until the standard input ends.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::parse(words)?;
    let kind = arguments.take("kind", "churn".to_owned())?;
    let protocols = arguments.take("protocols", Protocols::all())?;
    let push_every = Duration::from_micros(arguments.take("push-every-us", 1_000)?);
    arguments.finish()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    match kind.as_str() {
        "churn" => {
            let handler = Churn::default();
            let gauges = handler.0.clone();
            let server = runtime.block_on(start(&protocols, handler))?;
            answer(runtime.handle(), &server, || gauges.line());
        }
        "soak" => {
            let ledger = Ledger::new(push_every);
            let server = runtime.block_on(start(&protocols, ledger.clone()))?;
            runtime.spawn(ledger.clone().broadcast(server.clone()));
            answer(runtime.handle(), &server, || ledger.line());
        }
        other => return Err(format!("there is no server of kind `{other}`")),
    }
    Ok(())
}

async fn start(protocols: &Protocols, handler: impl Handler) -> Result<TransportServer, String> {
    let identity = Identity::development().map_err(|error| error.to_string())?;
    let mut builder = TransportServer::builder()
        .handshake_timeout(Duration::from_secs(3))
        .send_timeout(Duration::from_secs(5))
        // A place that is not given back shows as a refusal soon.
        .max_connections(2_048)
        .max_handshakes(512)
        .with_handler(handler);
    for protocol in &protocols.0 {
        builder = protocol.listen(builder, &identity);
    }
    let server = builder.build().await.map_err(|error| error.to_string())?;
    server.start().map_err(|error| error.to_string())?;
    println!("pin {}", identity.spki_pin());
    for (protocol, endpoint) in protocols.0.iter().zip(server.local_endpoints()) {
        let address = match protocol {
            Protocol::Unix => endpoint.path().to_owned(),
            _ => endpoint.authority().map_err(|error| error.to_string())?,
        };
        println!("{protocol} {address}");
    }
    Ok(server)
}

/// Answers every line with one of counts, until there are no more.
fn answer(runtime: &Handle, server: &TransportServer, more: impl Fn() -> String) {
    for line in std::io::stdin().lock().lines() {
        match line {
            // What nobody uses goes back first: what is left is held.
            Ok(order) if order == SETTLED => server.trim_memory(),
            Ok(_) => {}
            Err(_) => return,
        }
        let stats = server.stats();
        let written = writeln!(
            std::io::stdout(),
            "sessions={} registered={} descriptors={} tasks={} {} +resident_kib={} +heap_bytes={} +opened={} +closed={} \
             +handshakes_failed={} +messages={}",
            stats.sessions,
            server.session_count(),
            open_descriptors(),
            runtime.metrics().num_alive_tasks(),
            more(),
            resident_kib(),
            heap_bytes(),
            stats.sessions_opened,
            stats.sessions_closed,
            stats.handshakes_failed,
            stats.packets_in,
        );
        if written.is_err() {
            return;
        }
    }
}

/// What clients ask of a churn server, by the first byte of a payload.
pub(crate) mod order {
    /// A request that is never answered.
    pub(crate) const WAIT: &str = "wait";
    /// The server asks the client something, and waits for its answer.
    pub(crate) const ASK_ME: &str = "ask me";
    /// The server closes the session.
    pub(crate) const CLOSE_ME: &str = "close me";
    /// The server sends a few messages.
    pub(crate) const TALK: &str = "talk";
}

/// Echoes requests and follows orders.
#[derive(Default)]
struct Churn(Arc<Gauges>);

/// Futures of the handler that are there now. Relaxed: a count each, read when all is quiet.
#[derive(Default)]
struct Gauges {
    /// Requests of clients being handled.
    handled: AtomicI64,
    /// Requests to clients that await their answers.
    asked: AtomicI64,
}

impl Gauges {
    fn line(&self) -> String {
        format!(
            "handled={} asked={}",
            self.handled.load(Ordering::Relaxed),
            self.asked.load(Ordering::Relaxed)
        )
    }
}

/// One of a gauge for as long as it lives.
struct Counted<'a>(&'a AtomicI64);

impl<'a> Counted<'a> {
    fn new(gauge: &'a AtomicI64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler for Churn {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        if packet.payload == order::ASK_ME {
            let (session, gauges) = (session.clone(), self.0.clone());
            // Apart from the session's own task, so that it must hear of the end by itself.
            tokio::spawn(async move {
                let _counted = Counted::new(&gauges.asked);
                let patience = Duration::from_secs(600);
                let _ = session.request_with("answer me".into(), patience).await;
            });
        } else if packet.payload == order::CLOSE_ME {
            session.close(Code::NORMAL, "as you wish");
        } else if packet.payload == order::TALK {
            for _ in 0..20 {
                session.send(Packet::binary(vec![b'x'; 3_000])).await?;
            }
        }
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        let _counted = Counted::new(&self.0.handled);
        if request.payload == order::WAIT {
            pending::<()>().await;
        }
        Ok(Packet::response(request.payload))
    }
}
