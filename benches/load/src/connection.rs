//! One connection on its thread's epoll: dial, read and check, write.

use crate::outbox::Outbox;
use crate::session::{Fed, Session, WHOLE_MAX};
use crate::shape::{Envelope, FIRST_ID, Shape};
use crate::{Address, Trouble, trouble};
use bench_kit::buffer::AlignedBytes;
use bench_kit::frame::GOODBYE;
use bench_kit::websocket;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// Room in front of the read position for the incomplete answer of the connection that is read. Page-aligned.
const HEADROOM: usize = 2 * WHOLE_MAX;
const READ: usize = 256 * 1024;

/// What the connections of a thread share.
pub(crate) struct Desk {
    pub(crate) shape: Arc<Shape>,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    address: Address,
    epoll: OwnedFd,
    memory: AlignedBytes,
    scratch: Vec<u8>,
    sources: u8,
    dialled: usize,
}

/// See the module.
pub(crate) struct Connection {
    pub(crate) outbox: Outbox,
    fd: OwnedFd,
    session: Session,
    partial: Vec<u8>,
    token: u64,
    interest: EventFlags,
    dialling: bool,
}

impl Desk {
    pub(crate) fn new(shape: Arc<Shape>, address: Address, sources: u8) -> Result<Self, Trouble> {
        if matches!(address, Address::Quic(..)) {
            return trouble("over QUIC the modes are echo, rtt and oneway");
        }
        Ok(Self {
            shape,
            reads: 0,
            writes: 0,
            address,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            memory: AlignedBytes::new(HEADROOM + READ),
            scratch: Vec::new(),
            sources,
            dialled: 0,
        })
    }

    /// Starts a connection; its events carry `token`.
    pub(crate) fn dial(&mut self, token: u64) -> Result<Connection, Trouble> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = |family| rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let (fd, connected) = match &self.address.clone() {
            Address::Unix(path) => {
                let fd = socket(AddressFamily::UNIX)?;
                let connected = rustix::net::connect(&fd, &SocketAddrUnix::new(path)?);
                (fd, connected)
            }
            Address::Tcp(address) | Address::Quic(address, _) => {
                let fd = socket(AddressFamily::INET)?;
                sockopt::set_tcp_nodelay(&fd, true)?;
                self.bind(&fd)?;
                let connected = rustix::net::connect(&fd, address);
                (fd, connected)
            }
        };
        match connected {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let interest = EventFlags::OUT;
        epoll::add(&self.epoll, &fd, EventData::new_u64(token), interest)?;
        Ok(Connection {
            outbox: Outbox::new(FIRST_ID),
            fd,
            session: Session::new(self.shape.first_answer()),
            partial: Vec::new(),
            token,
            interest,
            dialling: true,
        })
    }

    /// Takes the next of the source addresses.
    fn bind(&mut self, fd: &OwnedFd) -> Result<(), Trouble> {
        if self.sources > 0 {
            let host = 2 + (self.dialled % usize::from(self.sources)) as u32;
            let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() + host);
            rustix::net::bind(fd, &SocketAddrV4::new(source, 0))?;
        }
        self.dialled += 1;
        Ok(())
    }

    /// Reports readable standard input under `token`.
    pub(crate) fn watch_stdin(&self, token: u64) -> Result<(), Trouble> {
        Ok(epoll::add(
            &self.epoll,
            rustix::stdio::stdin(),
            EventData::new_u64(token),
            EventFlags::IN,
        )?)
    }

    /// Waits for events; zero only looks.
    pub(crate) fn wait(&self, events: &mut Vec<Event>, timeout: Duration) -> Result<(), Trouble> {
        events.clear();
        let timeout = timeout
            .try_into()
            .map_err(|_| Trouble("a timeout out of range".into()))?;
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Connection {
    /// Whether messages may be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.dialling && self.session.is_open()
    }

    /// Handles an event; the caller adds to the outbox what the answers call for and flushes.
    pub(crate) fn on_event(&mut self, flags: EventFlags, desk: &mut Desk) -> Result<Fed, Trouble> {
        if self.dialling {
            sockopt::socket_error(&self.fd)??;
            self.dialling = false;
            let host = match &desk.address {
                Address::Tcp(address) | Address::Quic(address, _) => address.to_string(),
                Address::Unix(_) => "localhost".to_owned(),
            };
            let opened = self
                .session
                .begin(&desk.shape, &host, &mut self.outbox.control);
            self.flush(desk)?;
            return Ok(Fed {
                opened,
                ..Fed::default()
            });
        }
        if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            return self.read(desk);
        }
        self.flush(desk)?;
        Ok(Fed::default())
    }

    fn read(&mut self, desk: &mut Desk) -> Result<Fed, Trouble> {
        let from = HEADROOM - self.partial.len();
        let memory = desk.memory.bytes_mut();
        memory[from..HEADROOM].copy_from_slice(&self.partial);
        desk.reads += 1;
        let read = match rustix::io::read(&self.fd, &mut memory[HEADROOM..]) {
            Ok(0) => return trouble("the server closed the connection"),
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Fed::default()),
            Err(error) => return Err(error.into()),
        };
        let input = &memory[from..HEADROOM + read];
        let fed = self
            .session
            .feed(&desk.shape, input, &mut self.outbox.control)?;
        let tail = &input[fed.consumed..];
        if tail.len() > HEADROOM {
            return trouble("a head that does not end");
        }
        self.partial.clear();
        self.partial.extend_from_slice(tail);
        Ok(fed)
    }

    /// Writes what is due, as far as the socket takes it; the rest follows when it is writable.
    pub(crate) fn flush(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        let done = self
            .outbox
            .flush(&self.fd, &desk.shape, &mut desk.scratch, &mut desk.writes)?;
        let interest = if done {
            EventFlags::IN
        } else {
            EventFlags::IN | EventFlags::OUT
        };
        if interest != self.interest {
            epoll::modify(
                &desk.epoll,
                &self.fd,
                EventData::new_u64(self.token),
                interest,
            )?;
            self.interest = interest;
        }
        Ok(())
    }

    /// Says goodbye as the wire asks for it and closes. What the socket does not take at once is not waited for.
    pub(crate) fn close(mut self, desk: &mut Desk) {
        if desk.shape.version == 2 && self.is_open() {
            desk.shape
                .push_control(&mut self.outbox.control, GOODBYE, 0, &[]);
        }
        if desk.shape.envelope == Envelope::WebSocket && !self.dialling {
            desk.shape.push_ws_control(
                &mut self.outbox.control,
                websocket::CLOSE,
                &1000u16.to_be_bytes(),
            );
        }
        // The run is over either way: an error here is the server's having closed first.
        let _ = self.flush(desk);
    }
}
