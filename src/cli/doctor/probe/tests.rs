use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn the_answer_to_another_question_proves_nothing() {
    let url = format!("https://{PROBE_AUTHORITY}/0a1b/curl");

    assert!(saw("plainsight-saw /0a1b/curl", &url));
    assert!(!saw("plainsight-saw /ffff/curl", &url));
    assert!(!saw("", &url));
}

#[test]
fn a_host_that_was_dialled_itself_is_told_from_a_proxy_that_was_not_there() {
    assert!(goes_around("curl: (7) Failed to connect to api.anthropic.com port 44788 after 0 ms"));
    assert!(goes_around("urllib.error.URLError: <urlopen error plainsight-around>"));
    assert!(!goes_around("curl: (7) Failed to connect to 127.0.0.1 port 8788 after 0 ms"));
}

#[test]
fn the_client_is_only_started_where_neither_variable_lets_it_around() {
    let proxy = ("HTTPS_PROXY", "http://127.0.0.1:8788");

    assert!(is_let_through(&environment(&[proxy, ("NO_PROXY", "localhost")])));
    assert!(!is_let_through(&environment(&[proxy, ("no_proxy", "localhost"), ("NO_PROXY", "*")])));
    assert!(!is_let_through(&environment(&[proxy, ("no_proxy", ".anthropic.com")])));
    assert!(!is_let_through(&environment(&[])));
}

#[test]
fn the_proxy_is_found_whatever_no_proxy_says() {
    let environment = environment(&[("https_proxy", "http://127.0.0.1:8788"), ("NO_PROXY", "*")]);
    let proxies = UpstreamProxies::from_environment(&environment).unwrap();

    let found = any_of(&proxies, &environment).unwrap();

    assert_eq!(found.authority().to_string(), "127.0.0.1:8788");
}

#[test]
fn each_runtime_has_its_own_fix() {
    let [curl, fetch, ..] = &RUNTIMES;
    let switched = environment(&[(NODE_SWITCH, "1")]);

    assert!(curl.fix(&Verdict::Untrusted, &switched).unwrap().contains("CURL_CA_BUNDLE"));
    assert!(fetch.fix(&Verdict::Around, &environment(&[])).unwrap().contains("NODE_USE_ENV_PROXY=1"));
    assert!(fetch.fix(&Verdict::Around, &switched).unwrap().contains("does not know"));
    assert!(fetch.fix(&Verdict::Seen, &switched).is_none());
}
