//! The endpoint that the Autobahn test suite talks to, in either role.
//!
//! `autobahn server ADDRESS` echoes to any client; `autobahn client ADDRESS` runs every case of a
//! fuzzing server. It sits on the same frame, message and handshake code as the transport, over
//! blocking sockets, so that what the suite judges is that code and little else.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use bytes::BytesMut;
use msgtrans_websocket::frame::{OpCode, Role, append_close, append_frame};
use msgtrans_websocket::handshake::{ClientUpgrade, ServerUpgrade, UpgradePolicy};
use msgtrans_websocket::message::{Event, MessageLimits, MessageReader};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const AGENT: &str = "msgtrans";
const READ_LEN: usize = 64 * 1024;
const LIMITS: MessageLimits = MessageLimits {
    message_bytes_max: 32 << 20,
    text: true,
};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", address] => serve(address),
        ["client", address] => run_cases(address),
        _ => Err("usage: autobahn server|client ADDRESS".into()),
    }
}

fn serve(address: &str) -> Result<()> {
    for socket in TcpListener::bind(address)?.incoming() {
        let socket = socket?;
        // A peer that breaks the rules ends its own connection; the suite reports it.
        thread::spawn(move || accept(socket).is_ok());
    }
    Ok(())
}

fn accept(mut socket: TcpStream) -> Result<()> {
    let policy = UpgradePolicy::default();
    let mut upgrade = ServerUpgrade::new();
    let mut input = BytesMut::new();
    let granted = loop {
        fill(&mut socket, &mut input)?;
        match upgrade.read(&mut input, &policy) {
            Ok(Some(granted)) => break granted,
            Ok(None) => {}
            Err(refusal) => {
                socket.write_all(&refusal.response())?;
                return Err(refusal.into());
            }
        }
    };
    socket.write_all(&granted.response)?;
    echo(socket, input, Role::Server).map(|_| ())
}

fn run_cases(address: &str) -> Result<()> {
    let count = dial(address, "/getCaseCount")?.ok_or("no case count")?;
    for case in 1..=count.parse::<usize>()? {
        // How a case went is for the suite to say, a broken connection included.
        let _ = dial(address, &format!("/runCase?case={case}&agent={AGENT}"));
    }
    dial(address, &format!("/updateReports?agent={AGENT}")).map(|_| ())
}

/// Echoes until the connection ends; the last text message that came.
fn dial(address: &str, path: &str) -> Result<Option<String>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut upgrade = ClientUpgrade::new(address, path, &[], None)?;
    socket.write_all(upgrade.request())?;
    let mut input = BytesMut::new();
    while upgrade.read(&mut input)?.is_none() {
        fill(&mut socket, &mut input)?;
    }
    echo(socket, input, Role::Client)
}

fn echo(mut socket: TcpStream, mut input: BytesMut, role: Role) -> Result<Option<String>> {
    let mut reader = MessageReader::new(role, LIMITS);
    let mut out = BytesMut::new();
    let mut last = None;
    loop {
        loop {
            match reader.next_event(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) => {
                    append_frame(&mut out, role, OpCode::Text, &text);
                    last = Some(text);
                }
                Ok(Some(Event::Binary(data))) => {
                    append_frame(&mut out, role, OpCode::Binary, &data)
                }
                Ok(Some(Event::Ping(data))) => append_frame(&mut out, role, OpCode::Pong, &data),
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(Some(close)))) => {
                    append_close(&mut out, role, close.code, "");
                }
                Ok(Some(Event::Close(None))) => append_frame(&mut out, role, OpCode::Close, &[]),
                Err(error) => {
                    append_close(&mut out, role, error.close_code(), &error.to_string());
                }
            }
        }
        socket.write_all(&out)?;
        out.clear();
        if reader.is_closed() {
            socket.shutdown(std::net::Shutdown::Write)?;
            // What the peer had under way is read, or the close would become a reset.
            let _ = io::copy(&mut socket, &mut io::sink());
            return Ok(last.and_then(|text| String::from_utf8(text.to_vec()).ok()));
        }
        fill(&mut socket, &mut input)?;
    }
}

fn fill(socket: &mut TcpStream, input: &mut BytesMut) -> Result<()> {
    let start = input.len();
    input.resize(start + READ_LEN, 0);
    let len = socket.read(&mut input[start..])?;
    input.truncate(start + len);
    if len == 0 {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    } else {
        Ok(())
    }
}
