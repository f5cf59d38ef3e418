//! What `send`, `request` and `listen` have in common: a client from the command line.

use std::io::Read;
use std::time::Duration;

use clap::ValueEnum;
use msgtrans::{Endpoint, Packet, TransportClient, WireVersion, WireVersions};

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The server: tcp:// tls:// ws:// wss:// or quic://host:port, or unix:///path
    #[arg(value_name = "URL")]
    pub(crate) url: Endpoint,
    /// The wire version to speak
    #[arg(long, value_enum, default_value_t = Wire::V2)]
    wire: Wire,
    /// Believe any certificate (tls, wss, quic), such as one of development
    #[arg(long)]
    insecure: bool,
}

/// Wire versions, as the options of all commands spell them.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Wire {
    /// Version 1, that of msgtrans 2.x
    V1,
    /// Version 2
    V2,
    /// Both
    Auto,
}

impl From<Wire> for WireVersions {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::V1 => Self::V1,
            Wire::V2 => Self::V2,
            Wire::Auto => Self::Any,
        }
    }
}

/// What `--timeout` bounds where it is not given.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// What saying Goodbye may take: nothing of the user's depends on it.
const FAREWELL: Duration = Duration::from_secs(2);

/// The shortest there is: somebody waits, and over quic a server that was killed is only known by its silence.
const HEARTBEAT: Duration = Duration::from_secs(5);

impl Target {
    /// A client that is not connected yet.
    pub(crate) async fn client(&self, timeout: Duration) -> Result<TransportClient, Failure> {
        not_in_process(&self.url)?;
        let mut url = self.url.clone();
        let told = url.options().take::<String>("insecure", "true or false");
        if self.insecure
            && matches!(url.scheme(), "tls" | "wss" | "quic")
            && matches!(told, Ok(None))
        {
            url = url.with_option("insecure", true);
        }
        TransportClient::builder()
            .with_protocol(url)
            .wire(self.wire.into())
            .connect_timeout(timeout)
            .send_timeout(timeout)
            .heartbeat(HEARTBEAT)
            .auto_reconnect(false)
            .build()
            .await
            .map_err(|error| Failure::at(&self.url, error))
    }

    /// A client with a session.
    pub(crate) async fn connect(&self, timeout: Duration) -> Result<TransportClient, Failure> {
        let client = self.client(timeout).await?;
        let connected = client.connect().await;
        connected.map_err(|error| Failure::at(&self.url, error))?;
        Ok(client)
    }
}

/// Says Goodbye, so that the server does not take the end for a lost connection. Version 1 has no word for it, and
/// waiting for the peer to close only serves who has just sent something.
pub(crate) async fn leave(client: &TransportClient) {
    let version = client.session().and_then(|session| session.version());
    if version == Some(WireVersion::V2) {
        let _ = tokio::time::timeout(FAREWELL, client.disconnect()).await;
    }
}

/// What a command line names cannot be in the same process.
pub(crate) fn not_in_process(url: &Endpoint) -> Result<(), Failure> {
    if url.scheme() == "inproc" {
        let error = format!("{url}: in-process endpoints live and die with one program");
        return Err(Failure::usage(error)
            .hint("use tcp://, ws://, quic:// or unix://; `msgtrans demo` shows inproc://"));
    }
    Ok(())
}

/// The packet to send: `text`, or standard input where `text` is `-`.
pub(crate) fn packet(text: String, biz_type: u8) -> Result<Packet, Failure> {
    let packet = if text == "-" {
        let mut input = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut input)
            .map_err(|error| Failure::failed(error).context("cannot read standard input"))?;
        Packet::binary(input)
    } else {
        Packet::text(text)
    };
    Ok(packet.with_biz_type(biz_type))
}

/// Seconds with a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse::<f64>().ok();
    seconds
        .filter(|seconds| (0.01..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "must be seconds from 0.01 to 86400, such as 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_fractions_and_bounds() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(seconds("3s"), Ok(Duration::from_secs(3)));
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "soon", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
