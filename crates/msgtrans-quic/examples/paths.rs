//! What each preset gives on the path that it is for: mebibytes a second one way, and milliseconds until a
//! lone message is confirmed, through a bad network of this process.
//!
//! `cargo run --release -p msgtrans-quic --example paths [ROUNDS [PRESET]]`
#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::error::Error;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use msgtrans_core::{Limits, Packet, PacketBatch, PacketType, WireVersions};
use msgtrans_quic::{QuicClientConfig, QuicPreset, QuicServerConfig};
use msgtrans_testkit::chaos::{DatagramFaults, DatagramProxy, Direction};
use msgtrans_tls::Identity;
use msgtrans_transport::{
    Confirmation, Connection, Connector, DialContext, Incoming, ListenContext, OutboundBatch,
    Received, ServerProtocol,
};

const MESSAGE: usize = 64 * 1024;
const ROUNDS: u64 = 3;
const CONFIRMED: usize = 21;

struct Path {
    name: &'static str,
    preset: QuicPreset,
    one_way: Duration,
    loss: f64,
    messages: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = QuicServerConfig::new("127.0.0.1:0");
    println!("{}", config.offloads()?);
    let mut args = std::env::args().skip(1);
    let rounds = args.next().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let only = args.next().map(|preset| preset.parse()).transpose()?;
    println!(
        "path, preset: MiB/s and ms until confirmed in {rounds} rounds, without the preset and with it"
    );
    let path = |name, preset, one_way, loss, messages| Path {
        name,
        preset,
        one_way: Duration::from_millis(one_way),
        loss,
        messages,
    };
    for path in [
        path("nothing in the way", QuicPreset::Lan, 0, 0.0, 256),
        path("100 ms", QuicPreset::Wan, 50, 0.0, 256),
        path("40 ms, 2 % lost", QuicPreset::Lossy, 20, 0.02, 48),
    ] {
        if only.is_some_and(|only: QuicPreset| only != path.preset) {
            continue;
        }
        let mut rates = Vec::new();
        for round in 0..rounds {
            let without = transfer(&path, None, round).await?;
            let with = transfer(&path, Some(path.preset), round).await?;
            rates.push(format!(
                "{:.2} MiB/s {:.1} ms and {:.2} MiB/s {:.1} ms",
                without.0, without.1, with.0, with.1
            ));
        }
        println!("{}, {}: {}", path.name, path.preset, rates.join(", "));
    }
    Ok(())
}

/// One transfer with fresh ends: mebibytes a second, and milliseconds until a lone message was confirmed.
async fn transfer(
    path: &Path,
    preset: Option<QuicPreset>,
    seed: u64,
) -> Result<(f64, f64), Box<dyn Error>> {
    let identity = Identity::development()?;
    let pin = identity.spki_pin();
    let mut server = QuicServerConfig::new("127.0.0.1:0").with_identity(identity);
    if let Some(preset) = preset {
        server = server.preset(preset);
    }
    let context = ListenContext::new(WireVersions::V2, Limits::default());
    let mut listener = server.bind(&context).await?;
    let target = listener.local_endpoint().authority()?.parse()?;
    let proxy = DatagramProxy::start(target, seed).await?;
    let faults = |faults: &mut DatagramFaults| {
        faults.latency = path.one_way;
        faults.loss = path.loss;
    };
    proxy.change(Direction::Both, faults);
    let mut client = QuicClientConfig::new(proxy.address().to_string()).with_pin(pin);
    if let Some(preset) = preset {
        client = client.preset(preset);
    }
    let context = DialContext::new(WireVersions::V2, Limits::default());
    let messages = path.messages;
    let sending = async {
        let mut connection = client.connect(&context).await?;
        let begin = Instant::now();
        send(connection.as_mut(), messages).await?;
        // The server says when it has everything.
        receive(connection.as_mut(), 1).await?;
        let taken = begin.elapsed();
        Ok::<_, Box<dyn Error>>((taken, confirm(connection.as_mut()).await?))
    };
    let receiving = async {
        let incoming = poll_fn(|cx| listener.poll_accept(cx)).await?;
        let Incoming::Handshake { handshake, .. } = incoming else {
            return Err("no handshake".into());
        };
        let mut connection = handshake.await?;
        receive(connection.as_mut(), messages).await?;
        send(connection.as_mut(), 1).await?;
        // Kept until the client has read.
        Ok::<_, Box<dyn Error>>(connection)
    };
    let ((taken, confirmed), _server) = tokio::try_join!(sending, receiving)?;
    let rate = (messages * MESSAGE) as f64 / f64::from(1 << 20) / taken.as_secs_f64();
    Ok((rate, confirmed.as_secs_f64() * 1e3))
}

/// The median time until a message that is alone has been acknowledged.
async fn confirm(connection: &mut dyn Connection) -> Result<Duration, Box<dyn Error>> {
    let version = connection.info().negotiated.ok_or("no version")?;
    let mut times = Vec::new();
    for _ in 0..CONFIRMED {
        let mut out = OutboundBatch::new(connection.framing(), version);
        out.push(&Packet::new(PacketType::OneWay, "alone"))?;
        let (confirmation, confirmed) = Confirmation::new();
        out.confirm(confirmation);
        let begin = Instant::now();
        poll_fn(|cx| connection.poll_send(cx, &mut out)).await?;
        if !confirmed.await {
            return Err("not confirmed".into());
        }
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times[CONFIRMED / 2])
}

async fn send(connection: &mut dyn Connection, messages: usize) -> Result<(), Box<dyn Error>> {
    let version = connection.info().negotiated.ok_or("no version")?;
    connection.set_wire(version, Limits::default());
    let mut out = OutboundBatch::new(connection.framing(), version);
    let message = Packet::new(PacketType::OneWay, vec![7; MESSAGE]);
    for _ in 0..messages {
        out.push(&message)?;
        poll_fn(|cx| connection.poll_send(cx, &mut out)).await?;
    }
    Ok(())
}

async fn receive(connection: &mut dyn Connection, messages: usize) -> Result<(), Box<dyn Error>> {
    let version = connection.info().negotiated.ok_or("no version")?;
    connection.set_wire(version, Limits::default());
    let (mut inbox, mut seen) = (PacketBatch::new(), 0);
    while seen < messages {
        match poll_fn(|cx| connection.poll_recv(cx, 256 * 1024, &mut inbox)).await? {
            Received::End => return Err("ended".into()),
            _ => {
                while inbox.pop().is_some() {
                    seen += 1;
                }
            }
        }
    }
    Ok(())
}
