//! `msgtrans cert`: a development certificate in files, so that its pin outlives the server.

mod expiry;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use msgtrans::tls::Identity;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory for cert.pem and key.pem, made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Replace the files that are there
    #[arg(long)]
    force: bool,
}

/// Who may do what with the files. The certificate is shown to everybody who connects.
const CERT_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let cert = args.out.join("cert.pem");
    let key = args.out.join("key.pem");
    // Both before either is written: a key without its certificate serves nobody.
    for path in [&cert, &key] {
        if !args.force && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    let identity = Identity::development().map_err(Failure::failed)?;
    let pem = identity.to_pem();
    fs::create_dir_all(&args.out).map_err(|error| {
        Failure::failed(error).context(format!("cannot make {}", args.out.display()))
    })?;
    write(&key, &pem.private_key, KEY_MODE, args.force)?;
    if let Err(failure) = write(&cert, &pem.certificates, CERT_MODE, args.force) {
        // It belongs to nothing. That the certificate was not written is what the user must know.
        let _ = fs::remove_file(&key);
        return Err(failure);
    }
    tell(&cert, &key, &identity, output)?;
    Ok(())
}

fn exists(path: &Path) -> Failure {
    Failure::failed(format!("{} exists already", path.display()))
        .hint("--force replaces it; --out DIR writes elsewhere")
}

/// Writes a file that was not there: one that was may be open to others, or a link to elsewhere.
fn write(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), Failure> {
    let cannot = |error| Failure::failed(error).context(format!("cannot write {}", path.display()));
    if force {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(path)),
        Err(error) => return Err(cannot(error)),
    };
    file.write_all(text.as_bytes()).map_err(|error| {
        // Half a file helps nobody, and would be in the way of the next attempt.
        let _ = fs::remove_file(path);
        cannot(error)
    })
}

fn tell(cert: &Path, key: &Path, identity: &Identity, output: &Output) -> io::Result<()> {
    let pin = identity.spki_pin();
    let own = identity.certificates().first();
    let expires = own.and_then(|certificate| expiry::of(certificate));
    let (cert, key) = (cert.display(), key.display());
    if output.is_json() {
        let mut object = json!({
            "event": "certificate",
            "cert": cert.to_string(),
            "key": key.to_string(),
            "pin": pin.to_string(),
        });
        if let Some(expires) = expires {
            object["expires"] = json!(expires);
        }
        return output.object(&object);
    }
    let mut lines = format!("cert {cert}\nkey {key}\npin {pin}");
    if let Some(expires) = expires {
        lines.push_str("\nexpires ");
        lines.push_str(&expires);
    }
    output.line(&lines)?;
    output.chat(&format!(
        "for development, on this machine: msgtrans serve --echo --cert {cert} --key {key} quic://127.0.0.1:0"
    ));
    Ok(())
}
