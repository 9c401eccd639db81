//! Edits of a document become bytes again: the original ones, but for what was edited and what frames it.
//!
//! An edit names a place in the most decoded text. Text by text, from the last to the body, what stands there is
//! changed in the bytes of the text, and becomes a change of the text that it was opened from: escaped again, encoded
//! again, compressed again. Nothing is parsed and written anew.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use bytes::Bytes;

use crate::model::{BinaryNumber, Document, Edit, FieldKind, Name, NodeId, Replacement, TextId};

mod envelope;
mod layers;
mod members;
mod patch;
mod place;
mod wire;

#[cfg(test)]
mod numbers;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use envelope::item_told;
use patch::Patch;
use place::Place;

/// Why a document could not be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// A compressed value was not read to its end, so that it cannot be written again.
    #[error("a compressed value was not read to its end")]
    NotWhole,
    /// A message of a stream is compressed, and nobody said how.
    #[error("a message is compressed in a way that is not known here")]
    Packing,
    /// A place does not stand in the document as the edit says.
    #[error("an edit names a place that is not there")]
    Place,
    /// The result is larger than its format can say.
    #[error("the edited document is too large for its format")]
    TooLarge,
}

/// Compresses a message.
pub type Pack<'p> = &'p dyn Fn(&[u8]) -> Vec<u8>;

/// What whoever made a document knows of it beyond its bytes, for [`splice_within`].
#[derive(Clone, Copy, Default)]
pub struct Surroundings<'s> {
    /// Ranges of the body, and the bytes that come in their place as they are: what was hidden from the document.
    pub restored: &'s [(Range<usize>, Bytes)],
    /// Compresses a message of a stream as its others are.
    pub pack: Option<Pack<'s>>,
}

/// Carries out `edits` and returns the new body. Outside of them and of what frames them, every byte is as it was.
///
/// Where edits overlap, the one that holds the other stands for both. A value keeps its type.
///
/// # Errors
/// A place that is not in the document, or a value that cannot be written again. Nothing may be sent on then.
pub fn splice(document: &Document, edits: &[Edit]) -> Result<Bytes, SpliceError> {
    splice_within(document, edits, Surroundings::default())
}

/// As [`splice`], for a document that is a part of something.
///
/// # Errors
/// As there.
pub fn splice_within(
    document: &Document,
    edits: &[Edit],
    surroundings: Surroundings<'_>,
) -> Result<Bytes, SpliceError> {
    if edits.is_empty() && surroundings.restored.is_empty() {
        return Ok(document.text_bytes(TextId::BODY));
    }
    let mut splicer = Splicer { document, patches: BTreeMap::new(), removed: BTreeMap::new() };
    for edit in edits {
        splicer.add(edit)?;
    }
    splicer.remove_members();
    for (range, bytes) in surroundings.restored {
        let patch = Patch { with: bytes.to_vec(), ..Patch::empty(range.clone()) };
        splicer.push(TextId::BODY, patch);
    }
    let last = document.texts().len();
    let texts: Vec<TextId> = document.texts().map(|(text, _)| text).collect();
    for text in texts[1..last].iter().rev() {
        splicer.lift(*text, surroundings.pack)?;
    }
    splicer.body()
}

/// What is read at a place once an edit with a text is carried out: a value that keeps its type may say something else.
pub fn told<'e>(document: &Document, edit: &'e Edit) -> Cow<'e, str> {
    let Replacement::Text(with) = &edit.with else { return "".into() };
    let with: &str = with;
    let field = document.field(edit.node);
    if edit.text != field.text() || place::is_key(field, &edit.range) {
        return with.into();
    }
    match field.kind() {
        FieldKind::Binary(BinaryNumber::Bool) | FieldKind::Bool => "false".into(),
        FieldKind::Binary(number) => {
            number.digits(&Patch::number(field, with).with).as_str().to_owned().into()
        }
        FieldKind::Bytes if place::is_binary(document, edit.text) => "00".repeat(field.span().len()).into(),
        FieldKind::Number if !is_number(with) => "0".into(),
        FieldKind::String => match Place::of_value(document, field).fixed(document, field, with) {
            Some(number) if place::is_integer(&number) => {
                String::from_utf8_lossy(&number).into_owned().into()
            }
            _ => with.into(),
        },
        _ => with.into(),
    }
}

/// A document in the making: for each text what is to be changed in its bytes.
struct Splicer<'d> {
    document: &'d Document,
    patches: BTreeMap<TextId, Vec<Patch>>,
    /// Members that go with their names, by the text that they stand in.
    removed: BTreeMap<TextId, Vec<NodeId>>,
}

impl Splicer<'_> {
    fn push(&mut self, text: TextId, patch: Patch) {
        self.patches.entry(text).or_default().push(patch);
    }

    /// Makes of an edit a change of bytes.
    fn add(&mut self, edit: &Edit) -> Result<(), SpliceError> {
        let document = self.document;
        let fits = edit.text.index() < document.texts().len()
            && edit.node.index() < document.fields().len()
            && edit.range.start <= edit.range.end
            && edit.range.end <= document.text(edit.text).len();
        if !fits {
            return Err(SpliceError::Place);
        }
        let field = document.field(edit.node);
        let (text, span) = (field.text(), field.span());
        match &edit.with {
            Replacement::Remove => {
                self.removed.entry(text).or_default().push(edit.node);
                // Where the member cannot go, its name must not stay.
                if self.is_in_name(edit) {
                    self.rename(edit)?;
                }
            }
            Replacement::Null if self.is_in_name(edit) => self.rename(edit)?,
            Replacement::Null => self.push_null(edit.node),
            // Nothing goes, so nothing need come.
            Replacement::Text(_) if edit.range.is_empty() => {}
            Replacement::Text(with) => match field.kind() {
                _ if edit.text != text => {
                    let patch = Patch { with: with.as_bytes().to_vec(), ..Patch::empty(edit.range.clone()) };
                    self.push(edit.text, patch);
                }
                _ if place::is_key(field, &edit.range) => {
                    let place = Place::of_key(document, field);
                    let patch = Patch {
                        with: place.write(with.as_bytes()),
                        value: place::key_range(field),
                        ..Patch::empty(edit.range.clone())
                    };
                    self.push(text, patch);
                }
                FieldKind::Null => {}
                FieldKind::Bool => self.push(text, Patch { with: b"false".to_vec(), ..Patch::empty(span) }),
                FieldKind::Number => {
                    let with = if is_number(with) { with.as_bytes() } else { b"0" };
                    self.push(text, Patch { with: with.to_vec(), ..Patch::empty(span) });
                }
                FieldKind::Binary(_) => self.push(text, Patch::number(field, with)),
                FieldKind::Array | FieldKind::Object if edit.range == span => self.push_empty(edit.node),
                FieldKind::Bytes if place::is_binary(document, text) && edit.range == span => {
                    // Ids have a length that receivers check.
                    self.push(text, Patch { with: vec![0; span.len()], ..Patch::empty(span) });
                }
                _ => {
                    let place = Place::of_value(document, field);
                    let patch = match place.fixed(document, field, with) {
                        // Numbers and ids that are written as text: a part of one is none.
                        Some(with) => Patch { with, ..Patch::empty(span) },
                        None => Patch {
                            with: place.write(with.as_bytes()),
                            value: span,
                            ..Patch::empty(edit.range.clone())
                        },
                    };
                    self.push(text, patch);
                }
            },
        }
        Ok(())
    }

    /// Whether an edit is about a field's name rather than its value: in its bytes, or in their plain copy.
    fn is_in_name(&self, edit: &Edit) -> bool {
        let field = self.document.field(edit.node);
        if edit.text == field.text() {
            return place::is_key(field, &edit.range);
        }
        let above = self.document.parent_span(edit.text, edit.range.clone());
        above.is_some_and(|(text, range)| text == field.text() && place::is_key(field, &range))
    }

    /// Puts a word in the place of a name, or of a part of one: there is no null for it, and it cannot go alone.
    fn rename(&mut self, edit: &Edit) -> Result<(), SpliceError> {
        self.add(&Edit { with: Replacement::Text(WORD.into()), ..edit.clone() })
    }

    /// Puts a null, or what stands for one, in the place of a value.
    fn push_null(&mut self, node: NodeId) {
        let field = self.document.field(node);
        let (bytes, span) = (self.document.text(field.text()), field.span());
        let place = Place::of_value(self.document, field);
        let range = match field.kind() {
            FieldKind::Null => return,
            _ if place != Place::Json => return self.push_empty(node),
            FieldKind::String | FieldKind::EscapedString => {
                let closed = usize::from(bytes.get(span.end) == Some(&b'"'));
                span.start - 1..span.end + closed
            }
            _ => span,
        };
        self.push(field.text(), Patch { with: b"null".to_vec(), ..Patch::empty(range) });
    }

    /// Makes a value an empty one of its type.
    fn push_empty(&mut self, node: NodeId) {
        let field = self.document.field(node);
        let (text, span) = (field.text(), field.span());
        let place = Place::of_value(self.document, field);
        // A number between quotes has to stay one.
        if let Some(with) = place.fixed(self.document, field, "") {
            return self.push(text, Patch { with, ..Patch::empty(span) });
        }
        let is_json = place == Place::Json;
        let with: &[u8] = match field.kind() {
            FieldKind::Null => return,
            FieldKind::Binary(_) => return self.push(text, Patch::zeros(field)),
            FieldKind::Bool => b"false",
            FieldKind::Number => b"0",
            // By its bytes: in OTLP a list of pairs appears as an object.
            FieldKind::Array | FieldKind::Object if is_json => match field.raw().first() {
                Some(b'[') => b"[]",
                _ => b"{}",
            },
            // An empty segment would be another path.
            _ if Place::of_value(self.document, field) == Place::Path => WORD.as_bytes(),
            // No body at all is another message.
            _ if text == TextId::BODY && span == (0..self.document.text(text).len()) => WORD.as_bytes(),
            _ => b"",
        };
        self.push(text, Patch { with: with.to_vec(), ..Patch::empty(span) });
    }

    /// Takes members out, and those that cannot be taken out, empties.
    fn remove_members(&mut self) {
        for (text, mut nodes) in std::mem::take(&mut self.removed) {
            nodes.sort_unstable();
            nodes.dedup();
            let left = members::remove(self.document, text, &nodes, |patch| self.push(text, patch));
            for node in left {
                self.push_empty(node);
            }
        }
    }

    /// What is to be changed in a text, in order and without overlaps.
    fn take(&mut self, text: TextId) -> Vec<Patch> {
        let Some(patches) = self.patches.remove(&text) else {
            return Vec::new();
        };
        let mut patches = patch::merge(patches);
        if self.document.prefix() == "sentry" {
            let lengths = envelope::lengths(self.document, text, &patches);
            if !lengths.is_empty() {
                patches.extend(lengths);
                patches = patch::merge(patches);
            }
        }
        for patch in patches.iter_mut().filter(|patch| !patch.removes) {
            patch.trim(self.document.text(text));
        }
        patches.retain(|patch| patch.removes || !patch.range.is_empty() || !patch.with.is_empty());
        patches
    }

    fn body(mut self) -> Result<Bytes, SpliceError> {
        let patches = self.take(TextId::BODY);
        let body = self.document.text(TextId::BODY);
        if patches.is_empty() {
            return Ok(self.document.text_bytes(TextId::BODY));
        }
        let edited = match place::is_binary(self.document, TextId::BODY) {
            false => patch::apply(body, 0..body.len(), &patches),
            true if wire::is_stream(self.document) => wire::stream(self.document, &patches)?,
            true => wire::message(body, 0..body.len(), &patches)?,
        };
        Ok(edited.into())
    }
}

/// Stands for what has to go where nothing can be left in its place.
const WORD: &str = "REDACTED";

/// Whether text is a number of JSON's that programs can read.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite) && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// The range of a key's bytes in its own text, if it has one.
fn key_bytes(name: Name) -> Option<Range<usize>> {
    match name {
        Name::Key { start, end } | Name::EscapedKey { start, end } | Name::PercentKey { start, end } => {
            Some(start as usize..end as usize)
        }
        Name::FieldNumber(_) | Name::Index(_) | Name::Static(_) => None,
    }
}
