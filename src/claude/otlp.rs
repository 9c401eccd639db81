use crate::{
    claude::{Environment, text},
    model::{Authority, Scheme},
};

/// Where the client was told to send OpenTelemetry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtlpEndpoints {
    /// Each once, in order of the variables.
    pub endpoints: Vec<OtlpEndpoint>,
    /// Variables whose value is no endpoint: their telemetry would not be seen.
    pub unreadable: Vec<&'static str>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// The variable that names it.
    pub variable: &'static str,
    /// Cleartext or TLS.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
}

/// Reads the endpoints out of the environment that the client will have, its settings' `env` included.
///
/// Values are URLs, or `host:port` as gRPC allows; without a scheme TLS is assumed, unless
/// `OTEL_EXPORTER_OTLP_INSECURE` is true.
pub fn otlp_endpoints(environment: &Environment) -> OtlpEndpoints {
    let insecure = text(environment, "OTEL_EXPORTER_OTLP_INSECURE")
        .is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let mut found = OtlpEndpoints::default();
    for variable in VARIABLES {
        let Some(value) = text(environment, variable) else { continue };
        match parse_endpoint(value, insecure) {
            Some((scheme, authority)) => {
                if !found.endpoints.iter().any(|other| other.authority == authority && other.scheme == scheme)
                {
                    found.endpoints.push(OtlpEndpoint { variable, scheme, authority });
                }
            }
            None => found.unreadable.push(variable),
        }
    }
    found
}

/// Whom an endpoint names.
pub(super) fn parse_endpoint(value: &str, insecure: bool) -> Option<(Scheme, Authority)> {
    let without_scheme = if insecure { Scheme::Http } else { Scheme::Https };
    let (scheme, rest, default_port) = match value.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest, 80),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest, 443),
        Some(_) => return None,
        None => (without_scheme, value, GRPC_PORT),
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let without_user = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some((scheme, Authority::parse(without_user, Some(default_port)).ok()?))
}

const VARIABLES: [&str; 5] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "BETA_TRACING_ENDPOINT",
];

/// Where OTLP over gRPC goes when no port is named.
const GRPC_PORT: u16 = 4317;

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let found = otlp_endpoints(&environment);
        let shown =
            |endpoint: &OtlpEndpoint| format!("{}://{}", endpoint.scheme.as_str(), endpoint.authority);
        found
            .endpoints
            .iter()
            .map(shown)
            .chain(found.unreadable.iter().map(|name| format!("?{name}")))
            .collect()
    }

    #[test]
    fn every_signal_may_have_an_endpoint_of_its_own() {
        let found = endpoints(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4318"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs.example/v1/logs"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://jo:x@metrics.example/v1/metrics?a=b"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector.example:4318/v1/traces"),
            ("BETA_TRACING_ENDPOINT", "http://[::1]:9000"),
        ]);

        assert_eq!(
            found,
            [
                "https://collector.example:4318",
                "https://metrics.example:443",
                "http://logs.example:80",
                "http://[::1]:9000"
            ]
        );
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_grpc_s() {
        let name = "OTEL_EXPORTER_OTLP_ENDPOINT";

        assert_eq!(endpoints(&[(name, "collector:4317")]), ["https://collector:4317"]);
        assert_eq!(
            endpoints(&[(name, "collector"), ("OTEL_EXPORTER_OTLP_INSECURE", "True")]),
            ["http://collector:4317"]
        );
    }

    #[test]
    fn what_is_no_endpoint_is_named() {
        assert_eq!(endpoints(&[("BETA_TRACING_ENDPOINT", "unix:///run/x")]), ["?BETA_TRACING_ENDPOINT"]);
        assert_eq!(endpoints(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Vec::<String>::new());
    }
}
