//! What OpenSSL and Python think of our certificates. These tests fail where the tools are missing: skipping them
//! would leave the first wall unproven.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::SanType;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tempfile::TempDir;

use crate::{
    ca::{CertificateAuthority, Scope, stored},
    model::Authority,
};

fn ca(names: &[&str], addresses: &[&str]) -> CertificateAuthority {
    let scope = Scope {
        names: names.iter().map(|name| (*name).into()).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        unconstrained: false,
    };
    CertificateAuthority::generate(scope, SystemTime::now(), Duration::from_hours(24)).unwrap()
}

fn unconstrained_ca() -> CertificateAuthority {
    let scope = Scope { unconstrained: true, ..Scope::default() };
    CertificateAuthority::generate(scope, SystemTime::now(), Duration::from_hours(24)).unwrap()
}

fn leaf(ca: &CertificateAuthority, host: &str) -> Arc<CertifiedKey> {
    ca.leaf(Authority::parse(host, Some(443)).unwrap().host(), SystemTime::now()).unwrap()
}

/// Signs past the wall in code.
fn forged(ca: &CertificateAuthority, name: SanType) -> Arc<CertifiedKey> {
    ca.sign(vec![name], SystemTime::now()).unwrap().certified
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn address(text: &str) -> SanType {
    SanType::IpAddress(text.parse().unwrap())
}

/// What `openssl verify` says, and whether it agrees.
fn openssl(ca: &CertificateAuthority, leaf: &CertifiedKey, more: &[&str]) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    let (ca_path, leaf_path) = (folder.path().join("ca.pem"), folder.path().join("leaf.pem"));
    fs::write(&ca_path, ca.certificate_pem()).unwrap();
    let body = STANDARD.encode(&leaf.cert[0]);
    fs::write(&leaf_path, format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
        .unwrap();
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore"])
        .args(more)
        .arg("-CAfile")
        .args([&ca_path, &leaf_path])
        .output()
        .expect("openssl is on PATH");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn openssl_accepts_leaves_strictly() {
    // PITFALLS 8, 10
    let ca = ca(&["api.example.com"], &["127.0.0.1", "::1"]);
    for (host, check) in [
        ("api.example.com", ["-verify_hostname", "api.example.com"]),
        ("deep.below.api.example.com", ["-verify_hostname", "deep.below.api.example.com"]),
        ("127.0.0.1", ["-verify_ip", "127.0.0.1"]),
        ("[::1]", ["-verify_ip", "::1"]),
    ] {
        let (accepted, said) = openssl(&ca, &leaf(&ca, host), &check);

        assert!(accepted, "{host}: {said}");
    }
    let (accepted, said) = openssl(&ca, &leaf(&ca, "127.0.0.1"), &["-verify_ip", "127.0.0.2"]);
    assert!(!accepted, "the check of the name looked at nothing: {said}");
}

#[test]
fn openssl_accepts_a_leaf_of_a_stored_ca() {
    // PITFALLS 8
    let data = TempDir::new().unwrap();
    let scope = Scope { names: vec!["example.com".into()], ..Scope::default() };
    stored::create(data.path(), scope, SystemTime::now()).unwrap();
    let ca = stored::load(data.path()).unwrap();

    let (accepted, said) = openssl(&ca, &leaf(&ca, "example.com"), &["-verify_hostname", "example.com"]);

    assert!(accepted, "{said}");
}

#[test]
fn openssl_refuses_leaves_outside_the_scope_though_signed() {
    // PITFALLS 12, 33
    let names_only = ca(&["api.example.com"], &[]);
    let with_address = ca(&["api.example.com"], &["127.0.0.1"]);
    let with_address_of_six = ca(&["api.example.com"], &["::1"]);
    let address_only = ca(&[], &["127.0.0.1"]);
    let nothing = ca(&[], &[]);
    let mail = || SanType::Rfc822Name("a@example.com".try_into().unwrap());
    let uri = || SanType::URI("https://api.example.com/".try_into().unwrap());
    for (what, ca, name) in [
        ("another name", &names_only, dns("example.org")),
        ("the name above", &names_only, dns("example.com")),
        ("a name that ends alike", &names_only, dns("evilapi.example.com")),
        ("a wildcard above", &names_only, dns("*.example.com")),
        ("an address", &names_only, address("127.0.0.1")),
        ("an address of version six", &names_only, address("::1")),
        ("mail", &names_only, mail()),
        ("a URI", &names_only, uri()),
        ("another address", &with_address, address("127.0.0.2")),
        ("the other version", &with_address, address("::1")),
        ("a mapped address", &with_address, address("::ffff:127.0.0.1")),
        ("another name beside an address", &with_address, dns("example.org")),
        ("another address of version six", &with_address_of_six, address("::2")),
        ("the other version, four", &with_address_of_six, address("127.0.0.1")),
        ("a name where only addresses are", &address_only, dns("api.example.com")),
        ("a name where nothing is", &nothing, dns("api.example.com")),
        ("an address where nothing is", &nothing, address("127.0.0.1")),
    ] {
        let free = unconstrained_ca();
        let (control, said) = openssl(&free, &forged(&free, name.clone()), &[]);
        assert!(control, "{what} is refused for another reason than the constraints: {said}");

        let (accepted, said) = openssl(ca, &forged(ca, name), &[]);

        assert!(!accepted, "{what} was accepted");
        assert!(said.contains("subtree violation"), "{what}: {said}");
    }
}

/// Connects with Python's `ssl`, strictly, to a server of ours that shows `leaf`.
fn python_handshake(ca: &CertificateAuthority, leaf: Arc<CertifiedKey>, name: &str) -> (bool, String) {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
        // A client that refuses us breaks off: its own word is what counts.
        let _ =
            stream.read(&mut [0; 4]).and_then(|_| stream.write_all(b"pong")).and_then(|()| stream.flush());
    });
    let folder = TempDir::new().unwrap();
    let ca_path = folder.path().join("ca.pem");
    fs::write(&ca_path, ca.certificate_pem()).unwrap();

    let output = Command::new("python3")
        .args(["-c", PYTHON_CLIENT])
        .arg(ca_path)
        .args([&port, name])
        .output()
        .unwrap();

    server.join().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

const PYTHON_CLIENT: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
with socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=20) as raw:
    with context.wrap_socket(raw, server_hostname=sys.argv[3]) as tls:
        tls.sendall(b"ping")
        assert tls.recv(4) == b"pong"
"#;

#[test]
fn python_accepts_leaves_strictly_over_a_real_handshake() {
    // PITFALLS 8, 10
    let ca = ca(&["api.example.com"], &["127.0.0.1", "::1"]);
    for (host, name) in [("api.example.com", "api.example.com"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")]
    {
        let (accepted, said) = python_handshake(&ca, leaf(&ca, host), name);

        assert!(accepted, "{host}: {said}");
    }
}

#[test]
fn python_refuses_leaves_outside_the_scope_though_signed() {
    // PITFALLS 12, 33: the test above is the positive control
    let ca = ca(&["api.example.com"], &[]);
    for (name, host) in [(dns("example.org"), "example.org"), (address("127.0.0.1"), "127.0.0.1")] {
        let (accepted, said) = python_handshake(&ca, forged(&ca, name), host);

        assert!(!accepted, "{host} was accepted");
        assert!(said.contains("subtree violation"), "{host}: {said}");
    }
}
