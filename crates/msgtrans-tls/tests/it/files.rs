//! Certificates and keys from PEM, and what is said about bad ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use msgtrans_tls::{Identity, Roots, TlsError};

use crate::authority::{Authority, Dates, self_signed};

/// A directory that goes away with the test.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("tls-{name}-{}-{unique}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn write(dir: &Dir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.0.join(name);
    fs::write(&path, text).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = mode;
    path
}

fn error(certificates: &str, key: &str) -> TlsError {
    Identity::from_pem(certificates.as_bytes(), key.as_bytes()).unwrap_err()
}

#[test]
fn an_identity_survives_the_way_through_files() {
    let identity = Identity::development().unwrap();
    let pem = identity.to_pem();
    let dir = Dir::new("round-trip");
    let certificate = write(&dir, "cert.pem", &pem.certificates, 0o644);
    let key = write(&dir, "key.pem", &pem.private_key, 0o600);
    let read = Identity::from_pem_files(certificate, key).unwrap();
    assert_eq!(read.certificates(), identity.certificates());
    assert_eq!(read.to_pem(), pem);

    // Both in one file, in either order.
    let both = write(
        &dir,
        "both.pem",
        &(pem.private_key + &pem.certificates),
        0o600,
    );
    let read = Identity::from_pem_files(&both, &both).unwrap();
    assert_eq!(read.spki_pin(), identity.spki_pin());
}

#[test]
fn a_half_without_the_other_is_an_error_that_names_what_is_missing() {
    let pem = Identity::development().unwrap().to_pem();
    assert_eq!(
        error(&pem.certificates, "").to_string(),
        "no private key in the given key pem"
    );
    assert_eq!(
        error(&pem.certificates, &pem.certificates).to_string(),
        "no private key in the given key pem"
    );
    assert_eq!(
        error("", &pem.private_key).to_string(),
        "no certificate in the given certificate pem"
    );
    let dir = Dir::new("half");
    let certificate = write(&dir, "cert.pem", &pem.certificates, 0o600);
    let text = Identity::from_pem_files(&certificate, &certificate)
        .unwrap_err()
        .to_string();
    assert_eq!(text, format!("no private key in {}", certificate.display()));
}

#[test]
fn a_swapped_key_is_refused() {
    let one = self_signed("one.example", Dates::Now).to_pem();
    let two = self_signed("two.example", Dates::Now).to_pem();
    let error = error(&one.certificates, &two.private_key);
    assert!(matches!(error, TlsError::KeyMismatch { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the private key in the given key pem does not belong to the certificate in the given \
         certificate pem"
    );
}

#[test]
fn the_key_must_belong_to_the_first_certificate_of_the_chain() {
    let authority = Authority::new();
    let node = authority.issue("node.example").to_pem();
    let other = authority.issue("other.example").to_pem();
    let chain = node.certificates.clone() + &other.certificates;
    let identity = Identity::from_pem(chain.as_bytes(), node.private_key.as_bytes()).unwrap();
    assert_eq!(identity.certificates().len(), 2);
    let reversed = other.certificates + &node.certificates;
    assert!(matches!(
        error(&reversed, &node.private_key),
        TlsError::KeyMismatch { .. }
    ));
}

#[test]
fn encrypted_damaged_and_unknown_keys_are_told_apart() {
    let pem = Identity::development().unwrap().to_pem();
    let pkcs8 = pem
        .private_key
        .replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let traditional = pem
        .private_key
        .replace("PRIVATE KEY", "EC PRIVATE KEY")
        .replacen(
            "-----\n",
            "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
            1,
        );
    for encrypted in [pkcs8, traditional] {
        let error = error(&pem.certificates, &encrypted);
        assert!(matches!(error, TlsError::EncryptedKey { .. }), "{error:?}");
    }
    let cut: String = pem
        .private_key
        .lines()
        .take(2)
        .collect::<Vec<_>>()
        .join("\n");
    let error_cut = error(&pem.certificates, &cut);
    assert!(matches!(error_cut, TlsError::Pem { .. }), "{error_cut:?}");
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let error_key = error(&pem.certificates, nonsense);
    assert!(matches!(error_key, TlsError::Key { .. }), "{error_key:?}");
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error_cert = error(nonsense, &pem.private_key);
    assert!(
        matches!(error_cert, TlsError::Certificate { .. }),
        "{error_cert:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_open_is_refused_with_its_path_and_mode() {
    let pem = Identity::development().unwrap().to_pem();
    let dir = Dir::new("modes");
    let certificate = write(&dir, "cert.pem", &pem.certificates, 0o644);
    for mode in [0o640, 0o604, 0o644, 0o620, 0o602, 0o666] {
        let key = write(&dir, "key.pem", &pem.private_key, mode);
        let error = Identity::from_pem_files(&certificate, &key).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "key file {} has mode {mode:04o}, open to others than its owner; chmod it to 0600",
                key.display()
            )
        );
        assert!(Identity::dangerous_from_exposed_key_file(&certificate, &key).is_ok());
    }
    for mode in [0o600, 0o400, 0o700] {
        let key = write(&dir, "key.pem", &pem.private_key, mode);
        assert!(
            Identity::from_pem_files(&certificate, &key).is_ok(),
            "{mode:o}"
        );
    }
}

#[test]
fn files_that_are_absent_or_endless_are_named() {
    let dir = Dir::new("absent");
    let absent = dir.0.join("absent.pem");
    let error = Roots::from_pem_file(&absent).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot read {}", absent.display())
    );
    assert!(std::error::Error::source(&error).is_some());
    #[cfg(unix)]
    assert!(matches!(
        Roots::from_pem_file("/dev/zero"),
        Err(TlsError::FileTooLarge { max, .. }) if max == 4 * 1024 * 1024
    ));
}

#[test]
fn roots_without_a_certificate_or_with_a_bad_one_are_refused() {
    assert_eq!(
        Roots::from_pem(b"").unwrap_err().to_string(),
        "no certificate in the given root pem"
    );
    assert!(matches!(Roots::from_der([]), Err(TlsError::Missing { .. })));
    let good = Identity::development().unwrap().to_pem().certificates;
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(
        Roots::from_pem(format!("{good}{bad}").as_bytes())
            .unwrap_err()
            .to_string(),
        "certificate 2 in the given root pem cannot be a root"
    );
    assert_eq!(
        format!(
            "{:?}",
            Roots::from_pem(format!("{good}{good}").as_bytes()).unwrap()
        ),
        "Roots(2)"
    );
}

#[test]
fn debug_never_shows_the_key() {
    let identity = Identity::development().unwrap();
    let pem = identity.to_pem();
    // A line of the key that stands in no certificate.
    let secret = pem.private_key.lines().nth(1).unwrap();
    let server = msgtrans_tls::ServerTls::new(identity.clone());
    let client = msgtrans_tls::ClientTls::new()
        .pin(identity.spki_pin())
        .identity(identity.clone());
    let der = format!("{:?}", identity.certificates()[0]);
    for shown in [
        format!("{identity:?}"),
        format!("{pem:?}"),
        format!("{server:?}"),
        format!("{:?}", server.reloader()),
        format!("{client:?}"),
    ] {
        assert!(shown.contains("redacted"), "{shown}");
        assert!(!shown.contains(secret) && !shown.contains(&der), "{shown}");
    }
}
