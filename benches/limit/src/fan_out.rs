//! Broadcast as a loop: one thread, one epoll, and one `write` for each connection.

use crate::tcp::checked_header;
use bench_kit::frame::{HEADER_LEN, HELLO, Header, ONE_WAY, WELCOME};
use bench_kit::listen;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::net::TcpListener;

/// Bytes of one read; a message that does not fit is refused.
const READ: usize = 64 * 1024;
/// Connections taken per turn of the loop.
const ACCEPT_BATCH: usize = 256;
const LISTENER: u64 = u64::MAX;

struct Fan {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    fd: OwnedFd,
    /// The beginning of a frame that has not come whole.
    partial: Vec<u8>,
}

/// Sends every one-way message to everybody, and greets whoever says Hello.
pub(crate) fn run(port: u16) -> io::Result<()> {
    let listener = listen::loopback(port)?;
    // Accepted sockets inherit it, which saves a call for each.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    listen::announce("tcp", &listener)?;
    let mut fan = Fan {
        epoll,
        listener,
        connections: Vec::new(),
        free: Vec::new(),
        buffer: vec![0; READ],
    };
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        match epoll::wait(
            &fan.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => fan.accept()?,
                slot => fan.on_readable(slot as usize)?,
            }
        }
    }
}

impl Fan {
    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPT_BATCH {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let fd = match rustix::net::accept_with(&self.listener, flags) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => break,
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let data = EventData::new_u64(slot as u64);
            epoll::add(&self.epoll, &fd, data, EventFlags::IN)?;
            self.connections[slot] = Some(Connection {
                fd,
                partial: Vec::new(),
            });
        }
        Ok(())
    }

    /// Reads once and serves every whole frame. A connection that misbehaves or has ended is dropped.
    fn on_readable(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = self.connections[slot].as_mut() else {
            return Ok(());
        };
        let kept = connection.partial.len();
        self.buffer[..kept].copy_from_slice(&connection.partial);
        let len = match rustix::io::read(&connection.fd, &mut self.buffer[kept..]) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Ok(0) | Err(_) => {
                self.connections[slot] = None;
                self.free.push(slot);
                return Ok(());
            }
            Ok(read) => kept + read,
        };
        let mut at = 0;
        while let Some(header) = Header::decode(&self.buffer[at..len]) {
            let end = at + header.frame_len();
            if end > len {
                break;
            }
            match header.packet_type {
                ONE_WAY => self.send_to_all(at..end)?,
                HELLO => self.greet(slot, header.version)?,
                // What else a client says calls for no answer here.
                _ => {}
            }
            at = end;
        }
        if let Some(connection) = self.connections[slot].as_mut() {
            connection.partial.clear();
            connection.partial.extend_from_slice(&self.buffer[at..len]);
        }
        Ok(())
    }

    fn send_to_all(&mut self, frame: std::ops::Range<usize>) -> io::Result<()> {
        let frame = &self.buffer[frame];
        checked_header(frame)?;
        for connection in self.connections.iter().flatten() {
            write_whole(&connection.fd, frame)?;
        }
        Ok(())
    }

    fn greet(&self, slot: usize, version: u8) -> io::Result<()> {
        let welcome = Header {
            version,
            packet_type: WELCOME,
            ..Header::default()
        };
        let frame: [u8; HEADER_LEN] = welcome.encode();
        match &self.connections[slot] {
            Some(connection) => write_whole(&connection.fd, &frame),
            None => Ok(()),
        }
    }
}

/// The load has read the message before when the next one comes, so there is always room; a reference that dropped
/// messages would be none.
fn write_whole(fd: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    match rustix::io::write(fd, frame) {
        Ok(written) if written == frame.len() => Ok(()),
        Ok(_) | Err(Errno::AGAIN) => Err(io::Error::other("a connection that is not read from")),
        // It ends; its own event tells.
        Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
