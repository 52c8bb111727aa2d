//! Certificate authorities that servers over TLS are checked against: files in PEM, read when a
//! connection is made and read again when they have changed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::upstream::{FileStamp, stamp};

/// Where distributions keep the authorities that a host trusts; the first that is there counts.
const PLACES: [&str; 5] = [
    // Debian, Ubuntu, Alpine, Arch
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    // openSUSE
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Most files that are remembered.
const REMEMBERED: usize = 64;

/// What connections need, by file. It has the sessions that can be resumed too.
#[derive(Default)]
pub(crate) struct Authorities(HashMap<PathBuf, (FileStamp, Arc<ClientConfig>)>);

impl Authorities {
    /// How servers are checked against the authorities of a file; `None` is the host's.
    ///
    /// # Errors
    /// In words when the file cannot be read, or has no certificate.
    pub(crate) fn config(&mut self, file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
        let mut places = PLACES.iter().map(Path::new);
        let file = file
            .or_else(|| places.find(|place| place.exists()))
            .ok_or_else(|| {
                format!(
                    "the host has no file of certificate authorities: {}",
                    PLACES.join(", ")
                )
            })?;
        let stamp = stamp(file);
        match self.0.get(file) {
            Some((known, config)) if *known == stamp && stamp.is_some() => {
                return Ok(Arc::clone(config));
            }
            _ => {}
        }
        let config = Arc::new(read(file)?);
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(file.to_owned(), (stamp, Arc::clone(&config)));
        Ok(config)
    }
}

fn read(file: &Path) -> Result<ClientConfig, String> {
    let shown = file.display();
    let text = fs::read(file)
        .map_err(|error| format!("certificate authorities {shown} cannot be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    // Hosts have certificates of authorities that nothing can be checked against; they are passed over.
    let certificates = CertificateDer::pem_slice_iter(&text).flatten();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(format!("{shown} has no certificate of an authority"));
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
