//! The head of a request: path, query and header fields, looked at like a body.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    model::{
        CapturedFields, DestinationId, Document, Field, Finding, NodeId, NotInspected, RequestHead,
        SentCredential, TextId,
    },
    payload,
    rules::Hit,
};

use super::{Inspector, credential, walk};

/// Longest target kept in a record, in bytes. Real ones stay under 1 KiB.
const TARGET_LIMIT: usize = 4096;

/// Longest `User-Agent` kept, in bytes. Real ones stay under 100.
const USER_AGENT_LIMIT: usize = 200;

/// A request's head with its credentials taken out, and what rules found in the rest.
pub(super) struct Head {
    path: Part,
    query: Option<Part>,
    headers: Part,
    /// The credentials that were sent, in order of place.
    pub(super) credentials: Vec<SentCredential>,
}

pub(super) struct Part {
    pub(super) document: Document,
    pub(super) hits: Vec<Hit>,
    /// What was masked in the document, and where.
    pub(super) hidden: Vec<(Range<usize>, Bytes)>,
}

impl Head {
    /// Looks at everything: path, query, header and trailer fields.
    pub(super) fn of(
        inspector: &Inspector,
        destination: &DestinationId,
        head: &RequestHead,
        trailers: Option<&HeaderMap>,
    ) -> Self {
        let maps = [Some(&head.headers), trailers];
        let fields = maps
            .into_iter()
            .flatten()
            .flat_map(|map| map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        Self::with_headers(inspector, destination, head, fields)
    }

    /// Looks at path and query alone: all that is kept of a request whose content is not looked at.
    pub(super) fn target_of(inspector: &Inspector, destination: &DestinationId, head: &RequestHead) -> Self {
        let user_agent =
            head.headers.get(http::header::USER_AGENT).map(|value| ("user-agent", value.as_bytes()));
        Self::with_headers(inspector, destination, head, user_agent.into_iter())
    }

    fn with_headers<'h>(
        inspector: &Inspector,
        destination: &DestinationId,
        head: &RequestHead,
        fields: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Self {
        let budget = &inspector.options.budget;
        let mut credentials = Vec::new();
        let mut part = |document: Document, again: &dyn Fn(Vec<u8>) -> Document| {
            let (document, hidden) = match credential::hide(&document, &inspector.key) {
                Some(hidden) => {
                    credentials.extend(hidden.sent);
                    (again(hidden.body), hidden.values)
                }
                None => (document, Vec::new()),
            };
            Part::new(inspector, destination, document, hidden)
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let path = part(payload::path(head.path(), budget), &|masked| payload::path(&text(masked), budget));
        let query = head.query().map(|query| {
            part(payload::query(query, budget), &|masked| payload::query(&text(masked), budget))
        });
        let headers =
            part(payload::headers(fields, budget), &|masked| payload::headers(header_lines(&masked), budget));
        Self { path, query, headers, credentials }
    }

    /// Path, query (if there is one) and fields, in the order of their findings.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.path).chain(&self.query).chain([&self.headers])
    }

    /// What rules found. Spans count from the start of the field's value.
    pub(super) fn findings(&self, inspector: &Inspector) -> Vec<Finding> {
        let findings = |part: &Part| -> Vec<Finding> {
            let found = walk::findings(inspector, &part.document, &part.hits);
            let placed = found.into_iter().zip(&part.hits).map(|(finding, hit)| {
                let start = outermost(part.document.field(hit.node)).span().start as u32;
                let Range { start: from, end: to } = finding.span;
                Finding { span: from.saturating_sub(start)..to.saturating_sub(start), ..finding }
            });
            placed.collect()
        };
        self.parts().flat_map(findings).collect()
    }

    /// Why something in the head was not read, if that is so.
    pub(super) fn gap(&self) -> Option<NotInspected> {
        self.parts().find_map(|part| walk::gap(&part.document))
    }

    /// The fields as they may be kept.
    pub(super) fn fields(&self, inspector: &Inspector) -> CapturedFields {
        let mut sent = self.credentials.iter();
        let mut kept = CapturedFields::default();
        let mut keep = |path: &str, value: &str| {
            if value == credential::MASK
                && let Some(sent) =
                    sent.clone().position(|sent| sent.path.as_str() == path).and_then(|at| sent.nth(at))
            {
                kept.push(path, &format!("{} (fingerprint {})", credential::MASK, sent.fingerprint));
            } else {
                kept.push(path, value);
            }
        };
        for part in self.parts() {
            let mask = |at: usize| {
                let hit: &Hit = &part.hits[at];
                Cow::Owned(String::from(walk::preview(inspector, hit, &hit.value(&part.document))))
            };
            inspector.options.capture.fields(&part.document, &part.hits, mask, &mut keep);
        }
        kept
    }

    /// Path and query as they may be kept: what rules found is shown by its preview.
    pub(super) fn target(&self) -> Box<str> {
        let mut target = self.path.masked(TextId::BODY, None);
        if let Some(query) = &self.query {
            target.push('?');
            target.push_str(&query.masked(TextId::BODY, None));
        }
        walk::cut(&target, TARGET_LIMIT).into()
    }

    /// The client's `User-Agent` as it may be kept.
    pub(super) fn user_agent(&self) -> Option<Box<str>> {
        let document = &self.headers.document;
        let field = document.fields_in(TextId::BODY).find(|field| {
            field.parent().is_some_and(|parent| parent.id() == NodeId::ROOT)
                && field.last_segment().is_some_and(|name| &*name == b"user-agent")
        })?;
        let text = self.headers.masked(TextId::BODY, Some(field.span()));
        Some(walk::cut(&text, USER_AGENT_LIMIT).into())
    }
}

impl Part {
    fn new(
        inspector: &Inspector,
        destination: &DestinationId,
        document: Document,
        hidden: Vec<(Range<usize>, Bytes)>,
    ) -> Self {
        let mut hits = walk::scan(inspector, &document, destination);
        hits.retain(|hit| !credential::is_masked(document.field(hit.node)));
        Self { document, hits, hidden }
    }

    /// The body of the document, or a part of it, with what rules found in it masked.
    fn masked(&self, text: TextId, within: Option<Range<usize>>) -> String {
        let body = self.document.text(text);
        let within = within.unwrap_or(0..body.len());
        let mut spans: Vec<Range<usize>> =
            self.hits.iter().map(|hit| self.document.body_span(hit.text, hit.range.clone())).collect();
        spans.sort_by_key(|span| (span.start, span.end));
        let mut masked = String::new();
        let mut at = within.start;
        for span in spans.iter().filter(|span| span.start < within.end && span.end > within.start) {
            if span.start >= at {
                masked.push_str(&String::from_utf8_lossy(&body[at..span.start]));
                masked.push_str(credential::MASK);
            }
            at = at.max(span.end);
        }
        if at < within.end {
            masked.push_str(&String::from_utf8_lossy(&body[at..within.end]));
        }
        masked
    }
}

/// The outermost value that a field is part of.
fn outermost(field: Field<'_>) -> Field<'_> {
    let mut found = field;
    let mut current = Some(field);
    while let Some(field) = current {
        if field.text() == TextId::BODY && !field.kind().is_branch() {
            found = field;
        }
        current = field.parent();
    }
    found
}

/// The fields of a document's body, which has one on each line.
fn header_lines(body: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    body.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = memchr::memmem::find(line, b": ")?;
        Some((std::str::from_utf8(&line[..at]).ok()?, &line[at + 2..]))
    })
}
