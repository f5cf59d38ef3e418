//! The epoll loop: read once per event, serve every whole frame, answer with one vectored write.

use crate::inbox::{Filled, Inbox, Partial};
use bench_kit::buffer::AlignedBytes;
use bench_kit::listen;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Frames above this are refused.
pub(crate) const FRAME_MAX: usize = 64 * 1024 * 1024;
/// Connections taken per turn of the loop, so that a burst does not stop the others.
const ACCEPT_BATCH: usize = 256;
const LISTENER: u64 = u64::MAX;

/// Where the answer to small frames lies.
pub(crate) enum Reply {
    /// The served bytes are their own answer.
    Input,
    /// It was appended to the out buffer.
    Out,
}

/// What is done with the frames of a connection.
pub(crate) trait Service {
    /// What a connection remembers.
    type State: Default;

    /// The length of the frame that begins here; `None` while its header is incomplete.
    fn frame_len(&self, state: &Self::State, bytes: &[u8]) -> io::Result<Option<usize>>;
    /// Serves every whole frame and says how many bytes those were.
    fn serve(
        &mut self,
        state: &mut Self::State,
        data: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<(usize, Reply)>;
    /// Serves one large frame; the answer is what it appends to `out` and then this part of the frame.
    fn serve_large(
        &mut self,
        state: &mut Self::State,
        frame: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<Range<usize>>;
}

/// Bytes that the socket did not take.
enum Unsent {
    Copied(Vec<u8>, usize),
    Frame(AlignedBytes, Range<usize>),
}

/// What only a connection in the middle of something has.
#[derive(Default)]
struct Pending {
    partial: Partial,
    unsent: VecDeque<Unsent>,
}

struct Connection<S> {
    fd: OwnedFd,
    state: S,
    pending: Option<Box<Pending>>,
}

/// Listens on a loopback port, with `TCP_NODELAY`.
pub(crate) fn tcp(scheme: &str, port: u16) -> io::Result<OwnedFd> {
    let listener = listen::loopback(port)?;
    // Accepted sockets inherit it, which saves a call for each.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    listen::announce(scheme, &listener)?;
    Ok(listener.into())
}

/// Listens on a path.
pub(crate) fn unix(path: &Path) -> io::Result<OwnedFd> {
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    listen::say(&format!("unix://{}", path.display()))?;
    Ok(listener.into())
}

/// Serves until something fails that is not one connection's own affair.
pub(crate) fn run<S: Service>(listener: OwnedFd, service: S) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut server = Server {
        epoll,
        listener,
        service,
        inbox: Inbox::new(),
        out: Vec::new(),
        connections: Vec::new(),
        free: Vec::new(),
    };
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        match epoll::wait(
            &server.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept()?,
                slot => server.on_event(slot as usize, event.flags),
            }
        }
    }
}

struct Server<S: Service> {
    epoll: OwnedFd,
    listener: OwnedFd,
    service: S,
    inbox: Inbox,
    out: Vec<u8>,
    connections: Vec<Option<Connection<S::State>>>,
    free: Vec<usize>,
}

impl<S: Service> Server<S> {
    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPT_BATCH {
            let fd = match rustix::net::accept_with(
                &self.listener,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            ) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => break,
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            epoll::add(
                &self.epoll,
                &fd,
                EventData::new_u64(slot as u64),
                EventFlags::IN,
            )?;
            self.connections[slot] = Some(Connection {
                fd,
                state: S::State::default(),
                pending: None,
            });
        }
        Ok(())
    }

    fn on_event(&mut self, slot: usize, flags: EventFlags) {
        // A stale event of a connection that ended earlier in this turn.
        let Some(mut connection) = self.connections[slot].take() else {
            return;
        };
        let alive = if flags.contains(EventFlags::OUT) {
            self.on_writable(slot, &mut connection)
        } else {
            self.on_readable(slot, &mut connection)
        };
        match alive {
            Ok(true) => self.connections[slot] = Some(connection),
            // Whatever was wrong with it, dropping it closes it and takes it out of epoll.
            Ok(false) | Err(_) => self.free.push(slot),
        }
    }

    fn on_readable(
        &mut self,
        slot: usize,
        connection: &mut Connection<S::State>,
    ) -> io::Result<bool> {
        let mut partial = connection
            .pending
            .take()
            .map(|pending| pending.partial)
            .unwrap_or_default();
        let (large, from, to) = match self.inbox.fill(&connection.fd, &mut partial)? {
            Filled::Closed => return Ok(false),
            Filled::Blocked => {
                connection.set_partial(partial);
                return Ok(true);
            }
            Filled::Data { large, from, to } => (large, from, to),
        };
        self.out.clear();
        let large = match large {
            Some(mut frame) => {
                let range = self.service.serve_large(
                    &mut connection.state,
                    frame.bytes_mut(),
                    &mut self.out,
                )?;
                Some((frame, range))
            }
            None => None,
        };
        let head_len = self.out.len();
        let data = &mut self.inbox.memory.bytes_mut()[from..to];
        let (served, reply) = self
            .service
            .serve(&mut connection.state, data, &mut self.out)?;
        let tail = (from + served, to);
        if tail.0 < tail.1 {
            let frame_len = self.service.frame_len(
                &connection.state,
                &self.inbox.memory.bytes()[tail.0..tail.1],
            )?;
            partial = self.inbox.keep(tail, frame_len)?;
        }
        connection.set_partial(partial);

        let behind = match reply {
            Reply::Input => &self.inbox.memory.bytes()[from..from + served],
            Reply::Out => &self.out[head_len..],
        };
        let middle = large
            .as_ref()
            .map_or(&[][..], |(frame, range)| &frame.bytes()[range.clone()]);
        let parts = [&self.out[..head_len], middle, behind];
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total == 0 {
            return Ok(true);
        }
        let written = match rustix::io::writev(&connection.fd, &parts.map(IoSlice::new)) {
            Ok(written) => written,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        if written == total {
            if let Some((frame, _)) = large {
                self.inbox.recycle(frame);
            }
            return Ok(true);
        }
        let [first, _, last] = parts.map(<[u8]>::len);
        let mut unsent = VecDeque::new();
        if written < first {
            unsent.push_back(Unsent::Copied(self.out[written..first].to_vec(), 0));
        }
        let skip_middle = written.saturating_sub(first);
        let behind = &behind[written.saturating_sub(total - last)..];
        let behind = (!behind.is_empty()).then(|| Unsent::Copied(behind.to_vec(), 0));
        if let Some((frame, range)) = large {
            let range = (range.start + skip_middle).min(range.end)..range.end;
            unsent.push_back(Unsent::Frame(frame, range));
        }
        unsent.extend(behind);
        connection.pending.get_or_insert_default().unsent = unsent;
        // Nothing more is read until the peer has taken this: backpressure, and one list of unsent bytes at most.
        epoll::modify(
            &self.epoll,
            &connection.fd,
            EventData::new_u64(slot as u64),
            EventFlags::OUT,
        )?;
        Ok(true)
    }

    fn on_writable(
        &mut self,
        slot: usize,
        connection: &mut Connection<S::State>,
    ) -> io::Result<bool> {
        let Some(pending) = &mut connection.pending else {
            return Ok(true);
        };
        let slices: Vec<IoSlice<'_>> = pending
            .unsent
            .iter()
            .map(|part| IoSlice::new(part.bytes()))
            .collect();
        let mut written = match rustix::io::writev(&connection.fd, &slices) {
            Ok(written) => written,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        while let Some(part) = pending.unsent.front_mut() {
            let gone = written.min(part.bytes().len());
            written -= gone;
            if gone < part.bytes().len() {
                part.advance(gone);
                return Ok(true);
            }
            if let Some(Unsent::Frame(frame, _)) = pending.unsent.pop_front() {
                self.inbox.recycle(frame);
            }
        }
        if matches!(pending.partial, Partial::None) {
            connection.pending = None;
        }
        epoll::modify(
            &self.epoll,
            &connection.fd,
            EventData::new_u64(slot as u64),
            EventFlags::IN,
        )?;
        Ok(true)
    }
}

impl Unsent {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes, from) => &bytes[*from..],
            Self::Frame(frame, range) => &frame.bytes()[range.clone()],
        }
    }

    fn advance(&mut self, by: usize) {
        match self {
            Self::Copied(_, from) => *from += by,
            Self::Frame(_, range) => range.start += by,
        }
    }
}

impl<S> Connection<S> {
    fn set_partial(&mut self, partial: Partial) {
        if !matches!(partial, Partial::None) {
            self.pending.get_or_insert_default().partial = partial;
        }
    }
}
