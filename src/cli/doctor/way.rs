//! The way to a proxy, as the environment describes it: what would go around it, and what would fail on it. Looks at
//! variables, files and a port; starts nothing.

use std::{
    ffi::OsStr,
    fs::File,
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use crate::{
    claude::{Environment, UpstreamProxies},
    model::{Authority, Scheme},
    report::doctor::Warning,
};

/// What of the machine is looked at. Tests have one of their own.
pub(super) struct Machine {
    /// Whether something listens there.
    pub(super) listens: fn(&Authority) -> bool,
    /// Whether a file can be read.
    pub(super) reads: fn(&Path) -> bool,
}

impl Machine {
    /// This one.
    pub(super) const THIS: Self = Self { listens, reads: |path| File::open(path).is_ok() };
}

/// What would keep a program that is started with `environment` from being seen, each with what to do about it. Nothing
/// if no proxy is named: then nobody expects to see it.
pub(super) fn warnings(environment: &Environment, machine: &Machine) -> Vec<Warning> {
    let get = |name: &str| {
        environment.get(OsStr::new(name)).and_then(|value| value.to_str()).filter(|it| !it.is_empty())
    };
    let mut warnings = Vec::new();
    let proxies = match UpstreamProxies::from_environment(environment) {
        Ok(proxies) if proxies.is_empty() => return warnings,
        Ok(proxies) => proxies,
        Err(error) => return vec![Warning::new("proxy", &format!("{error}; no program gets through"))],
    };
    for (upper, lower) in CASES {
        match (get(upper), get(lower)) {
            (Some(value), None) => warnings.push(Warning::new(
                upper,
                &format!("gRPC and some SDKs read only {lower}, and go around the proxy; set {lower}={value} as well"),
            )),
            (Some(one), Some(other)) if one != other => warnings.push(Warning::new(
                upper,
                &format!("names another proxy than {lower}, and programs differ in which counts; set both alike"),
            )),
            _ => {}
        }
    }
    for name in ["NO_PROXY", "no_proxy"] {
        if get(name).is_some_and(|value| value.split([',', ' ']).any(|entry| entry.trim() == "*")) {
            warnings.push(Warning::new(name, "holds `*`: every program goes around the proxy; remove it"));
        }
    }
    let Ok(audited) = Authority::parse(AUDITED, None) else { return warnings };
    let Some(proxy) = proxies.choose(Scheme::Https, &audited) else {
        if !warnings.iter().any(|warning| warning.what.contains('*')) {
            let what = format!(
                "connections to {AUDITED} go around every proxy; set https_proxy and HTTPS_PROXY, and no no_proxy for it"
            );
            warnings.push(Warning::new("proxy", &what));
        }
        return warnings;
    };
    let at = proxy.authority();
    // Another machine's proxy is none of ours, and not ours to try.
    if !is_here(at) {
        return warnings;
    }
    if !(machine.listens)(at) {
        let what = format!(
            "nothing listens at {at}: every connection fails; start `plainsight proxy --listen {at}`, or unset the \
             proxy variables"
        );
        warnings.push(Warning::new("proxy", &what));
    }
    for (name, whose) in ROOTS {
        match get(name) {
            None => warnings.push(Warning::new(
                name,
                &format!("is not set: {whose} will not trust the proxy's certificates; `plainsight env` says what to set"),
            )),
            Some(path) if !(machine.reads)(Path::new(path)) => warnings.push(Warning::new(
                name,
                &format!("{path} cannot be read: {whose} will not trust the proxy's certificates; `plainsight env` writes it anew"),
            )),
            Some(_) => {}
        }
    }
    warnings
}

/// Whether a proxy is this machine's.
pub(super) fn is_here(authority: &Authority) -> bool {
    let text = authority.to_string();
    let host = text.rsplit_once(':').map_or(&*text, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

fn listens(authority: &Authority) -> bool {
    let Ok(addresses) = authority.to_string().to_socket_addrs() else { return false };
    let answers = |address: &SocketAddr| TcpStream::connect_timeout(address, PATIENCE).is_ok();
    addresses.take(MOST_ADDRESSES).any(|address| answers(&address))
}

/// Upper and lower case of the variables that name a proxy.
const CASES: [(&str, &str); 2] = [("HTTPS_PROXY", "https_proxy"), ("HTTP_PROXY", "http_proxy")];

/// Where the audited client's telemetry goes.
const AUDITED: &str = "api.anthropic.com:443";

/// By what a runtime trusts the proxy's authority, and whose it is.
const ROOTS: [(&str, &str); 3] = [
    ("NODE_EXTRA_CA_CERTS", "the client and Node"),
    ("REQUESTS_CA_BUNDLE", "Python's requests"),
    ("SSL_CERT_FILE", "OpenSSL, Python and Go"),
];

/// A port of this machine answers at once or not at all.
const PATIENCE: Duration = Duration::from_millis(300);

/// `localhost` has two.
const MOST_ADDRESSES: usize = 2;

#[cfg(test)]
mod tests;
