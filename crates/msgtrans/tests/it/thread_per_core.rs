//! A server on threads of its own: where sessions live, what the threads share, and that none is left behind.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::Duration;

use msgtrans::{
    BindError, CloseReason, ConfigError, Endpoint, Handler, HandlerError, Listener, Packet,
    ProtocolConfig, ServerProtocol, Session, SessionId, ThreadPerCore, TransportClient,
    TransportError, TransportServer,
};
use msgtrans_transport::{AcceptError, BoxFuture, Incoming, ListenContext};
use tokio::task::yield_now;

use crate::support::{Log, Protocol, connect, next_message, run, start, until};

/// So many that a thread of a few without any of them is out of the question: 1 in 2^62 with two.
const CROWD: usize = 64;

/// Threads that were marked and have not ended.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicUsize>);

struct Mark(Arc<AtomicUsize>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Alive {
    /// Counts the current thread, once, until it ends.
    fn mark(&self) {
        thread_local! {
            static MARK: RefCell<Option<Mark>> = const { RefCell::new(None) };
        }
        MARK.with_borrow_mut(|mark| {
            mark.get_or_insert_with(|| {
                self.0.fetch_add(1, Ordering::SeqCst);
                Mark(self.0.clone())
            });
        });
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Tells on which threads it ran for each session.
#[derive(Clone, Default)]
struct Where {
    seen: Arc<Mutex<HashMap<SessionId, HashSet<ThreadId>>>>,
    alive: Alive,
}

impl Where {
    fn here(&self, session: SessionId) {
        self.alive.mark();
        let current = thread::current();
        let name = current.name().unwrap_or_default();
        assert!(name.starts_with("msgtrans-core-"), "on {name:?}");
        let mut seen = self.seen.lock().expect("no panic");
        seen.entry(session).or_default().insert(current.id());
    }

    /// How many threads had sessions; each session had one.
    fn threads(&self) -> usize {
        let seen = self.seen.lock().expect("no panic");
        for (session, threads) in &*seen {
            assert_eq!(threads.len(), 1, "{session} was on several threads");
        }
        seen.values().flatten().collect::<HashSet<_>>().len()
    }
}

impl Handler for Where {
    async fn on_connect(
        &self,
        session: &Session,
        _: &msgtrans::ConnectRequest,
    ) -> Result<(), msgtrans::Refusal> {
        self.here(session.id());
        Ok(())
    }

    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        self.here(session.id());
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        let id = session.id();
        self.here(id);
        // What another thread could take, if there were one that takes.
        let this = self.clone();
        let spawned = tokio::spawn(async move {
            yield_now().await;
            this.here(id);
        });
        yield_now().await;
        self.here(id);
        if spawned.await.is_err() {
            return Err(HandlerError::new("the spawned task panicked"));
        }
        Ok(Packet::response(request.payload))
    }

    async fn on_disconnect(&self, session: &Session, _: &CloseReason) {
        self.here(session.id());
    }
}

/// As many clients as a crowd has, all in.
async fn crowd(protocol: Protocol, server: &TransportServer) -> Vec<TransportClient> {
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        clients.push(protocol.connected(server).await);
    }
    until(|| server.session_count() == CROWD).await;
    clients
}

#[test]
fn a_session_never_leaves_its_thread_and_every_thread_gets_some() {
    for protocol in [Protocol::Tcp, Protocol::Ws] {
        run(async move {
            let seen = Where::default();
            let builder = protocol.server().with_handler(seen.clone());
            let server = start(builder.thread_per_core(2)).await;
            let endpoints = server.local_endpoints();
            assert_eq!(
                endpoints.len(),
                1,
                "one port for all threads: {endpoints:?}"
            );
            let clients = crowd(protocol, &server).await;
            for client in &clients {
                let mut events = client.events();
                for round in 0..5 {
                    client.send(Packet::echo(round, "m")).await.expect("sent");
                    assert_eq!(next_message(&mut events).await.payload, "m");
                    assert_eq!(client.request("r").await.expect("answered").payload, "r");
                }
            }
            let report = server.broadcast(Packet::text("all")).await;
            assert_eq!(report.expect("encoded").queued, CROWD);
            for client in &clients {
                client.disconnect().await.expect("said goodbye");
            }
            until(|| server.session_count() == 0).await;
            assert_eq!(seen.threads(), 2);
            assert_eq!(server.stats().sessions_opened, CROWD as u64);
            assert!(server.shutdown().await.is_clean());
        });
    }
}

#[test]
fn every_thread_has_ended_when_a_shutdown_has() {
    run(async {
        let seen = Where::default();
        let builder = Protocol::Tcp.server().with_handler(seen.clone());
        let server = start(builder.thread_per_core(3)).await;
        let _clients = crowd(Protocol::Tcp, &server).await;
        assert_eq!(seen.alive.count(), 3);
        let report = server.shutdown().await;
        assert_eq!((report.sessions, report.abandoned), (CROWD, 0));
        assert_eq!(seen.alive.count(), 0);
        // Who asks again hears the same.
        assert_eq!(server.shutdown().await, report);
    });
}

#[test]
fn threads_end_with_a_server_that_is_dropped_and_its_sessions_hear_of_it() {
    run(async {
        let seen = Where::default();
        let builder = Protocol::Tcp.server().with_handler(seen.clone());
        let server = start(builder.thread_per_core(2)).await;
        let clients = crowd(Protocol::Tcp, &server).await;
        assert_eq!(seen.alive.count(), 2);
        drop(server);
        for client in &clients {
            let mut events = client.events();
            let reason = crate::support::next_close(&mut events).await;
            assert!(reason.to_string().contains("dropped"), "{reason}");
        }
        until(|| seen.alive.count() == 0).await;
    });
}

#[test]
fn limits_hold_over_all_threads_together() {
    run(async {
        let builder = Protocol::Tcp.server().max_connections(5);
        let server = start(builder.thread_per_core(2)).await;
        let mut open = Vec::new();
        for _ in 0..CROWD {
            let client = Protocol::Tcp.client(&server).build().await.expect("valid");
            if client.connect().await.is_ok() {
                open.push(client);
            }
        }
        assert_eq!((open.len(), server.session_count()), (5, 5));
        assert_eq!(server.listener_stats().accepted, CROWD as u64);
    });
}

#[test]
fn threads_that_wait_for_peers_take_no_place_among_the_handshakes() {
    run(async {
        // More than the 16 peers that may have come in for one handshake.
        let builder = Protocol::Tcp.server().max_handshakes(1);
        let server = start(builder.thread_per_core(24)).await;
        crowd(Protocol::Tcp, &server).await;
    });
}

#[test]
fn a_port_is_shared_with_no_other_server() {
    run(async {
        for protocol in [Protocol::Tcp, Protocol::Ws] {
            let first = start(protocol.server().thread_per_core(2)).await;
            let taken = first.local_endpoints()[0].clone();
            let again = || TransportServer::builder().with_protocol(taken.clone());
            for second in [again().thread_per_core(2), again()] {
                let second = second.build().await;
                assert!(matches!(second, Err(TransportError::Bind(_))), "{second:?}");
            }
            assert!(first.shutdown().await.is_clean());
            start(again().thread_per_core(2)).await;
        }
    });
}

#[test]
fn a_listener_comes_and_goes_on_every_thread_while_serving() {
    run(async {
        let seen = Where::default();
        let builder = Protocol::Inproc.server().with_handler(seen.clone());
        let server = start(builder.thread_per_core(2)).await;
        let added = server
            .add_protocol("tcp://127.0.0.1:0")
            .await
            .expect("bound");
        let mut clients = Vec::new();
        for _ in 0..CROWD {
            clients.push(connect(Protocol::Tcp.dial(&added)).await);
        }
        assert_eq!(seen.threads(), 2);
        server
            .remove_protocol(&added)
            .await
            .expect("listened there");
        // Closed on both: somebody else may have it all.
        let late = Protocol::Tcp.dial(&added).build().await.expect("valid");
        late.connect().await.expect_err("nobody listens");
        for client in &clients {
            assert_eq!(client.request("on").await.expect("answered").payload, "on");
        }
    });
}

/// Blocks its thread when told to.
struct Blocks {
    unblocked: Mutex<mpsc::Receiver<()>>,
    blocked: Log<ThreadId>,
}

impl Handler for Blocks {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        self.blocked.put(thread::current().id());
        // An error is the test's end.
        let _ = self.unblocked.lock().expect("no panic").recv();
        Ok(())
    }

    async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(format!("{:?}", thread::current().id())))
    }
}

#[test]
fn a_handler_that_blocks_holds_up_its_own_thread_and_no_shutdown() {
    run(async {
        let (unblock, unblocked) = mpsc::channel();
        let (blocked, mut blocks) = Log::new();
        let handler = Blocks {
            unblocked: Mutex::new(unblocked),
            blocked,
        };
        let builder = Protocol::Tcp.server().with_handler(handler);
        let builder = builder.graceful_shutdown(Duration::from_millis(100));
        let server = start(builder.thread_per_core(2)).await;
        let clients = crowd(Protocol::Tcp, &server).await;
        let mut homes = Vec::new();
        for client in &clients {
            homes.push(client.request("where?").await.expect("answered").payload);
        }
        clients[0].send(Packet::text("block")).await.expect("sent");
        blocks.recv().await.expect("blocked");
        for (client, home) in clients.iter().zip(&homes) {
            if *home != homes[0] {
                client.request("still?").await.expect("served");
            }
        }
        let report = server.shutdown().await;
        assert!(report.abandoned > 0, "{report:?}");
        drop(unblock);
    });
}

/// A protocol whose `fails_at`-th socket cannot be had; tells of the threads that it was bound on.
struct Scarce {
    alive: Alive,
    sockets: Arc<AtomicUsize>,
    fails_at: usize,
}

impl std::fmt::Debug for Scarce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scarce")
    }
}

struct ScarceListener {
    sockets: Arc<AtomicUsize>,
    fails_at: usize,
}

impl Drop for ScarceListener {
    fn drop(&mut self) {
        self.sockets.fetch_sub(1, Ordering::SeqCst);
    }
}

fn scarce() -> Endpoint {
    Endpoint::parse("scarce://here").expect("a URL")
}

impl ProtocolConfig for Scarce {
    fn endpoint(&self) -> Endpoint {
        scarce()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl ServerProtocol for Scarce {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            assert!(context.shared);
            self.alive.mark();
            self.sockets.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(ScarceListener {
                sockets: self.sockets.clone(),
                fails_at: self.fails_at,
            }) as Box<dyn Listener>)
        })
    }
}

impl Listener for ScarceListener {
    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        Poll::Pending
    }

    fn local_endpoint(&self) -> Endpoint {
        scarce()
    }

    fn beside(&self) -> Option<Result<Box<dyn Listener>, BindError>> {
        if self.sockets.fetch_add(1, Ordering::SeqCst) + 1 == self.fails_at {
            self.sockets.fetch_sub(1, Ordering::SeqCst);
            return Some(Err(BindError {
                endpoint: "scarce://here".to_owned(),
                source: io::ErrorKind::OutOfMemory.into(),
            }));
        }
        Some(Ok(Box::new(Self {
            sockets: self.sockets.clone(),
            fails_at: self.fails_at,
        })))
    }
}

#[test]
fn what_the_third_thread_cannot_bind_undoes_the_others() {
    run(async {
        let (alive, sockets) = (Alive::default(), Arc::new(AtomicUsize::new(0)));
        let protocol = |fails_at| Scarce {
            alive: alive.clone(),
            sockets: sockets.clone(),
            fails_at,
        };
        let builder = TransportServer::builder().with_protocol(protocol(3));
        let failed = builder.thread_per_core(4).build().await;
        assert!(matches!(failed, Err(TransportError::Bind(_))), "{failed:?}");
        assert_eq!(sockets.load(Ordering::SeqCst), 0);
        assert_eq!(alive.count(), 0, "the thread has ended");

        // One that was built and never started leaves nothing either.
        let builder = TransportServer::builder().with_protocol(protocol(9));
        let server = builder.thread_per_core(4).build().await.expect("bound");
        assert_eq!(sockets.load(Ordering::SeqCst), 4);
        assert_eq!(alive.count(), 1);
        drop(server);
        assert_eq!(sockets.load(Ordering::SeqCst), 0);
        until(|| alive.count() == 0).await;
    });
}

#[test]
fn what_a_handler_has_spawned_ends_with_the_server() {
    struct Spawns(Log<&'static str>);

    impl Handler for Spawns {
        async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
            let dropped = crate::support::OnDrop(self.0.clone());
            tokio::spawn(async move {
                let _dropped = dropped;
                pending::<()>().await;
            });
            Ok(Packet::response(""))
        }
    }

    run(async {
        let (log, mut ends) = Log::new();
        let builder = Protocol::Tcp.server().with_handler(Spawns(log));
        let server = start(builder.thread_per_core(1)).await;
        let client = Protocol::Tcp.connected(&server).await;
        client.request("spawn").await.expect("answered");
        assert!(server.shutdown().await.is_clean());
        assert_eq!(ends.try_recv(), Ok("dropped"));
    });
}

#[test]
fn a_number_of_threads_out_of_bounds_is_named_by_build() {
    run(async {
        for threads in [0, 1_025] {
            let builder = Protocol::Inproc.server().thread_per_core(threads);
            match builder.build().await {
                Err(error @ TransportError::Config(_)) => {
                    assert!(error.to_string().contains("thread_per_core"), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        let builder = Protocol::Inproc.server();
        let server = start(builder.thread_per_core(ThreadPerCore::default())).await;
        let client = Protocol::Inproc.connected(&server).await;
        client.disconnect().await.expect("said goodbye");
        assert!(server.shutdown().await.is_clean());
    });
}
