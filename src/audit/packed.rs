//! Details and fields of a flow as bytes. A first byte says which encoding follows; numbers are LEB128, and every text
//! stands behind its length.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{Hash, Hasher},
};

use zstd::bulk::Compressor;

use crate::model::{
    AppliedEdit, CapturedFields, FieldPath, Finding, Fingerprint, Rewriting, RuleId, SentCredential,
    push_number, push_text, shared_prefix, take_number, take_text,
};

/// What is a flow's own, and not looked for by itself.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) credentials: Vec<SentCredential>,
    pub(super) findings: Vec<Finding>,
    pub(super) news: Vec<Box<str>>,
    pub(super) fields_left_out: u32,
    pub(super) rewriting: Option<Rewriting>,
}

impl Details {
    /// The bytes; `None` when there is nothing to write.
    ///
    /// The same few values stand in every event of a batch. So all that depends on the value alone is written once:
    /// rule, category, severity, confidence, length, fingerprint and preview. Of each finding remain the number of its
    /// value, its path (as far as it differs from the path before) and its span.
    pub(super) fn pack(&self) -> Option<Vec<u8>> {
        let Self { credentials, findings, news, fields_left_out, rewriting } = self;
        let has_lists = !credentials.is_empty() || !findings.is_empty() || !news.is_empty();
        if !has_lists && *fields_left_out == 0 && rewriting.is_none() {
            return None;
        }
        let mut packed = Vec::with_capacity(256 + findings.len() * 32);
        packed.push(ENCODING);
        push_number(&mut packed, (*fields_left_out).into());
        push_number(&mut packed, credentials.len() as u64);
        for credential in credentials {
            push_text(&mut packed, credential.path.as_str());
            packed.extend_from_slice(&credential.fingerprint.to_bytes());
        }
        push_number(&mut packed, news.len() as u64);
        news.iter().for_each(|news| push_text(&mut packed, news));
        let mut values: Vec<&Finding> = Vec::new();
        let mut numbers: HashMap<_, u64> = HashMap::new();
        let mut places = Vec::with_capacity(findings.len() * 24);
        let mut last_path = "";
        for finding in findings {
            let number = *numbers.entry(ByValue(finding)).or_insert_with(|| {
                values.push(finding);
                values.len() as u64 - 1
            });
            let path = finding.path.as_str();
            let shared = shared_prefix(last_path, path);
            push_number(&mut places, number);
            push_number(&mut places, shared as u64);
            push_text(&mut places, &path[shared..]);
            push_number(&mut places, finding.span.start.into());
            push_number(&mut places, finding.span.end.into());
            last_path = path;
        }
        push_number(&mut packed, values.len() as u64);
        for value in values {
            push_text(&mut packed, value.rule.as_str());
            push_text(&mut packed, &value.category);
            push_text(&mut packed, value.severity.as_str());
            push_text(&mut packed, value.confidence.as_str());
            push_number(&mut packed, value.length.into());
            packed.extend_from_slice(&value.fingerprint.to_bytes());
            push_text(&mut packed, &value.preview);
        }
        push_number(&mut packed, findings.len() as u64);
        packed.extend_from_slice(&places);
        // At the end, where records of older versions have nothing.
        if let Some(rewriting) = rewriting {
            pack_rewriting(&mut packed, rewriting);
        }
        Some(compress_large(packed, LARGE_DETAILS))
    }

    /// Reads what [`Details::pack`] wrote; `None` if it is something else.
    pub(super) fn unpack(packed: &[u8]) -> Option<Self> {
        let bytes = decompress(packed)?;
        let (&ENCODING, mut rest) = bytes.split_first()? else { return None };
        let rest = &mut rest;
        let fields_left_out = take_small(rest)?;
        let credential = |rest: &mut &[u8]| {
            let path = FieldPath::from_raw(take_text(rest)?);
            Some(SentCredential { path, fingerprint: take_fingerprint(rest)? })
        };
        let credentials = take_list(rest, credential)?;
        let news = take_list(rest, |rest| take_text(rest).map(Into::into))?;
        let values = take_list(rest, |rest| {
            Some(Finding {
                rule: RuleId::new(take_text(rest)?),
                category: take_text(rest)?.into(),
                severity: take_text(rest)?.parse().ok()?,
                confidence: take_text(rest)?.parse().ok()?,
                length: take_small(rest)?,
                fingerprint: take_fingerprint(rest)?,
                preview: take_text(rest)?.into(),
                path: FieldPath::from_raw(""),
                span: 0..0,
            })
        })?;
        let mut path = String::new();
        let findings = take_list(rest, |rest| {
            let value = values.get(take_small(rest)? as usize)?;
            let shared = take_small(rest)? as usize;
            if !path.is_char_boundary(shared) {
                return None;
            }
            path.truncate(shared);
            path.push_str(take_text(rest)?);
            let span = take_small(rest)?..take_small(rest)?;
            Some(Finding { path: FieldPath::from_raw(path.as_str()), span, ..value.clone() })
        })?;
        let rewriting = match rest.is_empty() {
            true => None,
            false => Some(unpack_rewriting(rest)?),
        };
        rest.is_empty().then_some(Self { credentials, findings, news, fields_left_out, rewriting })
    }
}

fn pack_rewriting(packed: &mut Vec<u8>, rewriting: &Rewriting) {
    push_number(packed, rewriting.body_bytes);
    push_number(packed, rewriting.edits_left_out.into());
    push_number(packed, rewriting.edits.len() as u64);
    let mut last_path = "";
    for edit in &rewriting.edits {
        let path = edit.path.as_str();
        let shared = shared_prefix(last_path, path);
        push_number(packed, shared as u64);
        push_text(packed, &path[shared..]);
        push_text(packed, &edit.method);
        push_number(packed, edit.before.into());
        push_number(packed, edit.after.into());
        push_text(packed, &edit.with);
        last_path = path;
    }
}

fn unpack_rewriting(rest: &mut &[u8]) -> Option<Rewriting> {
    let (body_bytes, edits_left_out) = (take_number(rest)?, take_small(rest)?);
    let mut path = String::new();
    let edits = take_list(rest, |rest| {
        let shared = take_small(rest)? as usize;
        if !path.is_char_boundary(shared) {
            return None;
        }
        path.truncate(shared);
        path.push_str(take_text(rest)?);
        Some(AppliedEdit {
            path: FieldPath::from_raw(path.as_str()),
            method: take_text(rest)?.into(),
            before: take_small(rest)?,
            after: take_small(rest)?,
            with: take_text(rest)?.into(),
        })
    })?;
    Some(Rewriting { body_bytes, edits, edits_left_out })
}

/// A finding, compared by what depends on its value alone.
struct ByValue<'f>(&'f Finding);

impl ByValue<'_> {
    fn parts(&self) -> impl Eq {
        let Finding { rule, category, severity, confidence, length, fingerprint, preview, .. } = self.0;
        (fingerprint, rule, category, severity, confidence, length, preview)
    }
}

impl PartialEq for ByValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for ByValue<'_> {}

impl Hash for ByValue<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.fingerprint.hash(state);
    }
}

/// The bytes of decoded fields.
pub(super) fn pack_fields(fields: &CapturedFields) -> Vec<u8> {
    let mut packed = Vec::with_capacity(fields.as_packed().len() + 1);
    packed.push(ENCODING);
    packed.extend_from_slice(fields.as_packed());
    compress_large(packed, LARGE_FIELDS)
}

/// Reads what [`pack_fields`] wrote; `None` if it is something else.
pub(super) fn unpack_fields(packed: &[u8]) -> Option<CapturedFields> {
    let mut bytes = decompress(packed)?;
    (!bytes.is_empty() && bytes.remove(0) == ENCODING).then_some(bytes).and_then(CapturedFields::from_packed)
}

/// Compresses with zstd.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    thread_local! {
        /// Its tables cost more to make than a small payload costs to compress.
        static COMPRESSOR: RefCell<Compressor<'static>> =
            RefCell::new(Compressor::new(COMPRESSION_LEVEL).expect("the level is one that zstd has"));
    }
    COMPRESSOR
        .with_borrow_mut(|compressor| compressor.compress(bytes))
        .expect("compressing from memory to memory cannot fail")
}

/// Undoes compression, where there is any: no encoding starts as a zstd frame does.
pub(super) fn decompress(packed: &[u8]) -> Option<Vec<u8>> {
    if !packed.starts_with(ZSTD_MAGIC) {
        return Some(packed.to_vec());
    }
    zstd::stream::decode_all(packed).ok()
}

fn compress_large(packed: Vec<u8>, from: usize) -> Vec<u8> {
    if packed.len() < from { packed } else { compress(&packed) }
}

fn take_list<T>(rest: &mut &[u8], mut take: impl FnMut(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = take_number(rest)?;
    (0..count).map(|_| take(rest)).collect()
}

fn take_small(rest: &mut &[u8]) -> Option<u32> {
    take_number(rest)?.try_into().ok()
}

fn take_fingerprint(rest: &mut &[u8]) -> Option<Fingerprint> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(Fingerprint::from_bytes(*bytes))
}

/// The one encoding there is. Another one gets another number, so that neither is taken for the other.
const ENCODING: u8 = 1;

/// From here on compressing details pays. Repetition is out of them already; what is left are hashes and paths.
const LARGE_DETAILS: usize = 4096;

/// From here on compressing fields pays: names and values repeat from event to event.
const LARGE_FIELDS: usize = 1024;

/// The quickest level: a large event batch takes a millisecond on the caller's thread.
const COMPRESSION_LEVEL: i32 = 1;

const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Confidence, FingerprintKey, Severity};

    fn details(findings: u32) -> Details {
        let key = FingerprintKey::new(&[1; 32]);
        let finding = |at: u32| Finding {
            rule: RuleId::new(if at.is_multiple_of(2) { "account.email" } else { "id.device" }),
            category: "pii.contact".into(),
            severity: Severity::High,
            confidence: if at.is_multiple_of(3) { Confidence::Certain } else { Confidence::Low },
            path: FieldPath::from_raw(format!("json:events/{at}/é{}", at % 2)),
            span: at * 1000..at * 1000 + 12,
            length: 12,
            fingerprint: key.fingerprint(&[at as u8 % 5]),
            preview: format!("p{}***", at % 5).into(),
        };
        Details {
            credentials: vec![SentCredential {
                path: FieldPath::from_raw("header:x-api-key"),
                fingerprint: key.fingerprint(b"k"),
            }],
            findings: (0..findings).map(finding).collect(),
            news: vec!["field json:ä".into(), "path".into()],
            fields_left_out: 300,
            rewriting: None,
        }
    }

    #[test]
    fn a_rewriting_comes_back_as_it_was() {
        let edit = |at: u32| AppliedEdit {
            path: FieldPath::from_raw(format!("json:events/{at}/é{}", at % 2)),
            method: "summary".into(),
            before: at,
            after: 300,
            with: "REDACTED".into(),
        };
        let rewriting =
            Rewriting { body_bytes: 70_000, edits: (0..300).map(edit).collect(), edits_left_out: 3 };
        for written in [details(2), Details::default()] {
            let written = Details { rewriting: Some(rewriting.clone()), ..written };

            let read = Details::unpack(&written.pack().unwrap()).unwrap();

            assert_eq!(read.findings, written.findings);
            assert_eq!(read.rewriting, written.rewriting);
        }
    }

    #[test]
    fn details_come_back_as_they_were() {
        for count in [0, 1, 40, 5000] {
            let written = details(count);

            let packed = written.pack().unwrap();
            let read = Details::unpack(&packed).unwrap();

            assert_eq!(packed.starts_with(ZSTD_MAGIC), count == 5000, "{count}");
            assert_eq!(read.findings, written.findings);
            assert_eq!(read.credentials, written.credentials);
            assert_eq!((read.news, read.fields_left_out), (written.news, 300));
        }
    }

    #[test]
    fn nothing_takes_no_room() {
        assert!(Details::default().pack().is_none());
    }

    #[test]
    fn what_is_cut_off_or_of_another_encoding_is_refused() {
        let packed = details(3).pack().unwrap();
        let fields = CapturedFields::default();

        for end in 0..packed.len() {
            assert!(Details::unpack(&packed[..end]).is_none(), "{end}");
        }
        assert!(Details::unpack(&[&packed[..], &[0]].concat()).is_none());
        assert!(Details::unpack(br#"{"fields_left_out":1}"#).is_none());
        assert!(unpack_fields(br#"[{"path":"json:a","value":"1"}]"#).is_none());
        assert!(unpack_fields(b"").is_none());
        assert_eq!(unpack_fields(&pack_fields(&fields)), Some(fields));
    }
}
