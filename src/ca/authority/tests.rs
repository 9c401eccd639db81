use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::*;
use crate::model::Authority;

const DAY: Duration = Duration::from_hours(24);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

fn ca() -> CertificateAuthority {
    let scope = Scope {
        names: vec!["example.com".into()],
        addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        unconstrained: false,
    };
    CertificateAuthority::generate(scope, now(), 30 * DAY).unwrap()
}

fn leaf(ca: &CertificateAuthority, host: &str) -> Arc<CertifiedKey> {
    let host = Authority::parse(host, Some(443)).unwrap().host().clone();
    ca.leaf(&host, now()).unwrap()
}

fn parse(der: &CertificateDer<'_>) -> X509Certificate<'static> {
    // Leaked so that a test reads without lifetimes.
    X509Certificate::from_der(Vec::leak(der.to_vec())).unwrap().1
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> Vec<u8> {
    let id = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    id.unwrap()
}

fn authority_key_id(certificate: &X509Certificate<'_>) -> Vec<u8> {
    let id = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    id.unwrap()
}

#[test]
fn every_leaf_has_a_key_of_its_own() {
    // PITFALLS 7
    let ca = ca();
    let keys = [
        parse(ca.certificate()).public_key().subject_public_key.data.to_vec(),
        parse(&leaf(&ca, "example.com").cert[0]).public_key().subject_public_key.data.to_vec(),
        parse(&leaf(&ca, "example.com").cert[0]).public_key().subject_public_key.data.to_vec(),
    ];

    assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    assert!(leaf(&ca, "example.com").keys_match().is_ok());
}

#[test]
fn key_ids_lead_from_the_leaf_to_the_ca() {
    // PITFALLS 8
    let ca = ca();

    let leaf = parse(&leaf(&ca, "example.com").cert[0]);

    assert_eq!(authority_key_id(&leaf), subject_key_id(&parse(ca.certificate())));
    assert_ne!(subject_key_id(&leaf), authority_key_id(&leaf));
}

#[test]
fn the_authority_key_id_is_the_one_that_the_stored_ca_has_written_in_it() {
    // PITFALLS 8: an id that is no hash of the key, as another tool may have chosen it
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 20]);
    parameters.not_before = seconds(now() - DAY).unwrap();
    parameters.not_after = seconds(now() + DAY).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();

    let ca = CertificateAuthority::from_pem(&certificate.pem(), &key.serialize_pem()).unwrap();

    assert_eq!(authority_key_id(&parse(&leaf(&ca, "example.com").cert[0])), vec![7; 20]);
}

#[test]
fn a_leaf_is_valid_from_a_day_ago_for_a_week_in_all() {
    // PITFALLS 9
    let leaf = parse(&leaf(&ca(), "example.com").cert[0]);

    let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    assert_eq!(from, 1_900_000_000 - 86_400);
    assert_eq!(to - from, 7 * 86_400);
}

#[test]
fn a_leaf_never_outlives_its_ca() {
    // PITFALLS 9
    let scope = Scope { unconstrained: true, ..Scope::default() };
    let ca = CertificateAuthority::generate(scope, now(), Duration::from_hours(5)).unwrap();

    let leaf = parse(&leaf(&ca, "example.com").cert[0]);

    assert_eq!(leaf.validity().not_after, parse(ca.certificate()).validity().not_after);
    assert_eq!(leaf.validity().not_before, parse(ca.certificate()).validity().not_before);
}

#[test]
fn a_ca_that_clients_would_find_too_long_is_not_made() {
    // PITFALLS 9
    let generate = |days: u32| CertificateAuthority::generate(Scope::default(), now(), days * DAY);

    let longest = generate(823).unwrap();
    let validity = longest.not_after().duration_since(longest.not_before()).unwrap();
    assert!(validity < 825 * DAY);
    assert!(matches!(generate(824), Err(CaError::LifetimeTooLong)));
}

#[test]
fn an_expired_ca_signs_nothing() {
    let ca = ca();
    let host = Host::Domain("example.com".into());

    assert!(matches!(ca.leaf(&host, now() + 30 * DAY), Err(CaError::Expired)));
    assert!(matches!(ca.leaf(&host, now() - 2 * DAY), Err(CaError::Expired)));
}

#[test]
fn an_address_stands_in_an_address_and_a_name_in_a_name() {
    // PITFALLS 10
    let ca = ca();
    let names = |host: &str| {
        let leaf = parse(&leaf(&ca, host).cert[0]);
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        names.general_names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>()
    };

    let shown = |name: GeneralName<'_>| [format!("{name:?}")];
    assert_eq!(names("127.0.0.1"), shown(GeneralName::IPAddress(&[127, 0, 0, 1])));
    let six = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(names("[::1]"), shown(GeneralName::IPAddress(&six)));
    assert_eq!(names("api.example.com"), shown(GeneralName::DNSName("api.example.com")));
}

#[test]
fn serials_are_random_positive_and_of_one_length() {
    // PITFALLS 11
    let ca = ca();

    let serials: Vec<Vec<u8>> =
        (0..64).map(|_| parse(&leaf(&ca, "example.com").cert[0]).raw_serial().to_vec()).collect();

    assert!(serials.iter().all(|serial| serial.len() == 16 && (0x40..0x80).contains(&serial[0])));
    let mut distinct = serials.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), serials.len());
}

#[test]
fn two_cas_differ_by_name_too() {
    let (one, other) = (ca(), ca());

    assert_ne!(
        parse(one.certificate()).subject().to_string(),
        parse(other.certificate()).subject().to_string()
    );
    assert_ne!(one.fingerprint_sha256(), other.fingerprint_sha256());
}

#[test]
fn the_ca_may_sign_servers_and_nothing_else() {
    // PITFALLS 12
    let ca = parse(ca().certificate());

    let basic = ca.basic_constraints().unwrap().unwrap();
    let usage = ca.key_usage().unwrap().unwrap();
    let extended = ca.extended_key_usage().unwrap().unwrap();
    let constraints = ca.name_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(0));
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert!(extended.value.server_auth && !extended.value.any && !extended.value.client_auth);
    assert!(constraints.critical);
}

#[test]
fn a_leaf_is_a_servers_and_no_ca() {
    let leaf = parse(&leaf(&ca(), "example.com").cert[0]);

    let usage = leaf.key_usage().unwrap().unwrap();
    let extended = leaf.extended_key_usage().unwrap().unwrap();
    assert!(!leaf.is_ca());
    assert!(usage.value.digital_signature() && !usage.value.key_cert_sign());
    assert!(extended.value.server_auth && !extended.value.any && !extended.value.client_auth);
}

#[test]
fn what_lies_outside_the_scope_is_refused_in_code() {
    // PITFALLS 12
    let ca = ca();
    let sign = |host: &str| ca.leaf(Authority::parse(host, Some(443)).unwrap().host(), now());

    assert!(sign("example.com").is_ok());
    for host in ["example.org", "notexample.com", "127.0.0.2", "[::2]"] {
        assert!(matches!(sign(host), Err(CaError::OutsideScope(_))), "{host}");
    }
}

#[test]
fn debug_output_holds_no_key() {
    let ca = ca();

    let shown = format!("{ca:?}");

    assert!(ca.key_pem().expose().contains("PRIVATE KEY"));
    assert!(!shown.contains("KEY-----") && shown.len() < 400, "{shown}");
}
