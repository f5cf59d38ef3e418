//! Opening: from the first frame to an open session, on either side.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::task::{Context, Poll};

use msgtrans_actor::Lane;
use msgtrans_core::{
    CloseReason, Code, ConnectError, Goodbye, Hello, Packet, PacketType, Welcome, WireVersion,
};
use msgtrans_transport::{ConnectionError, Received};

use super::time::after;
use super::{Phase, Rare, SessionActor, handshake_error};
use crate::direct::DirectInlet;
use crate::events::TransportEvent;
use crate::handler::Refusal;
use crate::opening::{
    Decision, OpenError, Role, Terms, connect_request, first_frame, hello, welcome,
};
use crate::pass;

impl SessionActor {
    pub(super) fn poll_opening(&mut self, cx: &mut Context<'_>) -> Lane {
        let Phase::Opening(opening) = &mut self.phase else {
            return Lane::Idle;
        };
        if opening.decision.is_some() {
            return self.poll_decision(cx);
        }
        match &mut opening.role {
            Role::Client { said_hello, .. } if !*said_hello => {
                *said_hello = true;
                return self.dialled();
            }
            Role::Server if self.session.info().negotiated == Some(WireVersion::V1) => {
                // The protocol has decided before any frame, and a version 1 peer may only listen.
                let terms = Terms::v1(&self.runtime().config);
                self.decide(terms, None, None, true);
                return self.poll_decision(cx);
            }
            _ => {}
        }
        let (received, packet, version) = pass::with_batch(|batch| {
            let received = self.connection.poll_recv(cx, 1, batch);
            (received, batch.pop(), batch.version())
        });
        match (received, packet, version) {
            (Poll::Pending, ..) => self.listen_first(),
            (Poll::Ready(Ok(Received::Packets | Received::Lone)), Some(packet), Some(version)) => {
                self.heard = self.now;
                self.received = true;
                self.first(packet, version);
                self.poll_decision(cx)
            }
            (Poll::Ready(Ok(_)), ..) => {
                self.opening_failed(
                    Code::NORMAL,
                    "the connection ended before the handshake",
                    false,
                );
                Lane::Busy
            }
            (Poll::Ready(Err(error)), ..) => {
                self.opening_error(error);
                Lane::Busy
            }
        }
    }

    /// Asks whoever decides, in the pass in which it is known what about: mostly the answer is there at once, leaves with
    /// this pass, and the session goes on as an open one without another.
    fn poll_decision(&mut self, cx: &mut Context<'_>) -> Lane {
        let Phase::Opening(opening) = &mut self.phase else {
            // The other side's answer, or a refusal.
            return Lane::Busy;
        };
        let Some(decision) = &mut opening.decision else {
            return Lane::Busy;
        };
        let Poll::Ready(outcome) = pass::lend(&mut self.pass, || decision.future.as_mut().poll(cx))
        else {
            return self.wait();
        };
        if let Some(decision) = opening.decision.take() {
            self.decided(*decision, outcome);
        }
        if !matches!(self.phase, Phase::Open) {
            return Lane::Busy;
        }
        // The first frame of a version 1 peer is a packet already.
        self.poll_lanes(cx);
        if matches!(self.phase, Phase::Open) {
            self.poll_open(cx)
        } else {
            Lane::Busy
        }
    }

    /// The client's side: Hello, or nothing where version 1 is spoken.
    fn dialled(&mut self) -> Lane {
        if self.is_v2() {
            let hello = hello(&self.runtime().config);
            self.push_control(&hello.to_packet());
        } else {
            let terms = Terms::v1(&self.runtime().config);
            self.open(terms);
        }
        Lane::Busy
    }

    /// A silent peer that may be a version 1 peer which listens first.
    fn listen_first(&mut self) -> Lane {
        let Phase::Opening(opening) = &mut self.phase else {
            return Lane::Idle;
        };
        match opening.silence {
            Some(at) if self.now >= at => {
                opening.silence = None;
                if self.connection.progress().read == 0 {
                    let terms = Terms::v1(&self.runtime().config);
                    self.decide(terms, None, None, false);
                    return Lane::Busy;
                }
            }
            _ => {}
        }
        self.wait()
    }

    /// What was awaited has not come.
    fn wait(&mut self) -> Lane {
        let Phase::Opening(opening) = &self.phase else {
            return Lane::Idle;
        };
        if self.now >= opening.deadline {
            self.opening_timed_out();
            return Lane::Busy;
        }
        Lane::Idle
    }

    fn first(&mut self, packet: Packet, version: WireVersion) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        if let Role::Client { .. } = opening.role {
            return self.answered(packet);
        }
        match first_frame(&packet, version) {
            Ok(Some(hello)) => {
                let terms = Terms::of_hello(&hello);
                if hello.resume.is_some() {
                    self.settle(WireVersion::V2);
                    return self.refuse(Code::RESUME_REFUSED, "sessions are not kept here", None);
                }
                self.decide(terms, Some(hello), None, true);
            }
            Ok(None) => {
                let terms = Terms::v1(&self.runtime().config);
                self.decide(terms, None, Some(packet), true);
            }
            Err(error) => {
                // A well-formed Hello header has been read: the peer is told.
                let told = packet.packet_type == PacketType::Hello;
                if told {
                    self.settle(WireVersion::V2);
                }
                self.opening_failed(error.code(), &error.to_string(), told);
            }
        }
    }

    /// A Hello from a peer that was taken for one that listens first, before this side has written anything.
    pub(super) fn late_hello(&mut self, packet: &Packet) -> Result<(), msgtrans_core::DecodeError> {
        let hello = Hello::from_packet(packet)?;
        let terms = Terms::of_hello(&hello);
        self.phase = Phase::Opening(Box::new(crate::opening::Opening {
            role: Role::Server,
            deadline: after(self.now, self.runtime().config.handshake_timeout),
            silence: None,
            decision: None,
        }));
        self.decide(terms, Some(hello), None, true);
        Ok(())
    }

    /// Asks whoever may refuse.
    fn decide(&mut self, terms: Terms, hello: Option<Hello>, first: Option<Packet>, settled: bool) {
        if settled {
            self.settle(terms.version);
        }
        let request = connect_request(hello);
        let session = self.session.clone();
        let runtime = self.runtime().clone();
        let admitted = if self.admitted {
            Ok(())
        } else {
            runtime.hooks.admit(&session)
        };
        self.admitted = admitted.is_ok();
        let refusal = admitted.and_then(|()| {
            runtime
                .middleware
                .iter()
                .try_for_each(|middleware| middleware.on_connect(&session, &request))
        });
        let future: crate::service::BoxFuture<'static, _> = match refusal {
            Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
            Ok(()) => Box::pin(async move { runtime.service.connect(&session, &request).await }),
        };
        if let Phase::Opening(opening) = &mut self.phase {
            opening.silence = None;
            opening.decision = Some(Box::new(Decision {
                future,
                terms,
                first,
                settled,
            }));
        }
    }

    fn decided(&mut self, decision: Decision, outcome: Result<(), Refusal>) {
        let Decision {
            terms,
            first,
            settled,
            ..
        } = decision;
        if let Err(refusal) = outcome {
            return self.refuse(refusal.code, &refusal.reason, refusal.retry_after);
        }
        if terms.version == WireVersion::V2 {
            let welcome = welcome(&self.runtime().config, &terms, &self.session);
            self.push_control(&welcome.to_packet());
        }
        if !settled {
            // The framing is the protocol's own; the version is decided by whoever speaks first.
            self.set_wire(terms.version);
        }
        self.open(terms);
        if let Some(packet) = first {
            self.sort(packet);
        }
    }

    /// The client's side: the server's first frame.
    fn answered(&mut self, packet: Packet) {
        let failed = match packet.packet_type {
            PacketType::Welcome => match Welcome::from_packet(&packet) {
                Ok(welcome) => {
                    self.shared().set_id(welcome.session);
                    self.open(Terms::of_welcome(&welcome));
                    return;
                }
                Err(error) => handshake_error(&self.endpoint(), error, false),
            },
            PacketType::Goodbye => match Goodbye::from_packet(&packet) {
                Ok(goodbye) => ConnectError::Refused {
                    endpoint: self.endpoint(),
                    reason: CloseReason::peer(goodbye.code, goodbye.reason),
                    retry_after: goodbye.retry_after,
                },
                Err(error) => handshake_error(&self.endpoint(), error, false),
            },
            other => handshake_error(
                &self.endpoint(),
                format!("{other:?} instead of Welcome"),
                false,
            ),
        };
        let refused = matches!(failed, ConnectError::Refused { .. });
        self.tell_opener(Err(OpenError {
            error: failed,
            silent: false,
        }));
        let reason = CloseReason::local(
            Code::PROTOCOL_ERROR,
            "the server's first frame is not a Welcome",
        );
        if refused {
            self.drop_connection(CloseReason::peer(Code::NORMAL, "refused"));
        } else {
            self.begin_close(reason, true);
        }
    }

    fn endpoint(&self) -> String {
        match &self.phase {
            Phase::Opening(opening) => match &opening.role {
                Role::Client { endpoint, .. } => endpoint.clone(),
                Role::Server => String::new(),
            },
            _ => String::new(),
        }
    }

    fn tell_opener(&mut self, outcome: Result<crate::Session, OpenError>) {
        if let Phase::Opening(opening) = &mut self.phase
            && let Role::Client { opened, .. } = &mut opening.role
            && let Some(opened) = opened.take()
        {
            // Whoever dialled may have given up meanwhile.
            let _ = opened.send(outcome);
        }
    }

    /// The session exists from here on.
    fn open(&mut self, terms: Terms) {
        let Terms {
            version,
            features,
            heartbeat,
            peer_max_frame,
        } = terms;
        let framing = self.connection.framing();
        self.heartbeat_ms = super::millis(heartbeat);
        self.watched = false;
        self.shared()
            .set_wire(version, features, peer_max_frame, framing);
        let opening = std::mem::replace(&mut self.phase, Phase::Open);
        self.pass().open = true;
        let session = self.session.clone();
        let runtime = self.runtime().clone();
        if let Some(limit) = &runtime.config.rate_limit {
            let now = self.now;
            let rare = self.rare();
            rare.session_limiter = Some(limit.session_limiter(now));
            rare.address_limiter = runtime.hooks.address_limiter(&session);
        }
        let limited = |rare: &Rare| rare.session_limiter.is_some();
        self.looked_at =
            self.rare.as_deref().is_some_and(limited) || !runtime.middleware.is_empty();
        if !self.announced {
            self.announced = true;
            runtime.stats.session_opened();
            tracing::debug!(session = %session.id(), protocol = session.info().protocol, peer = %session.info().peer, ?version, "session open");
            runtime.hooks.opened(&session);
            let event = TransportEvent::ConnectionEstablished {
                session_id: session.id(),
                info: session.info().clone(),
            };
            runtime.events.tell(event);
        }
        if let Some(inlet) = DirectInlet::of(&session.shared) {
            self.connection.set_inlet(Some(inlet));
        }
        // Last, so that who dialled finds everything in its place.
        let waited_for = tell(opening, Ok(session));
        if !waited_for {
            // Whoever dialled has given up meanwhile.
            self.begin_close(CloseReason::normal(), true);
        }
    }

    /// Says no: with a Goodbye where the peer understands one.
    pub(super) fn refuse(
        &mut self,
        code: Code,
        reason: &str,
        retry_after: Option<std::time::Duration>,
    ) {
        tracing::debug!(peer = %self.session.info().peer, %code, reason, "session refused");
        self.opening_failed_with(code, reason, retry_after, true);
    }

    fn opening_failed(&mut self, code: Code, reason: &str, told: bool) {
        tracing::debug!(peer = %self.session.info().peer, %code, reason, "handshake failed");
        self.opening_failed_with(code, reason, None, told);
    }

    fn opening_failed_with(
        &mut self,
        code: Code,
        reason: &str,
        retry_after: Option<std::time::Duration>,
        told: bool,
    ) {
        self.runtime().stats.handshake_refused(code);
        let endpoint = self.endpoint();
        let silent = self.connection.progress().read == 0;
        let error = OpenError {
            error: handshake_error(&endpoint, reason, true),
            silent,
        };
        self.tell_opener(Err(error));
        let told = told && self.settled && self.is_v2();
        if told {
            let goodbye = Goodbye {
                retry_after,
                ..Goodbye::new(code, reason)
            };
            self.push_control(&goodbye.to_packet(PacketType::Goodbye));
            self.begin_close(CloseReason::local(code, reason), false);
        } else {
            self.drop_connection(CloseReason::local(code, reason));
        }
    }

    pub(super) fn opening_error(&mut self, error: ConnectionError) {
        match error {
            ConnectionError::Decode(error) => {
                // A client has said Hello by now, so the server is told.
                let told = self.settled;
                self.opening_failed(error.code(), &error.to_string(), told);
            }
            error => self.opening_failed(Code::NORMAL, &error.to_string(), false),
        }
    }

    fn opening_timed_out(&mut self) {
        let after = self.runtime().config.handshake_timeout;
        let endpoint = self.endpoint();
        self.tell_opener(Err(OpenError {
            error: ConnectError::Timeout { endpoint, after },
            silent: false,
        }));
        let told = self.settled;
        self.opening_failed(Code::TIMEOUT, "the handshake did not end in time", told);
    }
}

/// Tells who dialled; whether somebody still waits, as nobody does on the server's side.
fn tell(opening: Phase, outcome: Result<crate::Session, OpenError>) -> bool {
    match opening {
        Phase::Opening(opening) => match opening.role {
            Role::Client {
                opened: Some(opened),
                ..
            } => opened.send(outcome).is_ok(),
            Role::Client { opened: None, .. } | Role::Server => true,
        },
        _ => true,
    }
}

#[cfg(test)]
pub(super) mod tests;
