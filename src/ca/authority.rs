use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::{
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{
    ca::{CaError, Scope},
    model::{Host, Secret},
};

/// A certificate authority with its key in memory.
pub struct CertificateAuthority {
    scope: Scope,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// A signed leaf and when it is valid.
pub(super) struct Leaf {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl CertificateAuthority {
    /// Makes a CA with a key of its own, valid from a day ago until `lifetime` after `now`.
    ///
    /// # Errors
    /// [`CaError::LifetimeTooLong`] above [`MAX_CA_VALIDITY`]; [`CaError::ScopeName`] for a name that is none.
    pub fn generate(scope: Scope, now: SystemTime, lifetime: Duration) -> Result<Self, CaError> {
        let scope = scope.normalised()?;
        if lifetime > MAX_CA_VALIDITY.saturating_sub(BACKDATED) {
            return Err(CaError::LifetimeTooLong);
        }
        let (not_before, not_after) = (seconds(now - BACKDATED)?, seconds(now + lifetime)?);
        let mut tag = [0; 4];
        getrandom::fill(&mut tag).map_err(CaError::Random)?;
        let mut parameters = CertificateParams::default();
        parameters.serial_number = Some(random_serial()?);
        parameters.not_before = not_before;
        parameters.not_after = not_after;
        // Verifiers look up issuers by name: two CAs of ours must not share one.
        parameters.distinguished_name = name(&format!("plainsight CA {}", hex(&tag)));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if let Some(constraints) = scope.to_name_constraints() {
            let mut extension = CustomExtension::from_oid_content(OID_NAME_CONSTRAINTS, constraints);
            extension.set_criticality(true);
            parameters.custom_extensions.push(extension);
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = parameters.self_signed(&key)?;
        Self::from_parts(certificate.der().clone(), certificate.pem(), key)
            .map_err(|why| CaError::Damaged { path: "(new)".into(), why })
    }

    /// Reads what [`Self::certificate_pem`] and [`Self::key_pem`] wrote; the text says what is wrong.
    pub(super) fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| "it holds no certificate in PEM".to_owned())?;
        let key = KeyPair::from_pem_and_sign_algo(key_pem, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|_| "it holds no P-256 key in PEM".to_owned())?;
        Self::from_parts(certificate, certificate_pem.to_owned(), key)
    }

    fn from_parts(
        certificate: CertificateDer<'static>,
        certificate_pem: String,
        key: KeyPair,
    ) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
        if parsed.public_key().subject_public_key.data != key.der_bytes() {
            return Err("key and certificate do not belong together".to_owned());
        }
        if !parsed.is_ca() {
            return Err("the certificate is not a CA's".to_owned());
        }
        let constraints = parsed.name_constraints().map_err(|error| error.to_string())?;
        let scope = Scope::from_name_constraints(constraints.map(|extension| extension.value));
        let time = |timestamp: i64| {
            u64::try_from(timestamp)
                .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
                .map_err(|_| "its validity starts before 1970".to_owned())
        };
        let not_before = time(parsed.validity().not_before.timestamp())?;
        let not_after = time(parsed.validity().not_after.timestamp())?;
        // Takes over name and SKI exactly as they stand in the certificate: a leaf's AKI must equal that SKI.
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { scope, certificate, certificate_pem, issuer, not_before, not_after })
    }

    /// Signs for `host` with a fresh key of its own, valid from a day ago for at most [`MAX_LEAF_VALIDITY`], and
    /// never longer than the CA. Costs about a tenth of a millisecond; [`crate::ca::LeafCache`] saves it.
    ///
    /// # Errors
    /// [`CaError::OutsideScope`] for a host that this CA does not sign for, [`CaError::Expired`] after its end.
    pub fn leaf(&self, host: &Host, now: SystemTime) -> Result<Arc<CertifiedKey>, CaError> {
        self.mint(host, now).map(|leaf| leaf.certified)
    }

    pub(super) fn mint(&self, host: &Host, now: SystemTime) -> Result<Leaf, CaError> {
        // The second wall: the certificate's constraints are the first, but not every client looks at them.
        if !self.scope.permits(host) {
            return Err(CaError::OutsideScope(host.to_string()));
        }
        self.sign(vec![subject_alternative_name(host)?], now)
    }

    /// Signs without asking whether it may: for [`Self::mint`], and for tests of the first wall.
    pub(super) fn sign(&self, names: Vec<SanType>, now: SystemTime) -> Result<Leaf, CaError> {
        if now < self.not_before || now >= self.not_after {
            return Err(CaError::Expired);
        }
        let not_before = (now - BACKDATED).max(self.not_before);
        let not_after = (now + (MAX_LEAF_VALIDITY - BACKDATED)).min(self.not_after);
        let mut parameters = CertificateParams::default();
        parameters.serial_number = Some(random_serial()?);
        parameters.not_before = seconds(not_before)?;
        parameters.not_after = seconds(not_after)?;
        // No host name here: it belongs in the SAN, and some verifiers take a CN with a dot for a DNS name.
        parameters.distinguished_name = name("plainsight leaf");
        parameters.subject_alt_names = names;
        // Written out, for rcgen adds a subject key id only to a certificate that says whether it is a CA.
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let signing_key =
            any_ecdsa_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())))?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.into()], signing_key));
        Ok(Leaf { certified, not_before, not_after })
    }

    /// What it signs for.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The certificate, DER.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate, PEM: what clients are told to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// SHA-256 of the certificate as OpenSSL shows it: `AB:CD:…`.
    pub fn fingerprint_sha256(&self) -> String {
        let digest = digest::digest(&digest::SHA256, &self.certificate);
        let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// When it begins to be valid.
    pub const fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When it ceases to be valid.
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(super) fn key_pem(&self) -> Secret<String> {
        Secret::new(self.issuer.key().serialize_pem())
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("fingerprint", &self.fingerprint_sha256())
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// An address is an iPAddress, never a DNS name that looks like one.
fn subject_alternative_name(host: &Host) -> Result<SanType, CaError> {
    Ok(match host {
        Host::Domain(name) => SanType::DnsName(name.to_string().try_into()?),
        Host::Ip(address) => SanType::IpAddress(*address),
    })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "plainsight");
    name.push(DnType::CommonName, common_name);
    name
}

/// 128 bits, positive, and never shorter: the first byte lies between 0x40 and 0x7f.
fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(CaError::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn seconds(time: SystemTime) -> Result<OffsetDateTime, CaError> {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(CaError::LifetimeTooLong)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Clocks of containers and virtual machines run late; a day covers time zones set wrongly, too.
const BACKDATED: Duration = Duration::from_hours(24);

/// Longest validity of a leaf: it lives in memory only, and a copied one soon is worthless.
pub const MAX_LEAF_VALIDITY: Duration = Duration::from_hours(7 * 24);

/// Longest validity of a CA. Apple's verifiers refuse 825 days and more for what a user has added by hand.
pub const MAX_CA_VALIDITY: Duration = Duration::from_hours(824 * 24);

const OID_NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

#[cfg(test)]
mod tests;
