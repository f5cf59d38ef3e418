//! A server that sends each message to everybody.

use crate::Trouble;
use msgtrans::{Handler, HandlerError, Packet, Session, TransportServer};
use std::io::Write;
use std::sync::{Arc, OnceLock};

struct Fan {
    /// Set before the server starts.
    server: Arc<OnceLock<TransportServer>>,
}

impl Handler for Fan {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        let server = self
            .server
            .get()
            .ok_or_else(|| HandlerError::new("not started"))?;
        let report = server.broadcast(packet).await?;
        // The load would wait for it in vain; saying so names the cause.
        if report.full + report.failed > 0 {
            eprintln!("api: {report:?}");
        }
        Ok(())
    }
}

/// Serves until it is killed.
pub(crate) async fn serve(url: &str) -> Result<(), Trouble> {
    let place = Arc::new(OnceLock::new());
    let server = TransportServer::builder()
        .with_protocol(url)
        .with_handler(Fan {
            server: place.clone(),
        })
        .build()
        .await?;
    place.get_or_init(|| server.clone());
    for endpoint in server.local_endpoints() {
        let mut out = std::io::stdout().lock();
        writeln!(out, "listening {endpoint}")?;
        out.flush()?;
    }
    server.serve().await?;
    Ok(())
}
