//! The inbound lane: read, sort, handle.
// A peer's bytes pass here: nothing that can panic. Counters of 64 bits wrap: no session lives to see it.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::cell::Cell;
use std::task::{Context, Poll};

use msgtrans_actor::Lane;
use msgtrans_core::{
    CloseReason, Code, Compression, DecodeError, Flags, Goodbye, Packet, PacketType, RequestError,
    WireVersion,
};
use msgtrans_transport::{ConnectionError, Received};
use tokio::time::Instant;

use super::{OUT_PAUSE, Phase, SessionActor};
use crate::compress::decompress;
use crate::events::TransportEvent;
use crate::pass::{self, BATCH_BYTES};
use crate::request::Answered;

/// Bytes of packets that are decoded before they are handled, where more has been read: the list of them stays in the
/// nearest cache while it is filled and emptied. Small packets count for their 64 bytes there too.
const RUN_BYTES: usize = 32 * 1024;

/// Whether it is of this type, and nothing is to be done with it but to hand it on.
fn is_plain(packet: &Packet, packet_type: PacketType) -> bool {
    packet.packet_type == packet_type
        && packet.compression == Compression::None
        && !packet.flags.contains(Flags::ACK_NOW)
}

impl SessionActor {
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Lane {
        let mut budget = BATCH_BYTES;
        let mut lane = Lane::Idle;
        let mut waits = false;
        let pass = self.pass();
        (pass.reading_stopped, pass.refusing_stopped) = (false, false);
        loop {
            if !self.pass().batch.is_empty() {
                // Read before, and not sorted because the peer was above its rate.
                self.sort_batch(cx);
                self.poll_lanes(cx);
            } else if self.may_read() {
                self.held_back = None;
                let pass = self.pass.get_or_insert_with(pass::fresh);
                let received =
                    self.connection
                        .poll_recv(cx, budget.min(RUN_BYTES), &mut pass.batch);
                budget = budget.saturating_sub(pass.batch.bytes());
                match received {
                    Poll::Pending => break,
                    Poll::Ready(Ok(received @ (Received::Packets | Received::Lone))) => {
                        waits = received == Received::Lone;
                        pass.lone = waits;
                        self.received = true;
                        if !self.hand_plain(cx) {
                            self.sort_batch(cx);
                            self.poll_lanes(cx);
                        }
                    }
                    Poll::Ready(Ok(Received::End)) => {
                        self.end_of_stream();
                        self.poll_lanes(cx);
                    }
                    Poll::Ready(Err(error)) => {
                        self.lost(error);
                        self.poll_lanes(cx);
                    }
                }
            } else {
                self.pass().reading_stopped = true;
                self.held_back.get_or_insert(self.now);
                self.reading_held_back();
                break;
            }
            // A read that was not short is followed by another one, and a short one by a look that costs no system call
            // and stores the waker, until the budget is spent.
            let paused = !self.pass().batch.is_empty();
            if !matches!(self.phase, Phase::Open) || budget == 0 {
                lane = Lane::Busy;
                break;
            }
            if paused {
                self.reading_held_back();
                break;
            }
            if waits {
                // As behind a read that is pending: what comes from here on wakes the task.
                break;
            }
        }
        self.check_pace();
        self.poll_waiting_lanes(cx);
        let pass = self.pass();
        let handled = std::mem::take(&mut pass.handled);
        if handled > 0 && pass.is_timed(handled) {
            // Once a pass, not once a packet: the clock costs as much as a packet.
            self.runtime()
                .stats
                .handled(Instant::now().saturating_duration_since(self.now), handled);
        }
        lane
    }

    /// Messages that came before the peer's end are handled; then the session closes.
    pub(super) fn poll_ending(&mut self, cx: &mut Context<'_>) -> Lane {
        self.poll_lanes(cx);
        self.poll_waiting_lanes(cx);
        let pass = self.pass();
        let busy = pass.message_waits || !pass.messages.is_empty();
        match &self.phase {
            Phase::Ending(ending) if !busy || self.now >= ending.deadline => {
                let reason = ending.reason.clone();
                self.begin_close(reason, false);
                Lane::Busy
            }
            _ => Lane::Idle,
        }
    }

    /// Not held back by what the application has queued: two sides that write to each other and wait with reading until
    /// they have written would wait for ever.
    pub(super) fn may_read(&self) -> bool {
        let bound = self.session.shared.runtime.config.inbound_bytes;
        self.pass
            .as_ref()
            .is_none_or(|pass| pass.inbound_bytes < bound && pass.answered_bytes < OUT_PAUSE)
    }

    /// Whether the inbound lane stopped for want of room and there is some now: nothing else would wake it.
    pub(super) fn may_go_on(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| {
            let refusing = pass.refusing_stopped && pass.out_len() < OUT_PAUSE;
            refusing || pass.reading_stopped && self.may_read()
        })
    }

    /// Up to how many bytes of plain messages go to the message lane as they were read.
    #[inline]
    fn direct_bytes(&self) -> usize {
        if self.looked_at || !self.settled {
            return 0;
        }
        // Half of the bound: a handler that waits in the middle of a run still hears of answers and control frames.
        self.runtime().config.inbound_bytes.div_ceil(2)
    }

    /// Hands a batch of plain messages and nothing else to the lane as it is, as nearly all are, or one plain request;
    /// whether it could.
    #[inline]
    fn hand_plain(&mut self, cx: &mut Context<'_>) -> bool {
        let direct = self.direct_bytes();
        let pass = self.pass();
        let free = pass.batch.bytes() <= direct
            && !pass.message_waits
            && pass.messages.is_empty()
            && pass.requests.is_empty();
        if !free {
            return false;
        }
        if pass.batch.is_plain() {
            pass.direct = direct;
            self.poll_message_lane(cx);
            let pass = self.pass();
            pass.direct = 0;
            return pass.batch.is_empty();
        }
        self.hand_lone_request(cx)
    }

    /// Apart, so that messages are not polled through it.
    #[inline(never)]
    fn hand_lone_request(&mut self, cx: &mut Context<'_>) -> bool {
        let pass = self.pass();
        let lone = pass.batch.len() == 1
            && pass
                .batch
                .front()
                .is_some_and(|packet| is_plain(packet, PacketType::Request));
        if lone && let Some(packet) = pass.batch.drain_next() {
            // What it counted it forgets with this.
            let _ = pass.batch.drain_next();
            pass.counts.packets_in = pass.counts.packets_in.wrapping_add(1);
            pass.handled = pass.handled.wrapping_add(1);
            self.hand_request(packet.into_inner());
            self.poll_request_lane(cx);
        }
        lone
    }

    /// Sorts packets until the batch is empty, the session ends, or the peer's rate is spent.
    fn sort_batch(&mut self, cx: &mut Context<'_>) {
        if !self.settled {
            self.settle_late();
        }
        let direct_bytes = self.direct_bytes();
        let mut last = None;
        while matches!(self.phase, Phase::Open) {
            let pass = self.pass();
            let direct = direct_bytes > 0
                && !pass.message_waits
                && pass.messages.is_empty()
                && pass.requests.is_empty();
            let Some(front) = pass.batch.front() else {
                return;
            };
            let packet_type = front.packet_type;
            if direct && front.is_plain_message() {
                // A run of plain messages: the lane takes them where they lie.
                pass.direct = direct_bytes;
                self.poll_message_lane(cx);
                self.pass().direct = 0;
                last = None;
                continue;
            }
            if is_plain(front, PacketType::Response) && self.runtime().middleware.is_empty() {
                self.respond_run();
                continue;
            }
            let counted = matches!(packet_type, PacketType::OneWay | PacketType::Request);
            if counted && last.is_some_and(|last| last != packet_type) {
                // Messages and requests have lanes of their own: what came first starts first. After it what follows
                // may go the direct way again.
                self.poll_lanes(cx);
                last = None;
                continue;
            }
            if counted && !self.within_rate() {
                return;
            }
            if counted {
                last = Some(packet_type);
            }
            let pass = self.pass();
            pass.handled = pass.handled.wrapping_add(u64::from(counted));
            if let Some(packet) = pass.batch.pop() {
                self.sort(packet);
            }
        }
    }

    /// The first frame of a peer that was taken for one that listens first.
    fn settle_late(&mut self) {
        let batch = &mut self.pass().batch;
        let is_hello = batch
            .front()
            .is_some_and(|packet| packet.packet_type == PacketType::Hello);
        let version = batch.version();
        if version == Some(WireVersion::V1) {
            return self.settle(WireVersion::V1);
        }
        let Some(packet) = self.pass().batch.pop() else {
            return;
        };
        let outcome = if is_hello {
            self.late_hello(&packet)
        } else {
            let packet_type = packet.packet_type;
            Err(DecodeError::OutOfPlace {
                packet_type,
                why: "the first frame must be Hello",
            })
        };
        if let Err(error) = outcome {
            self.lost(error.into());
        }
    }

    fn within_rate(&mut self) -> bool {
        let now = self.now;
        let Some(rare) = self.rare.as_mut() else {
            return true;
        };
        if rare.paused_until.is_some_and(|until| until > now) {
            return false;
        }
        rare.paused_until = None;
        let address = rare
            .address_limiter
            .as_ref()
            .map_or(Ok(()), |limiter| limiter.take(now));
        let session = address.and_then(|()| {
            rare.session_limiter
                .as_ref()
                .map_or(Ok(()), |limiter| limiter.take(now))
        });
        match session {
            Ok(()) => true,
            Err(wait) => {
                rare.paused_until = now.checked_add(wait);
                let counts = self.pass().counts.rare();
                counts.rate_limited = counts.rate_limited.wrapping_add(1);
                false
            }
        }
    }

    /// Hands one packet on to whom it is for.
    pub(super) fn sort(&mut self, mut packet: Packet) {
        if packet.packet_type.is_data() {
            let counts = &mut self.pass().counts;
            counts.packets_in = counts.packets_in.wrapping_add(1);
            if packet.compression != Compression::None {
                let max = self.runtime().config.decompressed_max;
                match decompress(packet.compression, &packet.payload, max) {
                    Ok(payload) => packet.payload = payload,
                    Err(error) => return self.lost(error.into()),
                }
                packet.compression = Compression::None;
            }
            if packet.flags.contains(Flags::ACK_NOW) && self.is_v2() {
                let counted = self.shared().counters.packets_in.get();
                let past = self.shared().past().packets_in;
                let received = counted
                    .saturating_add(past)
                    .saturating_add(self.pass().counts.packets_in);
                self.push_control(&Packet::numbered(
                    PacketType::Ack,
                    0,
                    received.to_be_bytes().to_vec(),
                ));
            }
            if !self.runtime().middleware.is_empty() && !self.passes_middleware(&mut packet) {
                return;
            }
        }
        match packet.packet_type {
            PacketType::OneWay => self.hand_message(packet),
            PacketType::Request => self.hand_request(packet),
            PacketType::Response => self.respond(packet),
            PacketType::Failure => {
                let code = packet
                    .meta
                    .as_ref()
                    .and_then(|meta| meta.code)
                    .unwrap_or(Code::HANDLER_FAILED);
                let message = String::from_utf8_lossy(&packet.payload).into_owned();
                self.fail_request(packet.message_id, RequestError::Failed { code, message });
            }
            PacketType::Cancel => self.cancelled(packet.message_id),
            PacketType::Ping => self.answer_ping(packet),
            // Any byte counts as life; resume is not agreed, so an Ack says nothing.
            PacketType::Pong | PacketType::Ack => {}
            PacketType::Goodbye => match Goodbye::from_packet(&packet) {
                Ok(goodbye) => {
                    self.shared().set_goodbye(&goodbye);
                    self.peer_ended(CloseReason::peer(goodbye.code, goodbye.reason));
                }
                Err(error) => self.lost(error.into()),
            },
            PacketType::GoAway => match Goodbye::from_packet(&packet) {
                Ok(goodbye) => {
                    self.shared().set_goodbye(&goodbye);
                    let event = TransportEvent::GoingAway {
                        session_id: self.session.id(),
                        goodbye,
                    };
                    self.runtime().events.tell(event);
                }
                Err(error) => self.lost(error.into()),
            },
            PacketType::Gap => {
                packet.detach(usize::MAX);
                self.runtime().events.tell(TransportEvent::Gap {
                    session_id: self.session.id(),
                    packet,
                });
            }
            packet_type => {
                self.lost(
                    DecodeError::OutOfPlace {
                        packet_type,
                        why: "the session is open already",
                    }
                    .into(),
                );
            }
        }
    }

    fn passes_middleware(&mut self, packet: &mut Packet) -> bool {
        let runtime = self.runtime().clone();
        for middleware in &runtime.middleware {
            let passed = pass::lend(&mut self.pass, || {
                middleware.on_inbound(&self.session, packet)
            });
            if let Err(error) = passed {
                let counts = self.pass().counts.rare();
                counts.packets_refused = counts.packets_refused.wrapping_add(1);
                let (code, message) = (error.code(), error.to_string());
                match packet.packet_type {
                    PacketType::Request if self.is_v2() => {
                        self.push_control(&Packet::failure(packet.message_id, code, message));
                    }
                    PacketType::Response => {
                        let error = RequestError::Failed { code, message };
                        self.fail_request(packet.message_id, error);
                    }
                    _ => runtime.events_error(self.session.id(), error.into_transport()),
                }
                return false;
            }
        }
        true
    }

    fn hand_message(&mut self, packet: Packet) {
        let pass = self.pass();
        pass.inbound_bytes = pass.inbound_bytes.saturating_add(packet.queued_bytes());
        pass.messages.push_back(packet);
    }

    fn hand_request(&mut self, packet: Packet) {
        let pass = self.pass();
        pass.counts.requests_in = pass.counts.requests_in.wrapping_add(1);
        pass.inbound_bytes = pass.inbound_bytes.saturating_add(packet.queued_bytes());
        pass.requests.push_back(Cell::new(packet));
    }

    fn respond(&mut self, packet: Packet) {
        let mut table = self.session.shared.requests();
        let answered = table.as_mut().and_then(|table| table.respond(packet));
        drop(table);
        if let Some(since) = answered.as_ref().and_then(|answered| answered.since) {
            let taken = self.now.saturating_duration_since(since);
            self.runtime().stats.round_trips(taken, 1);
        }
        self.wake_asker(answered);
    }

    fn fail_request(&mut self, id: u32, error: RequestError) {
        let mut table = self.session.shared.requests();
        let answered = table.as_mut().and_then(|table| table.fail(id, error));
        drop(table);
        self.wake_asker(answered);
    }

    fn wake_asker(&mut self, answered: Option<Answered>) {
        match answered {
            Some(answered) => {
                if let Some(waker) = answered.waker {
                    waker.wake();
                }
            }
            // Late, cancelled or never asked for: never anybody else's answer.
            None => {
                let counts = self.pass().counts.rare();
                counts.responses_unmatched = counts.responses_unmatched.wrapping_add(1);
            }
        }
    }

    /// Hands on the run of plain responses at the front of the batch: the table is locked once, and whoever waits is
    /// woken after it. There is no middleware.
    fn respond_run(&mut self) {
        let shared = &self.session.shared;
        let pass = self.pass.get_or_insert_with(pass::fresh);
        let mut wakers = std::mem::take(&mut pass.wakers);
        let stats = &shared.runtime.stats;
        // Those that were sent together came after the same time.
        let (mut same, mut count) = (None, 0u64);
        let mut table = shared.requests();
        while pass
            .batch
            .front()
            .is_some_and(|packet| is_plain(packet, PacketType::Response))
            && let Some(packet) = pass.batch.pop()
        {
            let counts = &mut pass.counts;
            counts.packets_in = counts.packets_in.wrapping_add(1);
            match table.as_mut().and_then(|table| table.respond(packet)) {
                Some(answered) => {
                    if answered.since != same {
                        if let Some(since) = same {
                            let taken = self.now.saturating_duration_since(since);
                            stats.round_trips(taken, count);
                        }
                        (same, count) = (answered.since, 0);
                    }
                    count = count.wrapping_add(1);
                    wakers.extend(answered.waker);
                }
                None => {
                    let counts = counts.rare();
                    counts.responses_unmatched = counts.responses_unmatched.wrapping_add(1);
                }
            }
        }
        drop(table);
        // Counted before anybody who was answered can look.
        if let Some(since) = same {
            stats.round_trips(self.now.saturating_duration_since(since), count);
        }
        for waker in wakers.drain(..) {
            waker.wake();
        }
        pass.wakers = wakers;
    }

    /// The peer no longer waits for an answer.
    fn cancelled(&mut self, id: u32) {
        let pass = self.pass();
        let queued = pass
            .requests
            .iter_mut()
            .position(|request| request.get_mut().message_id == id);
        match queued.and_then(|index| pass.requests.remove(index)) {
            Some(request) => {
                let request = request.into_inner();
                pass.inbound_bytes = pass.inbound_bytes.saturating_sub(request.queued_bytes());
                let counts = pass.counts.rare();
                counts.requests_cancelled = counts.requests_cancelled.wrapping_add(1);
            }
            None if pass.requests_running > 0 => pass.cancelled.push(id),
            None => {}
        }
    }

    fn answer_ping(&mut self, ping: Packet) {
        let pong = Packet::numbered(PacketType::Pong, ping.message_id, ping.payload);
        if self.blocked && self.pass().out_len() >= OUT_PAUSE {
            // A peer that pings and does not read gets the last answer when it reads again.
            self.rare().pong_due = Some(pong);
        } else {
            self.push_control(&pong);
        }
    }

    /// Tells the peer which requests of this side are no longer awaited, and answers a Ping that had to wait.
    pub(super) fn send_cancels(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let cancels = std::mem::take(&mut rare.cancels);
        let pong = if self.blocked {
            None
        } else {
            rare.pong_due.take()
        };
        if self.is_v2() {
            for id in cancels {
                self.push_control(&Packet::numbered(
                    PacketType::Cancel,
                    id,
                    bytes::Bytes::new(),
                ));
            }
        }
        if let Some(pong) = pong {
            self.push_control(&pong);
        }
    }

    /// Lets the handler run on what is new: messages in order, requests beside each other.
    pub(super) fn poll_lanes(&mut self, cx: &mut Context<'_>) {
        let pass = self.pass();
        let messages = !pass.messages.is_empty();
        let requests = !pass.requests.is_empty() || !pass.cancelled.is_empty();
        if messages {
            self.poll_message_lane(cx);
        }
        if requests && matches!(self.phase, Phase::Open) {
            self.poll_request_lane(cx);
        }
    }

    /// Lets a handler that waits go on: it may be what woke the task.
    fn poll_waiting_lanes(&mut self, cx: &mut Context<'_>) {
        let pass = self.pass();
        let (messages, requests) = (pass.message_waits, pass.requests_running > 0);
        if messages {
            self.poll_message_lane(cx);
        }
        if requests && matches!(self.phase, Phase::Open) {
            self.poll_request_lane(cx);
        }
    }

    fn poll_message_lane(&mut self, cx: &mut Context<'_>) {
        let session = &self.session;
        let lanes = self.lanes.get_or_insert_default();
        let lane = lanes
            .messages
            .get_or_insert_with(|| session.shared.runtime.service.messages(session.clone()));
        // Lanes never end by themselves.
        let _ = pass::lend(&mut self.pass, || lane.as_mut().poll(cx));
    }

    fn poll_request_lane(&mut self, cx: &mut Context<'_>) {
        let session = &self.session;
        let lanes = self.lanes.get_or_insert_default();
        let lane = lanes
            .requests
            .get_or_insert_with(|| session.shared.runtime.service.requests(session.clone()));
        let _ = pass::lend(&mut self.pass, || lane.as_mut().poll(cx));
    }

    fn end_of_stream(&mut self) {
        let reason = if self.is_v2() {
            CloseReason::network(Code::NORMAL, "the stream ended without Goodbye")
        } else {
            CloseReason::peer(Code::NORMAL, "")
        };
        self.peer_ended(reason);
    }

    /// The connection cannot be used any more.
    pub(super) fn lost(&mut self, error: ConnectionError) {
        if let Phase::Opening(_) = self.phase {
            // Whoever dialled hears why, and that it may dial again.
            return self.opening_error(error);
        }
        match error {
            ConnectionError::Decode(error) => {
                let reason = CloseReason::local(error.code(), error.to_string());
                tracing::debug!(session = %self.session.id(), %error, "the peer broke the wire format");
                self.runtime().events_error(self.session.id(), error.into());
                self.begin_close(reason, true);
            }
            ConnectionError::Closed(reason) => self.peer_ended(reason),
            error => self.peer_ended(CloseReason::network(Code::NORMAL, error.to_string())),
        }
    }
}
