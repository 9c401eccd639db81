use super::*;

const SOUND: [(&str, &str); 8] = [
    ("HTTPS_PROXY", "http://127.0.0.1:8788"),
    ("HTTP_PROXY", "http://127.0.0.1:8788"),
    ("https_proxy", "http://127.0.0.1:8788"),
    ("http_proxy", "http://127.0.0.1:8788"),
    ("NO_PROXY", "localhost"),
    ("no_proxy", "localhost"),
    ("NODE_EXTRA_CA_CERTS", "/there/ca.pem"),
    ("REQUESTS_CA_BUNDLE", "/there/bundle.pem"),
];

const MACHINE: Machine = Machine { listens: |_| true, reads: |path| path.starts_with("/there") };

/// What is said with a sound environment but for `changes`; an empty value takes a variable away.
fn said(changes: &[(&str, &str)], machine: &Machine) -> String {
    let mut environment: Environment =
        SOUND.iter().map(|(name, value)| (name.into(), value.into())).collect();
    environment.insert("SSL_CERT_FILE".into(), "/there/bundle.pem".into());
    for (name, value) in changes {
        environment.insert(name.into(), value.into());
    }
    let lines = warnings(&environment, machine).into_iter().map(|it| format!("{} {}\n", it.about, it.what));
    lines.collect()
}

#[test]
fn a_sound_way_and_none_at_all_need_no_warning() {
    assert_eq!(said(&[], &MACHINE), "");
    assert!(warnings(&Environment::new(), &MACHINE).is_empty());
}

#[test]
fn a_variable_in_upper_case_alone_is_named_with_its_fix() {
    let said = said(&[("https_proxy", "")], &MACHINE);

    assert!(said.starts_with("HTTPS_PROXY gRPC"), "{said}");
    assert!(said.contains("set https_proxy=http://127.0.0.1:8788 as well"), "{said}");
}

#[test]
fn two_cases_that_differ_are_named() {
    let said = said(&[("HTTPS_PROXY", "http://127.0.0.1:1")], &MACHINE);

    assert!(said.contains("HTTPS_PROXY names another proxy than https_proxy"), "{said}");
}

#[test]
fn a_star_sends_everything_around_the_proxy() {
    let said = said(&[("NO_PROXY", "a, *"), ("no_proxy", "a, *")], &MACHINE);

    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("no_proxy holds `*`"), "{said}");
}

#[test]
fn a_host_that_is_left_out_is_named() {
    let left_out = ("no_proxy", ".anthropic.com");

    let said = said(&[left_out, ("NO_PROXY", left_out.1)], &MACHINE);

    assert!(said.contains("api.anthropic.com:443 go around"), "{said}");
}

#[test]
fn a_port_where_nobody_listens_is_named() {
    let said = said(&[], &Machine { listens: |_| false, ..MACHINE });

    assert!(said.contains("nothing listens at 127.0.0.1:8788"), "{said}");
}

#[test]
fn a_bundle_that_is_missing_or_gone_is_named_with_whom_it_stops() {
    let said = said(&[("NODE_EXTRA_CA_CERTS", ""), ("SSL_CERT_FILE", "/gone.pem")], &MACHINE);

    assert!(said.contains("NODE_EXTRA_CA_CERTS is not set: the client and Node"), "{said}");
    assert!(said.contains("SSL_CERT_FILE /gone.pem cannot be read"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn the_proxy_of_another_machine_is_not_tried() {
    let elsewhere = "http://proxy.example:3128";
    let changes = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"].map(|name| (name, elsewhere));

    assert_eq!(said(&changes, &Machine { listens: |_| false, reads: |_| false }), "");
}

#[test]
fn a_port_of_this_machine_is_tried() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = Authority::parse(&listener.local_addr().unwrap().to_string(), None).unwrap();

    assert!(listens(&at));

    drop(listener);
    assert!(!listens(&at));
}
