//! Requests in both directions: the client asks the server, and the server asks back while it answers.

use std::time::Duration;

use msgtrans::{
    Code, Handler, HandlerError, Packet, RequestError, Session, TransportClient, TransportError,
    TransportServer,
};

/// Answers with the payload in capitals.
pub const SHOUT: u8 = 1;
/// Asks the requester for its name, and greets it.
pub const GREET: u8 = 2;
/// The application's own code for a kind of request that it does not know; they begin at 1 000.
pub const UNKNOWN_KIND: Code = Code(1_000);

/// The business code: it knows sessions and packets, and no protocol.
#[derive(Debug)]
pub struct Desk;

impl Handler for Desk {
    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        match request.biz_type {
            SHOUT => {
                let text = request.payload_as_string().unwrap_or_default();
                Ok(Packet::response(text.to_uppercase()))
            }
            GREET => {
                // The peer answers this while it waits for us: requests run beside each other.
                let name = session.request("who are you?").await?;
                let name = name.payload_as_string().unwrap_or_default();
                Ok(Packet::response(format!("hello, {name}")))
            }
            other => {
                let message = format!("there is no request of kind {other}");
                Err(HandlerError::with_code(UNKNOWN_KIND, message))
            }
        }
    }
}

/// A server with the desk behind it, at `url`, in the background until it is shut down.
///
/// # Errors
/// A URL that is none, an address that is taken.
pub async fn start(url: &str) -> Result<TransportServer, TransportError> {
    let server = TransportServer::builder()
        .with_protocol(url)
        .with_handler(Desk)
        .build()
        .await?;
    server.start()?;
    Ok(server)
}

/// A connected client that answers what the server asks it.
///
/// # Errors
/// What connecting failed with.
pub async fn connect(url: &str, name: &'static str) -> Result<TransportClient, TransportError> {
    let client = TransportClient::builder()
        .with_protocol(url)
        .build()
        .await?;
    client
        .on_request(move |_, _| async move { Ok(Packet::response(name)) })
        .await?;
    client.connect().await?;
    Ok(client)
}

/// Asks for everything that the desk can do, and for something that it cannot.
///
/// # Errors
/// A request that failed although it should not have.
pub async fn ask(client: &TransportClient) -> Result<Vec<String>, RequestError> {
    let shouted = client
        .request(Packet::request("hello").with_biz_type(SHOUT))
        .await?;

    // With a deadline of its own. When it passes, or when this future is dropped, the server is told to stop.
    let greeting = Packet::request("").with_biz_type(GREET);
    let greeted = client
        .request_with(greeting, Duration::from_secs(2))
        .await?;

    // A failure carries a code for programs and words for people.
    let refused = match client.request(Packet::request("").with_biz_type(9)).await {
        Err(RequestError::Failed { code, message }) if code == UNKNOWN_KIND => message,
        Err(error) => return Err(error),
        Ok(_) => "answered".to_owned(),
    };

    let answers = [shouted, greeted].map(|packet| packet.payload_as_string().unwrap_or_default());
    Ok(answers.into_iter().chain([refused]).collect())
}
