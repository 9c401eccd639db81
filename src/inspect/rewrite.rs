//! What policy wants redacted becomes another request: edits, their bytes, and the proof that nothing else changed.
//!
//! The proof is made of the bytes that are to leave. They are taken apart again, looked at by the rules again, decided
//! about again; what then would still have to change is changed, and what was not named must stand there as it was.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, uri::PathAndQuery};

use crate::{
    encoding::{self, Coding},
    model::{
        Action, AppliedEdit, CapturedBody, CapturedRequest, Document, Edit, Field, FieldKind, NodeId,
        PathWriter, RedactBy, Redaction, Rewriting, RewrittenRequest, TextId,
    },
    payload::{self, Pack, SpliceError, Surroundings},
    redaction::{Kept, Place, Redactor, Tree, Whom},
    rules::Hit,
};

use super::{
    Inspector, credential,
    head::{Head, Part},
    names, stream,
    walk::{self, Classified, Decided},
};

/// How often what was redacted is looked at again before it must stand still: once finds nothing, as a rule; a stand-in
/// beside what is left of a value may read like another value once.
const ROUNDS: usize = 3;

/// Most changes that a record lists. Each has a path; the largest batch seen has 8,000 fields.
const LISTED_EDITS: usize = 5_000;

/// Fields that frame a request, or say how it is to be read and where it goes. What rules find in these stays.
const FRAMING: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-encoding",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that prove a body's bytes.
const DIGESTS: &[&str] = &["content-digest", "content-md5", "digest", "repr-digest", "x-amz-content-sha256"];

/// Fields that prove parts of a request: which ones, is theirs to say.
const SIGNATURES: &[&str] = &[
    "signature",
    "signature-input",
    "x-goog-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-request-signature",
    "x-signature",
];

/// Why a request could not be redacted. It must not leave as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RewriteError {
    #[error("what was redacted is not what was sent but for the redaction")]
    Changed,
    #[error("a redacted header field or path is none that can be sent")]
    Head,
    #[error("redacting again would change it again")]
    NotStill,
    #[error("the request is signed, so that no part of it can be redacted")]
    Signed,
    #[error("{0}")]
    Splice(#[from] SpliceError),
    #[error("the body was not read, so that it cannot be redacted")]
    Unread,
}

/// Carries out what was decided; `None` when everything stands there redacted already.
pub(super) fn rewrite(decided: &Decided<'_>) -> Result<Option<(RewrittenRequest, Rewriting)>, RewriteError> {
    let Some(first) = Round::of(decided)? else {
        return Ok(None);
    };
    let rewriting = first.describe(decided);
    let mut latest = first;
    let mut before: Option<Decided<'_>> = None;
    for _ in 0..ROUNDS {
        let known = before.as_ref().unwrap_or(decided);
        let again = latest.inspect_again(known);
        latest.prove(known, &again)?;
        match Round::of(&again)? {
            None => {
                let body_bytes = latest.body_bytes(known);
                return Ok(Some((latest.request, Rewriting { body_bytes, ..rewriting })));
            }
            Some(next) => {
                latest = next.over(latest);
                before = Some(again);
            }
        }
    }
    Err(RewriteError::NotStill)
}

/// One time of redacting: the edits of each part, and what they make of the request.
struct Round {
    /// Of path, query, fields; in the order of [`Head::parts`].
    head: Vec<Vec<Named>>,
    body: Vec<Named>,
    request: RewrittenRequest,
}

/// An edit and the method that asked for it.
struct Named {
    edit: Edit,
    method: &'static str,
    keeps_nothing: bool,
}

impl Round {
    /// Redacts once; `None` if nothing changes.
    fn of(decided: &Decided<'_>) -> Result<Option<Self>, RewriteError> {
        let scanned = &decided.scanned;
        let Classified { inspector, request, destination, .. } = &scanned.decoded.classified;
        let redactor = &inspector.redactor;
        let whom = Whom { destination: destination.id.as_str(), run: request.id.run() };
        let mut redactions = decided.decision.redactions.iter();
        let mut head = Vec::new();
        for part in scanned.head.parts() {
            let asked: Vec<_> = redactions.by_ref().take(part.hits.len()).collect();
            let tree = Tree::new(&part.document);
            let asked = part.hits.iter().zip(asked).filter(|(hit, _)| !is_framing(part, hit));
            head.push(edits(inspector, redactor, &tree, asked, whom));
        }
        let mut body = Vec::new();
        if let Some(document) = &scanned.decoded.document {
            let tree = Tree::new(document);
            body = edits(inspector, redactor, &tree, scanned.hits.iter().zip(redactions), whom);
            if let Some(unknown) = &decided.decision.unknown_fields {
                let named: HashSet<NodeId> = scanned.hits.iter().map(|hit| hit.node).collect();
                let mut paths = PathWriter::new(document);
                for field in document.leaves().filter(|field| !named.contains(&field.id())) {
                    let path = paths.path(field);
                    let stays = unknown.keep.iter().any(|pattern| pattern.matches(path));
                    if stays || field.span().is_empty() || !tree.children(field.id()).is_empty() {
                        continue;
                    }
                    let (text, range) = document.plain(field.id()).unwrap_or((field.text(), field.span()));
                    let place = Place { text, range, node: field.id() };
                    let made = redactor.edits(&tree, &place, &unknown.redact, Kept::default(), whom);
                    body.extend(made.into_iter().map(|edit| Named::new(edit, &unknown.redact)));
                }
            }
        }
        if head.iter().all(Vec::is_empty) && body.is_empty() {
            return Ok(None);
        }
        let request = build(decided, &head, &body)?;
        let is_same = request.body.is_none()
            && request.target == scanned.decoded.classified.request.head.target
            && request.headers == scanned.decoded.classified.request.head.headers
            && request.trailers == scanned.decoded.classified.request.trailers;
        if is_same {
            return Ok(None);
        }
        let head_fields = &scanned.decoded.classified.request.head.headers;
        let trailers = scanned.decoded.classified.request.trailers.as_ref();
        let has = |names: &[&str]| {
            names.iter().any(|name| {
                head_fields.contains_key(*name)
                    || trailers.is_some_and(|trailers| trailers.contains_key(*name))
            })
        };
        if has(SIGNATURES) || is_aws(head_fields) || request.body.is_some() && has(DIGESTS) {
            return Err(RewriteError::Signed);
        }
        Ok(Some(Self { head, body, request }))
    }

    /// The same, on top of an earlier round: what that changed and this did not stays changed.
    fn over(self, earlier: Self) -> Self {
        let body = self.request.body.or(earlier.request.body);
        Self { request: RewrittenRequest { body, ..self.request }, ..self }
    }

    /// Takes what is to leave apart once more.
    fn inspect_again<'i>(&self, before: &Decided<'i>) -> Decided<'i> {
        let Classified { inspector, request, destination, time_ms } = &before.scanned.decoded.classified;
        let mut head = request.head.clone();
        head.target.clone_from(&self.request.target);
        head.headers.clone_from(&self.request.headers);
        let body = match &self.request.body {
            Some(body) => CapturedBody::Complete(body.clone()),
            None => request.body.clone(),
        };
        let again = CapturedRequest { id: request.id, head, body, trailers: self.request.trailers.clone() };
        let classified = Classified::new(inspector, again, destination.clone(), *time_ms);
        classified.decode().scan_again(&before.scanned).decide()
    }

    /// Whether what was taken apart again is what it was before, but for the edits.
    fn prove(&self, before: &Decided<'_>, after: &Decided<'_>) -> Result<(), RewriteError> {
        let (was, is) = (&before.scanned, &after.scanned);
        let stands = after.decision.action != Action::Block
            && was.decoded.format == is.decoded.format
            && was.decoded.not_inspected == is.decoded.not_inspected
            && is_head_kept(&was.head, &is.head, &self.head)
            && match (&was.decoded.document, &is.decoded.document) {
                (Some(was), Some(is)) => is_kept(was, is, &self.body),
                (None, None) => true,
                _ => false,
            };
        stands.then_some(()).ok_or(RewriteError::Changed)
    }

    fn body_bytes(&self, before: &Decided<'_>) -> u64 {
        let sent = match (&self.request.body, &before.scanned.decoded.classified.request.body) {
            (Some(body), _) | (None, CapturedBody::Complete(body) | CapturedBody::OverLimit(body)) => {
                body.len()
            }
            (None, CapturedBody::Streamed) => 0,
        };
        sent as u64
    }

    /// The changes for a record.
    fn describe(&self, decided: &Decided<'_>) -> Rewriting {
        let scanned = &decided.scanned;
        let mut rewriting = Rewriting::default();
        let of_head = scanned.head.parts().zip(&self.head);
        let of_head = of_head.map(|(part, edits)| (&part.document, &part.hits[..], edits));
        let of_body = scanned.decoded.document.as_ref().map(|body| (body, &scanned.hits[..], &self.body));
        let mut findings = scanned.findings.iter();
        for (document, hits, edits) in of_head.chain(of_body) {
            // A name in which something was found is not written down either.
            let previews: Vec<&str> =
                findings.by_ref().take(hits.len()).map(|finding| &*finding.preview).collect();
            let mask = |at: usize| Cow::Borrowed(previews.get(at).copied().unwrap_or(credential::MASK));
            let mut paths = PathWriter::new(document).masking(names::masked(document, hits, mask));
            for Named { edit, method, keeps_nothing } in edits {
                if rewriting.edits.len() == LISTED_EDITS {
                    rewriting.edits_left_out += 1;
                    continue;
                }
                let with = payload::told(document, edit);
                rewriting.edits.push(AppliedEdit {
                    path: paths.field_path(document.field(edit.node)),
                    method: (*method).into(),
                    before: document.value(edit.node, edit.text, edit.range.clone()).len() as u32,
                    after: with.len() as u32,
                    with: if *keeps_nothing { (*with).into() } else { "".into() },
                });
            }
        }
        rewriting
    }
}

impl Named {
    fn new(edit: Edit, redaction: &Redaction) -> Self {
        Self { edit, method: redaction.method(), keeps_nothing: redaction.keeps_nothing() }
    }
}

/// The edits of one document.
fn edits<'d>(
    inspector: &Inspector,
    redactor: &Redactor,
    tree: &Tree<'_>,
    asked: impl Iterator<Item = (&'d Hit, &'d Option<RedactBy>)>,
    whom: Whom<'_>,
) -> Vec<Named> {
    let mut edits = Vec::new();
    for (hit, by) in asked {
        let rule = &inspector.rules.rules()[hit.rule];
        let redaction = match by {
            None => continue,
            Some(RedactBy::Policy(redaction)) => redaction,
            Some(RedactBy::Rule) => &rule.redact,
        };
        let kept = rule
            .inside
            .as_ref()
            .map_or_else(Kept::default, |inside| Kept { keys: &inside.keep_keys, types: &inside.keep_types });
        let place = Place { text: hit.text, range: hit.range.clone(), node: hit.node };
        let made = redactor.edits(tree, &place, redaction, kept, whom);
        edits.extend(made.into_iter().map(|edit| Named::new(edit, redaction)));
    }
    edits
}

/// Puts the request together again.
fn build(
    decided: &Decided<'_>,
    head_edits: &[Vec<Named>],
    body_edits: &[Named],
) -> Result<RewrittenRequest, RewriteError> {
    let scanned = &decided.scanned;
    let Classified { inspector: _, request, .. } = &scanned.decoded.classified;
    let mut parts = scanned.head.parts().zip(head_edits);
    let mut next = || -> Result<Option<Bytes>, RewriteError> {
        let Some((part, edits)) = parts.next().filter(|(_, edits)| !edits.is_empty()) else {
            return Ok(None);
        };
        let edits: Vec<Edit> = edits.iter().map(|named| named.edit.clone()).collect();
        let surroundings = Surroundings { restored: &part.hidden, pack: None };
        Ok(Some(payload::splice_within(&part.document, &edits, surroundings)?))
    };
    let path = next()?;
    let query = match request.head.query() {
        Some(_) => next()?,
        None => None,
    };
    let lines = next()?;
    let target = match (&path, &query) {
        (None, None) => request.head.target.clone(),
        _ => {
            let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).map_err(|_| RewriteError::Head);
            let mut target = path.map_or_else(|| Ok(request.head.path().to_owned()), text)?;
            if let Some(sent) = request.head.query() {
                target.push('?');
                target.push_str(&query.map_or_else(|| Ok(sent.to_owned()), text)?);
            }
            PathAndQuery::try_from(target.as_str()).map_err(|_| RewriteError::Head)?;
            target
        }
    };
    let (headers, trailers) = match lines {
        None => (request.head.headers.clone(), request.trailers.clone()),
        Some(lines) => {
            let mut lines = lines.split(|byte| *byte == b'\n');
            let headers = fields(&request.head.headers, &mut lines)?;
            let trailers =
                request.trailers.as_ref().map(|trailers| fields(trailers, &mut lines)).transpose()?;
            (headers, trailers.filter(|trailers| !trailers.is_empty()))
        }
    };
    let body = match (&scanned.decoded.document, body_edits.is_empty()) {
        (Some(document), false) => body(decided, document, body_edits)?,
        _ => None,
    };
    Ok(RewrittenRequest { target, headers, body, trailers })
}

/// Header fields anew, one for each line. A line that is empty is a field that goes.
fn fields<'l>(
    sent: &HeaderMap,
    lines: &mut impl Iterator<Item = &'l [u8]>,
) -> Result<HeaderMap, RewriteError> {
    let mut fields = HeaderMap::with_capacity(sent.len());
    for (name, value) in sent {
        let line = lines.next().ok_or(RewriteError::Head)?;
        if line.is_empty() {
            continue;
        }
        let at = memchr::memmem::find(line, b": ").ok_or(RewriteError::Head)?;
        let (new_name, new_value) = (&line[..at], &line[at + 2..]);
        let name = match new_name == name.as_str().as_bytes() {
            true => name.clone(),
            false => HeaderName::from_bytes(new_name).map_err(|_| RewriteError::Head)?,
        };
        // The value itself stays where it can: it may be marked as sensitive.
        let value = match new_value == value.as_bytes() {
            true => value.clone(),
            false => HeaderValue::from_bytes(new_value).map_err(|_| RewriteError::Head)?,
        };
        fields.append(name, value);
    }
    Ok(fields)
}

/// The body with its edits in, in its content coding; `None` if they change nothing.
fn body(decided: &Decided<'_>, document: &Document, edits: &[Named]) -> Result<Option<Bytes>, RewriteError> {
    let request = &decided.scanned.decoded.classified.request;
    let CapturedBody::Complete(sent) = &request.body else {
        return Err(RewriteError::Unread);
    };
    let values = request.head.headers.get_all(http::header::CONTENT_ENCODING);
    let codings: Vec<Coding> = encoding::codings(values.iter().map(|value| value.to_str().unwrap_or("?")))
        .map_err(|_| RewriteError::Unread)?;
    let message_coding = stream::coding(&request.head).ok().flatten();
    let pack = message_coding.map(|coding| move |message: &[u8]| encoding::encode(&[coding], message));
    let pack = pack.as_ref().map(|pack| pack as Pack<'_>);
    let edits: Vec<Edit> = edits.iter().map(|named| named.edit.clone()).collect();
    let plain = payload::splice_within(document, &edits, Surroundings { restored: &[], pack })?;
    if plain == document.text(TextId::BODY) {
        return Ok(None);
    }
    if codings.is_empty() {
        return Ok(Some(plain));
    }
    Ok(Some(encoding::encode_like(&codings, sent, &plain).into()))
}

fn is_aws(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().get(..4).is_some_and(|it| it.eq_ignore_ascii_case(b"AWS4")))
}

/// Whether a hit lies in a field that frames the request.
fn is_framing(part: &Part, hit: &Hit) -> bool {
    part.document.prefix() == "header" && {
        let span = part.document.body_span(hit.text, hit.range.clone());
        let body = part.document.text(TextId::BODY);
        let line = memchr::memrchr(b'\n', &body[..span.start]).map_or(0, |at| at + 1);
        let name = body[line..].split(|byte| *byte == b':').next().unwrap_or_default();
        FRAMING.iter().any(|framing| framing.as_bytes() == name)
    }
}

fn is_head_kept(was: &Head, is: &Head, edits: &[Vec<Named>]) -> bool {
    was.credentials.iter().map(|sent| sent.fingerprint).eq(is.credentials.iter().map(|sent| sent.fingerprint))
        && was.parts().count() == is.parts().count()
        && was
            .parts()
            .zip(is.parts())
            .zip(edits)
            .all(|((was, is), edits)| is_kept(&was.document, &is.document, edits))
}

/// Whether every value that no edit touches stands in both documents: by the same path, of the same kind, and the
/// same. Not in the same order: a string that has no escapes any more is opened elsewhere.
fn is_kept(was: &Document, is: &Document, edits: &[Named]) -> bool {
    if edits.is_empty() {
        return was.text(TextId::BODY) == is.text(TextId::BODY);
    }
    let count = was.fields().len();
    let mut touched = vec![false; count];
    let mut holds = vec![false; count];
    for Named { edit, .. } in edits {
        touched[edit.node.index()] = true;
        let mut above = was.field(edit.node).parent();
        while let Some(field) = above.filter(|field| !holds[field.id().index()]) {
            holds[field.id().index()] = true;
            above = field.parent();
        }
    }
    let is_touched_above =
        |touched: &[bool], field: Field<'_>| field.parent().is_some_and(|above| touched[above.id().index()]);
    // The length of an item is told before it, and is another when the item is.
    let is_told = |field| payload::item_told(field).is_some_and(|item| holds[item.id().index()]);
    if walks_alike(was, is, |field| {
        let at = field.id().index();
        touched[at] |= is_touched_above(&touched, field);
        !touched[at] && !holds[at] && !is_told(field)
    }) {
        return walk::gap(was) == walk::gap(is);
    }
    let hasher = RandomState::new();
    let mut there: HashMap<u64, u32> = HashMap::new();
    let mut paths = PathWriter::new(is);
    for field in is.fields().filter(|field| !field.kind().is_branch()) {
        *there.entry(hasher.hash_one((paths.path(field), class(field), field.plain()))).or_default() += 1;
    }
    let mut paths = PathWriter::new(was);
    for field in was.fields() {
        let at = field.id().index();
        touched[at] |= is_touched_above(&touched, field);
        if touched[at] || holds[at] || is_told(field) || field.kind().is_branch() {
            continue;
        }
        match there.get_mut(&hasher.hash_one((paths.path(field), class(field), field.plain()))) {
            Some(left @ 1..) => *left -= 1,
            _ => return false,
        }
    }
    walk::gap(was) == walk::gap(is)
}

/// Whether both documents have the same fields in the same order under the same names, and every value that `must_stay`
/// is the same in both. As a rule they do, and then nothing has to be looked up by its path.
fn walks_alike<'w>(was: &'w Document, is: &Document, mut must_stay: impl FnMut(Field<'w>) -> bool) -> bool {
    was.fields().len() == is.fields().len()
        && was.fields().zip(is.fields()).all(|(was, is)| {
            was.parent().map(Field::id) == is.parent().map(Field::id)
                && was.name_bytes() == is.name_bytes()
                && (!must_stay(was)
                    || was.kind().is_branch()
                    || class(was) == class(is) && was.plain() == is.plain())
        })
}

/// What a value is; escapes may come and go.
fn class(field: Field<'_>) -> FieldKind {
    match field.kind() {
        FieldKind::EscapedString => FieldKind::String,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Replacement, payload::Budget};

    fn read(body: &'static str) -> Document {
        let format = payload::PayloadFormat::Json;
        payload::decode(&format, Bytes::from_static(body.as_bytes()), &Budget::default()).unwrap()
    }

    fn mail(document: &Document) -> Vec<Named> {
        let field = document.fields().find(|field| field.path().as_str() == "json:mail").unwrap();
        let with = Replacement::Text("anon".into());
        let edit = Edit { text: field.text(), range: field.span(), node: field.id(), with };
        vec![Named { edit, method: "replace", keeps_nothing: true }]
    }

    #[test]
    fn what_no_edit_names_must_stand_there_as_it_was() {
        let was = read(r#"{"mail":"a@b.co","n":1,"in":"{\"x\":[true]}"}"#);
        let edits = mail(&was);

        assert!(is_kept(&was, &read(r#"{"mail":"anon","n":1,"in":"{\"x\":[true]}"}"#), &edits));
        for other in [
            r#"{"mail":"anon","n":2,"in":"{\"x\":[true]}"}"#,
            r#"{"mail":"anon","n":"1","in":"{\"x\":[true]}"}"#,
            r#"{"mail":"anon","m":1,"in":"{\"x\":[true]}"}"#,
            r#"{"mail":"anon","n":1,"in":"{\"x\":[false]}"}"#,
            r#"{"mail":"anon","n":1}"#,
            r#"{"mail":"anon","n":1,"in":"{\"x\":[true]}"#,
        ] {
            assert!(!is_kept(&was, &read(other), &edits), "{other}");
        }
    }
}
