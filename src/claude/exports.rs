use std::{net::SocketAddr, path::PathBuf};

use crate::{
    claude::{Environment, otlp::parse_endpoint, text},
    model::{Authority, Scheme},
};

/// Where a child exports OpenTelemetry, and how it is told to do so by way of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtlpExports {
    /// The collectors that it was told of, each once.
    pub collectors: Vec<OtlpCollector>,
    /// Variables whose value is no endpoint: what is sent there is not seen.
    pub unreadable: Vec<&'static str>,
    endpoints: Vec<Endpoint>,
    insecure: Vec<&'static str>,
}

/// A collector, and what the child would show and trust there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpCollector {
    /// Cleartext or TLS.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// A PEM file with what its certificate is checked against.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the child's own certificate, and one with its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A variable that names a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    variable: &'static str,
    collector: usize,
    user_information: String,
    path: String,
}

/// The environment variables of one signal, or of all.
struct Variables {
    endpoint: &'static str,
    certificate: &'static str,
    client_certificate: &'static str,
    client_key: &'static str,
    insecure: &'static str,
    protocol: &'static str,
    exporter: &'static str,
    path: &'static str,
}

impl OtlpExports {
    /// Reads the environment that the child will have, its settings' `env` included.
    ///
    /// A signal that is exported by OTLP without an endpoint goes to this machine, on the port of its protocol.
    pub fn of(environment: &Environment) -> Self {
        let mut exports = Self::default();
        for variables in [&GENERAL, &SIGNALS[0], &SIGNALS[1], &SIGNALS[2], &BETA_TRACING] {
            if let Some(value) = text(environment, variables.endpoint) {
                exports.add(environment, variables, value);
            }
        }
        for variables in &SIGNALS {
            let exporters = text(environment, variables.exporter).unwrap_or_default();
            let is_named =
                [GENERAL.endpoint, variables.endpoint].iter().any(|name| text(environment, name).is_some());
            if is_named || !exporters.split(',').any(|exporter| exporter.trim() == "otlp") {
                continue;
            }
            let protocol =
                text(environment, variables.protocol).or_else(|| text(environment, GENERAL.protocol));
            let endpoint = match protocol {
                Some("grpc") => "http://localhost:4317".to_owned(),
                _ => format!("http://localhost:4318{}", variables.path),
            };
            exports.add(environment, variables, &endpoint);
        }
        let insecure = SIGNALS.iter().chain([&GENERAL]).map(|variables| variables.insecure);
        exports.insecure = insecure.filter(|name| text(environment, name).is_some()).collect();
        exports
    }

    /// The variables that send the child to the receivers: one address for each of [`Self::collectors`].
    pub fn rewritten(&self, receivers: &[SocketAddr]) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        for Endpoint { variable, collector, user_information, path } in &self.endpoints {
            if let Some(address) = receivers.get(*collector) {
                variables.push((*variable, format!("http://{user_information}{address}{path}")));
            }
        }
        // Some SDKs believe this one before the scheme.
        variables.extend(self.insecure.iter().map(|name| (*name, "true".to_owned())));
        variables
    }

    fn add(&mut self, environment: &Environment, variables: &Variables, value: &str) {
        let Some((collector, path)) = variables.collector(environment, value) else {
            self.unreadable.push(variables.endpoint);
            return;
        };
        let at = self.collectors.iter().position(|other| *other == collector).unwrap_or_else(|| {
            self.collectors.push(collector);
            self.collectors.len() - 1
        });
        let place = value.split_once("://").map_or(value, |(_, rest)| rest);
        let place = place.split(['/', '?', '#']).next().unwrap_or_default();
        let user_information = place.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
        self.endpoints.push(Endpoint { variable: variables.endpoint, collector: at, user_information, path });
    }
}

/// The collector at `endpoint`, and the path there, with the certificates that `environment` names for `signal`
/// (`logs`, `metrics`, `traces`) or for all. `None` if it is no endpoint.
pub fn otlp_collector(
    environment: &Environment,
    signal: Option<&str>,
    endpoint: &str,
) -> Option<(OtlpCollector, String)> {
    let of_signal = SIGNALS.iter().find(|variables| signal == Some(&variables.path["/v1/".len()..]));
    of_signal.unwrap_or(&GENERAL).collector(environment, endpoint)
}

impl Variables {
    fn collector(&self, environment: &Environment, value: &str) -> Option<(OtlpCollector, String)> {
        let insecure = text(environment, self.insecure).or_else(|| text(environment, GENERAL.insecure));
        let insecure = insecure.is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let (scheme, authority) = parse_endpoint(value, insecure)?;
        let file = |signal: &str, general: &str| {
            text(environment, signal).or_else(|| text(environment, general)).map(PathBuf::from)
        };
        let certificate = file(self.client_certificate, GENERAL.client_certificate)
            .or_else(|| text(environment, "CLAUDE_CODE_CLIENT_CERT").map(PathBuf::from));
        let key = file(self.client_key, GENERAL.client_key)
            .or_else(|| text(environment, "CLAUDE_CODE_CLIENT_KEY").map(PathBuf::from));
        let is_tls = scheme == Scheme::Https;
        let collector = OtlpCollector {
            scheme,
            authority,
            certificate: file(self.certificate, GENERAL.certificate).filter(|_| is_tls),
            identity: certificate.zip(key).filter(|_| is_tls),
        };
        let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
        let path = rest.find(['/', '?', '#']).map_or("", |end| &rest[end..]);
        Some((collector, path.to_owned()))
    }
}

const GENERAL: Variables = Variables {
    endpoint: "OTEL_EXPORTER_OTLP_ENDPOINT",
    certificate: "OTEL_EXPORTER_OTLP_CERTIFICATE",
    client_certificate: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    client_key: "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    insecure: "OTEL_EXPORTER_OTLP_INSECURE",
    protocol: "OTEL_EXPORTER_OTLP_PROTOCOL",
    exporter: "",
    path: "",
};

/// The client's own beta of detailed traces; its certificates are the general ones.
const BETA_TRACING: Variables = Variables { endpoint: "BETA_TRACING_ENDPOINT", ..GENERAL };

const SIGNALS: [Variables; 3] = [
    Variables {
        endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        certificate: "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        client_certificate: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        client_key: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        insecure: "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        exporter: "OTEL_TRACES_EXPORTER",
        path: "/v1/traces",
    },
    Variables {
        endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        certificate: "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
        client_certificate: "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
        client_key: "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
        insecure: "OTEL_EXPORTER_OTLP_METRICS_INSECURE",
        protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        exporter: "OTEL_METRICS_EXPORTER",
        path: "/v1/metrics",
    },
    Variables {
        endpoint: "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        certificate: "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE",
        client_certificate: "OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE",
        client_key: "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY",
        insecure: "OTEL_EXPORTER_OTLP_LOGS_INSECURE",
        protocol: "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        exporter: "OTEL_LOGS_EXPORTER",
        path: "/v1/logs",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn exports(variables: &[(&str, &str)]) -> OtlpExports {
        OtlpExports::of(&variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn rewritten(exports: &OtlpExports) -> Vec<(&'static str, String)> {
        let address = |at: usize| SocketAddr::from(([127, 0, 0, 1], 5000 + at as u16));
        exports.rewritten(&(0..exports.collectors.len()).map(address).collect::<Vec<_>>())
    }

    fn pair(name: &'static str, value: &str) -> (&'static str, String) {
        (name, value.to_owned())
    }

    #[test]
    fn endpoints_keep_their_path_and_lose_their_host() {
        let exports = exports(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4318/otlp/"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://jo:x@logs.example/v1/logs?a=b"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector.example:4318"),
        ]);

        assert_eq!(exports.collectors.len(), 2);
        assert_eq!(
            rewritten(&exports),
            [
                pair("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:5000/otlp/"),
                pair("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:5000"),
                pair("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://jo:x@127.0.0.1:5001/v1/logs?a=b"),
            ]
        );
    }

    #[test]
    fn an_endpoint_without_a_scheme_gets_one_and_no_tls() {
        let exports = exports(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector.example:4317"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
        ]);

        assert_eq!(exports.collectors[0].scheme, Scheme::Https);
        assert_eq!(
            rewritten(&exports),
            [
                pair("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:5000"),
                pair("OTEL_EXPORTER_OTLP_INSECURE", "true"),
            ]
        );
    }

    #[test]
    fn an_exporter_without_an_endpoint_goes_to_this_machine() {
        let exports = exports(&[
            ("OTEL_LOGS_EXPORTER", "console,otlp"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_METRICS_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
        ]);

        let authorities: Vec<_> =
            exports.collectors.iter().map(|found| found.authority.to_string()).collect();
        assert_eq!(authorities, ["localhost:4317", "localhost:4318"]);
        assert_eq!(
            rewritten(&exports),
            [
                pair("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:5000"),
                pair("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://127.0.0.1:5001/v1/logs"),
            ]
        );
    }

    #[test]
    fn certificates_belong_to_their_signal_and_to_tls() {
        let exports = exports(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example:4317"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://c.example:4317"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://c.example:4317"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/root.pem"),
            ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/metrics.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/me.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/me.key"),
        ]);

        let [general, metrics, logs] = &exports.collectors[..] else { unreachable!("{exports:?}") };
        assert_eq!(general.certificate, Some("/root.pem".into()));
        assert_eq!(general.identity, Some(("/me.pem".into(), "/me.key".into())));
        assert_eq!(metrics.certificate, Some("/metrics.pem".into()));
        assert_eq!((&logs.certificate, &logs.identity), (&None, &None));
    }

    #[test]
    fn who_exports_nothing_is_left_alone() {
        let nothing =
            exports(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")]);
        let unreadable = exports(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///run/x")]);

        assert!(nothing.collectors.is_empty());
        assert_eq!(unreadable.unreadable, ["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    }
}
