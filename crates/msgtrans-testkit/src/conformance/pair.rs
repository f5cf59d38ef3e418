//! [`Pair`]: both ends of a fresh connection, past the point where a session would be established.

use msgtrans_core::{Limits, Packet, PacketType, WireVersion, WireVersions};
use msgtrans_transport::{DialContext, ListenContext, Listener};

use super::Protocol;
use crate::failure::Failure;
use crate::peer::{Peer, accept};

/// Both ends. The listener stays alive with them, as a server's does.
pub(super) struct Pair {
    pub(super) client: Peer,
    pub(super) server: Peer,
    pub(super) listener: Box<dyn Listener>,
}

/// How a pair is made; the default is what most cases want.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) version: WireVersion,
    pub(super) accept: WireVersions,
    /// What the contexts say, for the first frame.
    pub(super) first: Limits,
    /// What both sessions set.
    pub(super) limits: Limits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            version: WireVersion::V2,
            accept: WireVersions::Any,
            first: Limits::default(),
            limits: Limits::default(),
        }
    }
}

impl Protocol {
    pub(super) async fn listen(&self, setup: Setup) -> Result<Box<dyn Listener>, Failure> {
        let context = ListenContext::new(setup.accept, setup.first);
        Ok((self.server)().bind(&context).await?)
    }

    /// Dials `listener` and sends the first packet: what a client writes before it has heard anything.
    pub(super) async fn dial(
        &self,
        endpoint: &msgtrans_transport::Endpoint,
        setup: Setup,
        first: impl IntoIterator<Item = Packet>,
    ) -> Result<Peer, Failure> {
        let offer = match setup.version {
            WireVersion::V1 => WireVersions::V1,
            WireVersion::V2 => WireVersions::V2,
        };
        let context = DialContext::new(offer, setup.first);
        let connection = (self.connector)(endpoint).connect(&context).await?;
        let mut peer = Peer::new(connection, setup.version);
        peer.set_wire(setup.limits);
        for packet in first {
            peer.queue(packet)?;
        }
        peer.flush().await?;
        Ok(peer)
    }

    /// A pair that has exchanged a first packet each way and set its wire, as after a handshake.
    pub(super) async fn pair(&self) -> Result<Pair, Failure> {
        self.pair_with(Setup::default()).await
    }

    pub(super) async fn pair_with(&self, setup: Setup) -> Result<Pair, Failure> {
        let mut listener = self.listen(setup).await?;
        let endpoint = listener.local_endpoint();
        let (mut client, server) = tokio::try_join!(
            self.dial(&endpoint, setup, [opening(setup.version)]),
            async {
                let mut server = Peer::new(accept(listener.as_mut()).await?, setup.version);
                server.expect().await?;
                server.set_wire(setup.limits);
                server.send(opening(setup.version)).await?;
                Ok(server)
            }
        )?;
        client.expect().await?;
        Ok(Pair {
            client,
            server,
            listener,
        })
    }
}

/// The first packet of either side.
pub(super) fn opening(version: WireVersion) -> Packet {
    match version {
        WireVersion::V1 => Packet::numbered(PacketType::OneWay, 0, "first"),
        WireVersion::V2 => Packet::numbered(PacketType::Hello, 0, ""),
    }
}
