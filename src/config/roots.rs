use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::config::ConfigError;

/// Certificates that are trusted.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// Each once, as the system has them.
    pub certificates: Vec<CertificateDer<'static>>,
    /// What could not be read, for `doctor`.
    pub problems: Vec<String>,
}

impl Roots {
    /// All of them as PEM.
    pub fn to_pem(&self) -> String {
        self.certificates.iter().map(|certificate| pem(certificate)).collect()
    }
}

/// Reads the operating system's roots. Takes some milliseconds; macOS and Windows may take longer.
///
/// Where the user has set `SSL_CERT_FILE` or `SSL_CERT_DIR`, those are the system's roots, as they are for OpenSSL.
pub fn system_roots() -> Roots {
    let loaded = rustls_native_certs::load_native_certs();
    Roots { certificates: loaded.certs, problems: loaded.errors.iter().map(ToString::to_string).collect() }
}

/// Reads the user's additional roots (`--upstream-ca`).
///
/// # Errors
/// [`ConfigError::Io`]; [`ConfigError::NoRoots`] when the file holds no certificate, or a broken one.
pub fn upstream_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = fs::read(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
    let no_roots = |why: String| ConfigError::NoRoots { path: path.to_owned(), why };
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| no_roots(format!("no PEM file: {error}")))?;
    if certificates.is_empty() {
        return Err(no_roots("it holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let body = STANDARD.encode(certificate);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Characters in a line of PEM (RFC 7468). Some readers stop at longer ones.
const PEM_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_survive_pem() {
        let roots = Roots {
            certificates: [1, 47, 48, 49, 1000].map(|size| vec![7; size].into()).to_vec(),
            problems: Vec::new(),
        };

        let text = roots.to_pem();
        let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect();

        assert_eq!(read, roots.certificates);
        assert!(text.lines().all(|line| line.len() <= PEM_LINE));
    }

    #[test]
    fn a_file_of_roots_that_holds_none_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("corp.pem");
        fs::write(&path, Roots { certificates: vec![vec![1; 9].into()], problems: Vec::new() }.to_pem())
            .unwrap();
        assert_eq!(upstream_roots(&path).unwrap().len(), 1);

        fs::write(&path, "not PEM").unwrap();
        let empty = upstream_roots(&path).unwrap_err();
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").unwrap();
        let broken = upstream_roots(&path).unwrap_err();
        let missing = upstream_roots(&folder.path().join("gone.pem")).unwrap_err();

        assert!(matches!(empty, ConfigError::NoRoots { .. }));
        assert!(matches!(broken, ConfigError::NoRoots { .. }));
        assert!(matches!(missing, ConfigError::Io { .. }));
    }
}
