//! Receivers for OpenTelemetry: from what was configured to what the proxy is told.

use std::{net::SocketAddr, path::Path, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    claude::{Environment, OtlpCollector, otlp_collector},
    cli::exit::Failure,
    config,
    model::Scheme,
    proxy::{CollectorConfig, CollectorPath, CollectorTls, Identity, ReceiverConfig, Signal, Takes},
};

/// A receiver for everything that a child sends to one collector.
pub(super) fn for_child(
    collector: &OtlpCollector,
    listen: SocketAddr,
    environment: &Environment,
    roots: &RootCertStore,
) -> ReceiverConfig {
    let collector = CollectorConfig {
        takes: Takes::Everything,
        scheme: collector.scheme,
        authority: collector.authority.clone(),
        path: CollectorPath::AsSent,
        // The child sends its own.
        headers: HeaderMap::new(),
        tls: tls(collector, environment, roots),
    };
    ReceiverConfig { listen, collectors: vec![collector] }
}

/// The collectors of a receiver that stands for itself: `endpoints` (`[KEY=]URL`), else what the environment names.
pub(super) fn collectors(
    endpoints: &[String],
    environment: &Environment,
    roots: &RootCertStore,
) -> Result<Vec<CollectorConfig>, Failure> {
    let text = |name: &str| environment.get(std::ffi::OsStr::new(name)).and_then(|value| value.to_str());
    let named: Vec<(&str, &str)> = if endpoints.is_empty() {
        let variables = [
            ("logs", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"),
            ("metrics", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
            ("traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            ("", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ];
        let set = variables.into_iter().filter_map(|(key, name)| Some((key, text(name)?)));
        set.filter(|(_, value)| !value.trim().is_empty()).collect()
    } else {
        endpoints.iter().map(|endpoint| split(endpoint)).collect()
    };
    if named.is_empty() {
        return Err(Failure(
            "--otlp wants to know where to send what it receives: --otlp-endpoint URL, or OTEL_EXPORTER_OTLP_ENDPOINT"
                .to_owned(),
        ));
    }
    let mut collectors = Vec::new();
    for (key, url) in named {
        let signal = Some(key).filter(|key| matches!(*key, "logs" | "metrics" | "traces"));
        let (collector, path) = otlp_collector(environment, signal, url.trim()).ok_or_else(|| {
            Failure(format!("`{url}` is no endpoint: a URL, such as https://collector.example:4318"))
        })?;
        let has_path = !matches!(path.as_str(), "" | "/");
        let path = match (signal, has_path) {
            (_, false) => CollectorPath::AsSent,
            (Some(_), true) => CollectorPath::Exactly(path.into()),
            (None, true) => CollectorPath::Below(path.into()),
        };
        let mut headers = HeaderMap::new();
        let of_signal =
            signal.map(|signal| format!("OTEL_EXPORTER_OTLP_{}_HEADERS", signal.to_ascii_uppercase()));
        for name in ["OTEL_EXPORTER_OTLP_HEADERS"].into_iter().chain(of_signal.as_deref()) {
            for (field, value) in header_list(text(name).unwrap_or_default()) {
                headers.insert(field, value);
            }
        }
        let takes = match key {
            "grpc" => Takes::Grpc,
            "http" => Takes::Http,
            "logs" => Takes::Signal(Signal::Logs),
            "metrics" => Takes::Signal(Signal::Metrics),
            "traces" => Takes::Signal(Signal::Traces),
            _ => Takes::Everything,
        };
        collectors.push(CollectorConfig {
            takes,
            scheme: collector.scheme,
            authority: collector.authority.clone(),
            path,
            headers,
            tls: tls(&collector, environment, roots),
        });
    }
    // The narrow ones are asked first, whatever their order.
    collectors.sort_by_key(|collector| match collector.takes {
        Takes::Signal(_) => 0,
        Takes::Grpc | Takes::Http => 1,
        Takes::Everything => 2,
    });
    Ok(collectors)
}

/// Splits `logs=http://…`; a URL alone is for everything.
fn split(endpoint: &str) -> (&str, &str) {
    match endpoint.split_once('=') {
        Some((key @ ("grpc" | "http" | "logs" | "metrics" | "traces"), url)) => (key, url),
        _ => ("", endpoint),
    }
}

/// `name=value,name=value` with percent escapes, as OpenTelemetry writes header fields.
fn header_list(text: &str) -> Vec<(HeaderName, HeaderValue)> {
    let field = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let mut value = HeaderValue::from_bytes(&unescaped(value.trim())).ok()?;
        value.set_sensitive(true);
        Some((name.trim().parse().ok()?, value))
    };
    text.split(',').filter_map(field).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) if *byte == b'%' => {
                plain.push(decoded);
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

/// What the child would have trusted and shown. A file that cannot be used is said and left out, as SDKs do.
fn tls(collector: &OtlpCollector, environment: &Environment, roots: &RootCertStore) -> Option<CollectorTls> {
    if collector.scheme == Scheme::Http {
        return None;
    }
    let mut own = collector.certificate.as_deref().and_then(|path| {
        let mut own = RootCertStore::empty();
        let certificates = certificates(path)?;
        own.add_parsable_certificates(certificates);
        Some(own)
    });
    let added = environment.get(std::ffi::OsStr::new("NODE_EXTRA_CA_CERTS")).filter(|path| !path.is_empty());
    if let Some(added) = added.and_then(|path| config::upstream_roots(Path::new(path)).ok()) {
        own.get_or_insert_with(|| roots.clone()).add_parsable_certificates(added);
    }
    let identity = collector.identity.as_ref().and_then(|(certificate, key)| {
        let certificates = certificates(certificate)?;
        match PrivateKeyDer::from_pem_file(key) {
            Ok(key) => Some(Arc::new(Identity { certificates, key })),
            Err(error) => {
                eprintln!("plainsight: {}: {error}; the collector gets no client certificate", key.display());
                None
            }
        }
    });
    (own.is_some() || identity.is_some()).then_some(CollectorTls { roots: own, identity })
}

fn certificates(path: &Path) -> Option<Vec<CertificateDer<'static>>> {
    config::upstream_roots(path)
        .inspect_err(|error| eprintln!("plainsight: {error}; left out for the collector"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(endpoints: &[&str], variables: &[(&str, &str)]) -> Result<Vec<CollectorConfig>, Failure> {
        let endpoints: Vec<String> = endpoints.iter().map(|text| (*text).to_owned()).collect();
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        collectors(&endpoints, &environment, &RootCertStore::empty())
    }

    #[test]
    fn endpoints_come_from_flags_narrow_ones_first() {
        let collectors = found(
            &[
                "http://all.example:4318/otlp",
                "grpc=https://grpc.example:4317",
                "logs=http://logs.example:9428/insert/opentelemetry/v1/logs",
            ],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://not.asked")],
        )
        .unwrap();

        let seen: Vec<_> =
            collectors.iter().map(|it| (it.takes, it.authority.to_string(), it.path.clone())).collect();
        assert_eq!(
            seen,
            [
                (
                    Takes::Signal(Signal::Logs),
                    "logs.example:9428".to_owned(),
                    CollectorPath::Exactly("/insert/opentelemetry/v1/logs".into())
                ),
                (Takes::Grpc, "grpc.example:4317".to_owned(), CollectorPath::AsSent),
                (Takes::Everything, "all.example:4318".to_owned(), CollectorPath::Below("/otlp".into())),
            ]
        );
    }

    #[test]
    fn the_environment_says_where_when_no_flag_does_and_with_which_header_fields() {
        let collectors = found(
            &[],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20eDp5, x-scope = a"),
            ],
        )
        .unwrap();

        let headers = &collectors[0].headers;
        assert_eq!(
            (&headers["authorization"], &headers["x-scope"]),
            (&HeaderValue::from_static("Basic eDp5"), &HeaderValue::from_static("a"))
        );
        assert!(!format!("{collectors:?}").contains("eDp5"));
    }

    #[test]
    fn without_an_endpoint_it_is_said_how_to_name_one() {
        let error = found(&[], &[]).unwrap_err().to_string();

        assert!(error.contains("--otlp-endpoint URL"), "{error}");
        assert!(found(&["ftp://x"], &[]).is_err());
    }
}
