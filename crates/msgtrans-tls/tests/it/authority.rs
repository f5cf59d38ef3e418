//! A certificate authority for tests, and certificates with one thing wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use msgtrans_tls::{Identity, Roots};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub(crate) enum Dates {
    Now,
    Past,
    Future,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_der([self.certificate()]).unwrap()
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_dated(name, Dates::Now)
    }

    pub(crate) fn issue_dated(&self, name: &str, dates: Dates) -> Identity {
        self.issue_with_key(name, dates, &KeyPair::generate().unwrap())
    }

    pub(crate) fn issue_with_key(&self, name: &str, dates: Dates, key: &KeyPair) -> Identity {
        let certificate = params(name, dates).signed_by(key, &self.issuer).unwrap();
        identity(certificate.der().clone(), key)
    }
}

/// A certificate that nobody but itself vouches for.
pub(crate) fn self_signed(name: &str, dates: Dates) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, dates).self_signed(&key).unwrap();
    identity(certificate.der().clone(), &key)
}

fn identity(certificate: CertificateDer<'static>, key: &KeyPair) -> Identity {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Identity::from_der(vec![certificate], key.into()).unwrap()
}

fn params(name: &str, dates: Dates) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    // Else all subjects were alike, and a self-signed certificate would claim to come from an
    // authority.
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (from, to) = match dates {
        Dates::Now => (now - DAY, now + DAY),
        Dates::Past => (now - 2 * DAY, now - DAY),
        Dates::Future => (now + DAY, now + 2 * DAY),
    };
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + from;
    params.not_after = epoch + to;
    params
}
