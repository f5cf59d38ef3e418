//! Clients that prove who they are.

use msgtrans_tls::{ClientAuth, ClientTls, Identity, ServerTls, TlsVersion};
use rustls::{CertificateError, Error};

use crate::authority::{Authority, Dates, self_signed};
use crate::pump::{Refusal, connect};

struct Parties {
    servers: Authority,
    clients: Authority,
}

impl Parties {
    fn new() -> Self {
        Self {
            servers: Authority::new(),
            clients: Authority::new(),
        }
    }

    /// What the server says to a client that shows `identity`: whether it knows who that is.
    fn check(&self, auth: ClientAuth, identity: Option<Identity>) -> Result<bool, Error> {
        let outcomes = [TlsVersion::Tls13, TlsVersion::Tls12].map(|version| {
            let server = ServerTls::new(self.servers.issue("node.example"))
                .min_version(version)
                .client_auth(auth.clone());
            let mut client = ClientTls::new()
                .roots(self.servers.roots())
                .min_version(version);
            if let Some(identity) = &identity {
                client = client.identity(identity.clone());
            }
            match connect(&client, &server, "node.example") {
                Ok(established) => Ok(established.server.peer_certificates().is_some()),
                Err(Refusal::ByServer(error)) => Err(error),
                Err(Refusal::ByClient(error)) => panic!("refused by the client: {error}"),
            }
        });
        let [newer, older] = outcomes;
        assert_eq!(newer, older, "both versions decide alike");
        newer
    }
}

#[test]
fn a_required_client_certificate_is_accepted_from_its_authority() {
    let parties = Parties::new();
    let required = || ClientAuth::Required(parties.clients.roots());
    let identity = parties.clients.issue("client.example");
    assert_eq!(parties.check(required(), Some(identity)), Ok(true));
}

#[test]
fn a_required_client_certificate_that_is_missing_or_bad_is_refused() {
    let parties = Parties::new();
    let required = || ClientAuth::Required(parties.clients.roots());
    assert_eq!(
        parties.check(required(), None),
        Err(Error::NoCertificatesPresented)
    );
    // The server's authority does not vouch for clients.
    let stranger = parties.servers.issue("client.example");
    assert_eq!(
        parties.check(required(), Some(stranger)),
        Err(CertificateError::BadSignature.into())
    );
    let alone = self_signed("client.example", Dates::Now);
    assert_eq!(
        parties.check(required(), Some(alone)),
        Err(CertificateError::UnknownIssuer.into())
    );
    let expired = parties.clients.issue_dated("client.example", Dates::Past);
    assert!(matches!(
        parties.check(required(), Some(expired)),
        Err(Error::InvalidCertificate(
            CertificateError::ExpiredContext { .. }
        ))
    ));
}

#[test]
fn an_optional_client_certificate_may_be_missing_but_not_bad() {
    let parties = Parties::new();
    let optional = || ClientAuth::Optional(parties.clients.roots());
    assert_eq!(parties.check(optional(), None), Ok(false));
    let identity = parties.clients.issue("client.example");
    assert_eq!(parties.check(optional(), Some(identity)), Ok(true));
    let stranger = parties.servers.issue("client.example");
    assert!(parties.check(optional(), Some(stranger)).is_err());
}

#[test]
fn a_server_that_does_not_ask_is_shown_nothing() {
    let parties = Parties::new();
    let identity = parties.clients.issue("client.example");
    assert_eq!(parties.check(ClientAuth::None, Some(identity)), Ok(false));
}
