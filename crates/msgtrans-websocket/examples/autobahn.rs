//! The endpoint that the Autobahn test suite talks to, in either role, with TLS or without.
//!
//! It sits on the same frame, message and handshake code as the transport, over blocking sockets, so
//! that what the suite judges is that code and little else. `cargo xtask autobahn` runs it.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::BytesMut;
use msgtrans_tls::rustls::{self, ClientConnection, ServerConnection, SideData, StreamOwned};
use msgtrans_tls::{ClientTls, Identity, Roots, ServerTls};
use msgtrans_websocket::frame::{OpCode, Role, append_close, append_frame};
use msgtrans_websocket::handshake::{ClientUpgrade, ServerUpgrade, UpgradePolicy};
use msgtrans_websocket::message::{Event, MessageLimits, MessageReader};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const USAGE: &str = "usage: autobahn identity DIR | server [DIR] | client URL [DIR]
  identity  writes cert.pem and key.pem of a certificate for localhost
  server    echoes at the address that it prints, over TLS where DIR has the certificate
  client    runs every case of the suite's server, believing the certificate in DIR";
const AGENT: &str = "msgtrans";
const ALPN: &[&[u8]] = &[b"http/1.1"];
const READ_LEN: usize = 64 * 1024;
const LIMITS: MessageLimits = MessageLimits {
    message_bytes_max: 32 << 20,
    text: true,
};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["identity", folder] => write_identity(folder.as_ref()),
        ["server"] => serve(None),
        ["server", folder] => serve(Some(folder.as_ref())),
        ["client", url] => run_cases(url, None),
        ["client", url, folder] => run_cases(url, Some(folder.as_ref())),
        _ => Err(USAGE.into()),
    }
}

fn write_identity(folder: &Path) -> Result<()> {
    let pem = Identity::development()?.to_pem();
    std::fs::write(folder.join("cert.pem"), pem.certificates)?;
    let key = folder.join("key.pem");
    // The file must be private before the key is in it.
    let mut file = std::fs::File::create(key)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file.write_all(pem.private_key.as_bytes())?)
}

/// What carries the bytes: a socket, or TLS over one.
trait Pipe: Read + Write {
    /// Says that nothing more will be written.
    fn finish(&mut self) -> io::Result<()>;
}

impl Pipe for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<C, S> Pipe for StreamOwned<C, TcpStream>
where
    C: Deref<Target = rustls::ConnectionCommon<S>> + DerefMut,
    S: SideData,
{
    fn finish(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.shutdown(Shutdown::Write)
    }
}

fn serve(folder: Option<&Path>) -> Result<()> {
    let tls = match folder {
        None => None,
        Some(folder) => {
            let identity =
                Identity::from_pem_files(folder.join("cert.pem"), folder.join("key.pem"))?;
            Some(ServerTls::new(identity).build(ALPN)?)
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    io::stdout().write_all(format!("{}\n", listener.local_addr()?).as_bytes())?;
    for socket in listener.incoming() {
        let socket = socket?;
        socket.set_nodelay(true)?;
        let tls = tls.clone();
        // A peer that breaks the rules ends its own connection; the suite reports it.
        thread::spawn(move || match tls {
            None => accept(socket).is_ok(),
            Some(tls) => ServerConnection::new(tls)
                .is_ok_and(|connection| accept(StreamOwned::new(connection, socket)).is_ok()),
        });
    }
    Ok(())
}

fn accept(mut pipe: impl Pipe) -> Result<()> {
    let policy = UpgradePolicy::default();
    let mut upgrade = ServerUpgrade::new();
    let mut input = BytesMut::new();
    let granted = loop {
        fill(&mut pipe, &mut input)?;
        match upgrade.read(&mut input, &policy) {
            Ok(Some(granted)) => break granted,
            Ok(None) => {}
            Err(refusal) => {
                pipe.write_all(&refusal.response())?;
                return Err(refusal.into());
            }
        }
    };
    pipe.write_all(&granted.response)?;
    echo(pipe, input, Role::Server).map(|_| ())
}

fn run_cases(url: &str, folder: Option<&Path>) -> Result<()> {
    let (_, address) = url.split_once("://").ok_or(USAGE)?;
    let tls = match folder {
        None => None,
        Some(folder) => {
            let roots = Roots::from_pem_file(folder.join("cert.pem"))?;
            Some(ClientTls::new().roots(roots))
        }
    };
    let config = tls.as_ref().map(|tls| tls.build(ALPN)).transpose()?;
    let dial = |path: &str| -> Result<Option<String>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        match (&tls, &config) {
            (Some(tls), Some(config)) => {
                let name = tls.name_for("localhost")?;
                let connection = ClientConnection::new(Arc::clone(config), name)?;
                converse(StreamOwned::new(connection, socket), address, path)
            }
            _ => converse(socket, address, path),
        }
    };
    let count = dial("/getCaseCount")?.ok_or("no case count")?;
    for case in 1..=count.parse::<usize>()? {
        // How a case went is for the suite to say, a broken connection included.
        let _ = dial(&format!("/runCase?case={case}&agent={AGENT}"));
    }
    dial(&format!("/updateReports?agent={AGENT}")).map(|_| ())
}

/// Upgrades, and echoes until the connection ends; the last text message that came.
fn converse(mut pipe: impl Pipe, address: &str, path: &str) -> Result<Option<String>> {
    let mut upgrade = ClientUpgrade::new(address, path, &[], None)?;
    pipe.write_all(upgrade.request())?;
    let mut input = BytesMut::new();
    while upgrade.read(&mut input)?.is_none() {
        fill(&mut pipe, &mut input)?;
    }
    echo(pipe, input, Role::Client)
}

fn echo(mut pipe: impl Pipe, mut input: BytesMut, role: Role) -> Result<Option<String>> {
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
        pipe.write_all(&out)?;
        pipe.flush()?;
        out.clear();
        if reader.is_closed() {
            pipe.finish()?;
            // What the peer had under way is read, or the close would become a reset.
            let _ = io::copy(&mut pipe, &mut io::sink());
            return Ok(last.and_then(|text| String::from_utf8(text.to_vec()).ok()));
        }
        fill(&mut pipe, &mut input)?;
    }
}

fn fill(pipe: &mut impl Read, input: &mut BytesMut) -> Result<()> {
    let start = input.len();
    input.resize(start + READ_LEN, 0);
    let len = pipe.read(&mut input[start..])?;
    input.truncate(start + len);
    if len == 0 {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    } else {
        Ok(())
    }
}
