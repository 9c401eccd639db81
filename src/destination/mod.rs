//! Who is this for? Classifies a request by host, method, path and content type. The catalogue is data
//! (`rules/destinations.toml`); this room only reads it. It knows nothing of bodies and decides nothing.

mod spec;

use std::sync::Arc;

use crate::model::{
    Authority, AuthorityPattern, Destination, DestinationId, DestinationKind, PathPattern, PatternReach,
    RequestHead,
};

pub use spec::CatalogueError;

/// The catalogue that is built in.
pub const EMBEDDED: &str = include_str!("../../rules/destinations.toml");

/// One row: a destination and how it is recognised.
#[derive(Clone, Debug)]
pub struct Row {
    /// What a request to it is classified as.
    pub destination: Destination,
    /// A short name for people.
    pub title: Arc<str>,
    /// Who receives it.
    pub owner: Arc<str>,
    /// What is sent there, in a sentence.
    pub purpose: Arc<str>,
    /// Client versions in which it was seen.
    pub versions: Option<Arc<str>>,
    /// Whether its hosts are decrypted without being asked for.
    pub intercept: bool,
    hosts: Vec<AuthorityPattern>,
    methods: Vec<String>,
    paths: Vec<PathPattern>,
    types: Vec<String>,
}

impl Row {
    /// The hosts, as they are written in the catalogue.
    pub fn hosts(&self) -> &[AuthorityPattern] {
        &self.hosts
    }

    fn matches(&self, head: &RequestHead) -> bool {
        let path = head.path().trim_matches('/');
        let content_type = head.header("content-type").unwrap_or_default();
        self.hosts.iter().any(|host| host.matches(&head.authority))
            && (self.methods.is_empty() || self.methods.iter().any(|method| method == head.method.as_str()))
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches_segments_of(path)))
            && (self.types.is_empty()
                || self.types.iter().any(|wanted| content_type.starts_with(wanted.as_str())))
    }
}

/// All destinations that are known, in order of precedence.
#[derive(Clone, Debug)]
pub struct Catalogue {
    rows: Vec<Row>,
}

impl Catalogue {
    /// Reads a catalogue. `name` is the file's name, for errors.
    ///
    /// # Errors
    /// A file that is no TOML, has unknown or missing keys, bad patterns, or an id twice.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, CatalogueError> {
        spec::parse(name, text).map(|rows| Self { rows })
    }

    /// The built-in catalogue.
    pub fn embedded() -> Self {
        Self::from_toml("destinations.toml", EMBEDDED).expect("the embedded catalogue is read in a test")
    }

    /// Every row, in order of precedence.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row with this id.
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.destination.id.as_str() == id)
    }

    /// Says whom a request is for. What no row knows is a third party.
    pub fn classify(&self, head: &RequestHead) -> Destination {
        self.rows.iter().find(|row| row.matches(head)).map_or_else(third_party, |row| row.destination.clone())
    }

    /// Whom a tunnel to `authority` is for, as far as the host alone can tell.
    pub fn classify_host(&self, authority: &Authority) -> Destination {
        let named = |row: &&Row| {
            row.hosts.iter().any(|host| host.reach() != PatternReach::Unbounded && host.matches(authority))
        };
        let rows: Vec<&Row> = self.rows.iter().filter(named).collect();
        // A host of several rows is known by none of them: only the path would tell.
        match rows.as_slice() {
            [row] => Destination { inspected: false, ..row.destination.clone() },
            _ => Destination { inspected: false, ..third_party() },
        }
    }

    /// Whether `authority` is decrypted without being asked for.
    pub fn intercepts(&self, authority: &Authority) -> bool {
        self.intercepted().any(|host| host.matches(authority))
    }

    /// The hosts that are decrypted without being asked for.
    pub fn intercepted(&self) -> impl Iterator<Item = &AuthorityPattern> {
        self.rows.iter().filter(|row| row.intercept).flat_map(|row| &row.hosts)
    }
}

fn third_party() -> Destination {
    Destination {
        id: DestinationId::new(DestinationKind::ThirdParty.as_str()),
        kind: DestinationKind::ThirdParty,
        inspected: true,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Version};

    use crate::model::Scheme;

    use super::*;

    fn head(method: &str, authority: &str, target: &str) -> RequestHead {
        RequestHead {
            scheme: Scheme::Https,
            authority: Authority::parse(authority, Some(443)).unwrap(),
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            target: target.to_owned(),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
        }
    }

    fn classified(method: &str, authority: &str, target: &str) -> String {
        Catalogue::embedded().classify(&head(method, authority, target)).id.to_string()
    }

    #[test]
    fn every_row_of_the_facts_is_recognised() {
        for (method, host, target, expected) in [
            ("POST", "api.anthropic.com", "/api/claude_code/metrics", "first-party-metrics"),
            ("POST", "api.anthropic.com", "/api/event_logging/batch", "first-party-events"),
            ("POST", "api.anthropic.com", "/api/event_logging/v2/batch", "first-party-events"),
            ("POST", "api.anthropic.com", "/api/eval/sdk-zAZ", "feature-flags"),
            ("GET", "api.anthropic.com", "/api/claude_code/organizations/metrics_enabled", "metrics-opt-out"),
            ("POST", "statsig.anthropic.com", "/v1/initialize?k=x", "statsig"),
            ("POST", "statsigapi.net", "/v1/sdk_exception", "statsig"),
            ("POST", "o1.ingest.us.sentry.io", "/api/42/envelope/", "sentry"),
            ("POST", "http-intake.logs.us5.datadoghq.com", "/api/v2/logs", "datadog"),
            ("POST", "browser-intake-us5-datadoghq.com", "/api/v2/logs?dd-api-key=x", "datadog"),
            ("POST", "api.segment.io", "/v1/batch", "segment"),
            ("POST", "otel.example.com:4318", "/v1/traces", "otlp"),
            (
                "POST",
                "otel.example.com:4317",
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                "otlp",
            ),
            ("POST", "api.anthropic.com", "/api/claude_cli_feedback", "feedback"),
            ("POST", "api.anthropic.com", "/v1/messages?beta=true", "conversation"),
            ("POST", "api.anthropic.com", "/v1/messages/count_tokens?beta=true", "conversation"),
            ("GET", "api.anthropic.com", "/api/oauth/profile", "settings"),
            ("GET", "api.anthropic.com", "/api/oauth/usage", "oauth-usage"),
            ("GET", "api.anthropic.com", "/api/web/domain_info?domain=x", "domain-check"),
            ("GET", "downloads.claude.ai", "/latest", "updates"),
        ] {
            assert_eq!(classified(method, host, target), expected, "{method} {host}{target}");
        }
    }

    #[test]
    fn an_unknown_path_of_the_vendor_has_a_class_of_its_own() {
        assert_eq!(classified("POST", "api.anthropic.com", "/api/brand_new"), "first-party-unknown");
        assert_eq!(
            classified("DELETE", "api.anthropic.com", "/api/claude_code/metrics"),
            "first-party-unknown"
        );
    }

    #[test]
    fn an_unknown_host_is_a_third_party() {
        assert_eq!(classified("POST", "mcp.example.com", "/"), "third-party");
    }

    #[test]
    fn only_telemetry_hosts_are_decrypted_unasked() {
        let catalogue = Catalogue::embedded();
        let intercepts = |text| catalogue.intercepts(&Authority::parse(text, None).unwrap());

        assert!(intercepts("api.anthropic.com:443"));
        assert!(intercepts("http-intake.logs.us5.datadoghq.com:443"));
        assert!(!intercepts("downloads.claude.ai:443"));
        assert!(!intercepts("github.com:443"));
        assert!(!intercepts("otel.example.com:4318"));
        assert!(!intercepts("api.anthropic.com.evil.example:443"));
    }

    #[test]
    fn a_host_says_no_more_than_it_can() {
        let catalogue = Catalogue::embedded();
        let classify = |text| catalogue.classify_host(&Authority::parse(text, None).unwrap()).id.to_string();

        assert_eq!(classify("downloads.claude.ai:443"), "updates");
        assert_eq!(classify("api.anthropic.com:443"), "third-party");
    }

    #[test]
    fn the_conversation_is_not_inspected() {
        let destination = Catalogue::embedded().classify(&head("POST", "api.anthropic.com", "/v1/messages"));

        assert!(!destination.inspected);
        assert_eq!(destination.kind, DestinationKind::Conversation);
    }
}
