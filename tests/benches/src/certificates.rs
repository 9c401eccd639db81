//! Certificates of one run: the origin's, and those that the peers sign. Made at start, never stored beyond the run.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};

use crate::Failure;

/// The names that the origin answers to.
const ORIGIN_NAMES: [&str; 4] = ["api.anthropic.com", "*.bench.test", "localhost", "127.0.0.1"];

/// A CA of this run.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA that says `name`.
    pub fn new(name: &str) -> Result<Self, Failure> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)? })
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The private key as PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server's TLS side with a fresh leaf for `names`, which speaks `protocols`.
    pub fn server(&self, names: &[&str], protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, Failure> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut parameters = CertificateParams::new(names)?;
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = parameters.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut server =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key)?;
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(server))
    }

    /// The origin's TLS side.
    pub fn origin(&self, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, Failure> {
        self.server(&ORIGIN_NAMES, protocols)
    }
}

/// A client's TLS side that trusts the CA at `path` alone.
pub fn client(path: &Path, protocols: &[&[u8]]) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(path)?) {
        roots.add(certificate?)?;
    }
    let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(client)
}
