use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    ops::Range,
};

use bytes::Bytes;

use crate::model::{FieldPath, NotInspected, path_writer::path_of};

mod builder;
mod number;

pub use builder::{Change, DocumentBuilder, Mark};
pub use number::{BinaryNumber, Digits};

/// One text of a document: 0 is the body itself, the others were opened out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextId(u32);

impl TextId {
    /// The body itself, after content decoding.
    pub const BODY: Self = Self(0);

    /// The position in [`Document::texts`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One node of a document's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The root.
    pub const ROOT: Self = Self(0);

    /// The node that is added to `document` next.
    pub fn after(document: &Document) -> Self {
        Self(document.nodes.len() as u32)
    }

    /// The position in document order.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a node is called by its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A place in a list.
    Index(u32),
    /// Bytes of the node's own text: an object key without its quotes.
    Key {
        /// Offset of the first byte.
        start: u32,
        /// Offset after the last byte.
        end: u32,
    },
    /// As [`Name::Key`], but written with JSON escapes.
    EscapedKey {
        /// Offset of the first byte.
        start: u32,
        /// Offset after the last byte.
        end: u32,
    },
    /// As [`Name::Key`], but written as in a form: with percent escapes, and `+` for a space.
    PercentKey {
        /// Offset of the first byte.
        start: u32,
        /// Offset after the last byte.
        end: u32,
    },
    /// A name that is not in the bytes: a protobuf field, or a container segment such as `!json`. The empty name
    /// stands in no path.
    Static(&'static str),
    /// A protobuf field that the schema does not name.
    FieldNumber(u32),
}

/// What a node's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// A list; its span holds its members.
    Array,
    /// `true` or `false`.
    Bool,
    /// Bytes that are not text.
    Bytes,
    /// `null`.
    Null,
    /// A number, as it is written.
    Number,
    /// A list of named members; its span holds them.
    Object,
    /// Text. The span is what stands between the quotes.
    String,
    /// Text of which a plain copy stands in another text, see [`Document::plain`]: because it is written with the
    /// escapes of its format (JSON's, a form's), or because it holds JSON that was opened there.
    EscapedString,
    /// A number in a binary format: there is no text to scan, and [`Field::digits`] reads it.
    Binary(BinaryNumber),
}

impl FieldKind {
    /// Whether it has members rather than a value.
    pub const fn is_branch(self) -> bool {
        matches!(self, Self::Array | Self::Object)
    }

    /// Whether it is text.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::String | Self::EscapedString)
    }
}

/// 32 bytes: there is one for every field of a body, and writing them is a good part of a walk.
#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    text: u32,
    start: u32,
    end: u32,
    label: Label,
    kind: FieldKind,
}

/// A [`Name`] in the form in which nodes keep it, which takes less space and fewer steps.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// What `form` says: offsets of a key, a number, or a place in [`Document::statics`].
    parts: (u32, u32),
    form: NameForm,
}

impl Label {
    /// [`Name::Index`].
    #[inline]
    pub const fn index(index: u32) -> Self {
        Self { parts: (index, 0), form: NameForm::Index }
    }

    /// [`Name::Key`], or with `escaped` [`Name::EscapedKey`].
    #[inline]
    pub const fn key(start: u32, end: u32, escaped: bool) -> Self {
        Self { parts: (start, end), form: if escaped { NameForm::EscapedKey } else { NameForm::Key } }
    }

    /// Where its text stands, if it is a [`Name::Key`].
    #[inline]
    pub fn plain_key(self) -> Option<Range<usize>> {
        (self.form == NameForm::Key).then_some(self.parts.0 as usize..self.parts.1 as usize)
    }
}

/// Which [`Name`] a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameForm {
    EscapedKey,
    FieldNumber,
    Index,
    Key,
    PercentKey,
    /// A static name that is a container's segment: it begins with `!`.
    Segment,
    Static,
}

impl Node {
    /// Where the key stands in the node's own text.
    fn key(&self) -> Option<Range<u32>> {
        let is_key = matches!(self.label.form, NameForm::EscapedKey | NameForm::Key | NameForm::PercentKey);
        is_key.then_some(self.label.parts.0..self.label.parts.1)
    }
}

/// How offsets in an opened text lead back into the text that it was opened from.
#[derive(Clone, Debug)]
pub enum SpanMap {
    /// Base64 without line breaks that begins at this offset of the parent text: four characters for three bytes.
    Base64 {
        /// Offset of the first character in the parent text.
        start: u32,
    },
    /// Runs of equal length on both sides, separated by places where one unit decodes to another length: which of
    /// the text's [`Piece`]s they are.
    Pieces(Range<u32>),
    /// As [`SpanMap::Base64`], but written from its last character to its first.
    ReversedBase64 {
        /// Offset after the first character, which comes last, in the parent text.
        end: u32,
    },
    /// No inner structure (compression): everything maps to the whole of this range of the parent text.
    Whole(Range<u32>),
}

/// The start of a run or unit: (offset here, offset in the parent text, whether it is a unit).
///
/// Offsets count from the start of either text, not of the segment. Behind a unit stands another piece, be it only for
/// the end of the segment, to say where the unit ends.
pub type Piece = (u32, u32, bool);

impl SpanMap {
    /// The smallest range of the parent text that encodes `range`. `offset` is where this segment starts.
    fn to_parent(&self, range: Range<u32>, offset: u32, pieces: &[Piece]) -> Range<u32> {
        match self {
            Self::Base64 { start } => {
                let Range { start: first, end: last } = base64_characters(range, offset);
                start + first..start + last
            }
            Self::Pieces(own) => {
                let pieces = pieces.get(own.start as usize..own.end as usize).unwrap_or_default();
                let place = |at: u32| pieces.partition_point(|piece| piece.0 <= at).saturating_sub(1);
                let (mut start, mut end) = (range.start, range.end);
                if let Some(&(here, there, unit)) = pieces.get(place(range.start)) {
                    start = if unit { there } else { there + (range.start - here) };
                }
                if range.is_empty() {
                    return start..start;
                }
                let index = place(range.end - 1);
                if let Some(&(here, there, unit)) = pieces.get(index) {
                    end = match pieces.get(index + 1) {
                        Some(&(_, next, _)) if unit => next,
                        _ => there + (range.end - here),
                    };
                }
                start..end
            }
            Self::ReversedBase64 { end } => {
                let characters = base64_characters(range, offset);
                end.saturating_sub(characters.end)..end.saturating_sub(characters.start)
            }
            Self::Whole(whole) if range.is_empty() => whole.start..whole.start,
            Self::Whole(whole) => whole.clone(),
        }
    }
}

/// Which characters of base64 hold the bits of a range of bytes, which begins counting at `offset`.
fn base64_characters(range: Range<u32>, offset: u32) -> Range<u32> {
    let (from, to) = (range.start - offset, range.end - offset);
    // The character that holds a byte's first bit, and the one that holds its last.
    let first = from / 3 * 4 + from % 3;
    if range.is_empty() {
        return first..first;
    }
    first..(to - 1) / 3 * 4 + (to - 1) % 3 + 2
}

/// A piece of an opened text: where it lies, whose value it is, and how to get back.
#[derive(Clone, Debug)]
struct Segment {
    start: u32,
    end: u32,
    owner: u32,
    /// `None` in the body: there is nothing behind it.
    map: Option<SpanMap>,
}

#[derive(Clone)]
struct Text {
    bytes: Bytes,
    /// The same length, with zeros for what is no value; `None` where the bytes themselves keep values apart.
    scannable: Option<Bytes>,
    /// The text that this one was opened from; itself for the body.
    parent: u32,
    segments: Vec<Segment>,
    /// What the maps of all segments refer to.
    pieces: Vec<Piece>,
    /// The first of the nodes whose spans lie in this text. They are contiguous, in order of their offsets, and end
    /// where those of the next text begin.
    first_node: u32,
    /// Whether hits in the parent text inside an owner are void because this text replaces them (base64 and the like).
    replaces_parent: bool,
}

/// A payload taken apart: a tree of fields, each with the bytes that it was read from.
///
/// Values are not copied: a node is a span in a text. Text 0 is the body. Strings with escapes, and containers inside
/// strings (JSON, base64, percent), are decoded into further texts, each of which remembers for every byte where it
/// came from. So a scanner reads whole texts from end to end, and any hit leads back to a field and to the smallest
/// range of the body that encodes it.
///
/// Its debug form says how much there is, and nothing of what it says.
#[derive(Clone)]
pub struct Document {
    prefix: &'static str,
    texts: Vec<Text>,
    nodes: Vec<Node>,
    /// Names that are not in the bytes, each once.
    statics: Vec<&'static str>,
    gaps: Vec<(NodeId, NotInspected)>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<usize> = self.texts.iter().map(|text| text.bytes.len()).collect();
        f.debug_struct("Document")
            .field("prefix", &self.prefix)
            .field("text_bytes", &texts)
            .field("nodes", &self.nodes.len())
            .field("gaps", &self.gaps)
            .finish()
    }
}

impl Document {
    /// The first part of every path: the format's name.
    pub fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// The texts to scan, the body first.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = (TextId, &[u8])> {
        self.texts.iter().enumerate().map(|(index, text)| (TextId(index as u32), &text.bytes[..]))
    }

    /// The bytes of one text.
    pub fn text(&self, text: TextId) -> &[u8] {
        &self.texts[text.index()].bytes
    }

    /// The bytes of one text, shared rather than borrowed.
    pub fn text_bytes(&self, text: TextId) -> Bytes {
        self.texts[text.index()].bytes.clone()
    }

    /// The bytes of one text as a scanner should read them, offset for offset: in a binary format what frames values
    /// is blank, because a length may read as a letter or a digit of the value beside it.
    pub fn scannable(&self, text: TextId) -> &[u8] {
        let text = &self.texts[text.index()];
        text.scannable.as_ref().unwrap_or(&text.bytes)
    }

    /// Whether a text replaces what stands for it in its parent, so that hits there are void.
    pub fn replaces_parent(&self, text: TextId) -> bool {
        self.texts[text.index()].replaces_parent
    }

    /// What could not be read, and below which node.
    pub fn gaps(&self) -> &[(NodeId, NotInspected)] {
        &self.gaps
    }

    /// Every node in document order, text by text.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Field<'_>> {
        self.fields_between(0..self.nodes.len())
    }

    /// A node and all behind it. Not by skipping, which would look at every node before.
    pub fn fields_from(&self, first: NodeId) -> impl ExactSizeIterator<Item = Field<'_>> {
        self.fields_between(first.index().min(self.nodes.len())..self.nodes.len())
    }

    /// The nodes that were added since `mark`.
    pub fn fields_since(&self, mark: Mark) -> impl ExactSizeIterator<Item = Field<'_>> {
        self.fields_from(mark.first())
    }

    /// The nodes whose bytes stand in one text, in document order.
    pub fn fields_in(&self, text: TextId) -> impl ExactSizeIterator<Item = Field<'_>> {
        self.fields_between(self.nodes_of(text))
    }

    fn fields_between(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = Field<'_>> {
        let first = range.start as u32;
        let field = move |(at, node)| Field { document: self, node, id: NodeId(first + at as u32) };
        self.nodes[range].iter().enumerate().map(field)
    }

    /// Which nodes lie in a text.
    fn nodes_of(&self, text: TextId) -> Range<usize> {
        let end = self.texts.get(text.index() + 1).map_or(self.nodes.len(), |next| next.first_node as usize);
        self.texts[text.index()].first_node as usize..end
    }

    /// Every node that has a value rather than members.
    pub fn leaves(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields().filter(|field| !field.kind().is_branch())
    }

    /// One node.
    pub fn field(&self, id: NodeId) -> Field<'_> {
        Field { document: self, node: &self.nodes[id.index()], id }
    }

    /// The deepest field whose value (or key) holds offset `at` of `text`.
    ///
    /// Falls back to the value that the text was opened from, then to the root.
    pub fn field_at(&self, text: TextId, at: usize) -> Field<'_> {
        let at = at as u32;
        let range = self.nodes_of(text);
        let nodes = &self.nodes[range.clone()];
        let after = nodes.partition_point(|node| node.start <= at);
        // A key stands before its value: the node that starts next may own the offset by its name. Unless a value
        // stands here that gives another node its name, as the type of a Sentry item does.
        let is_value = after > 0 && {
            let node = &nodes[after - 1];
            !node.kind.is_branch() && at < node.end
        };
        if !is_value && nodes.get(after).and_then(Node::key).is_some_and(|key| key.contains(&at)) {
            return self.field(NodeId((range.start + after) as u32));
        }
        // Walk up from the last node that starts before the offset to the one that also ends after it.
        let mut index = after.checked_sub(1).map(|last| (range.start + last) as u32);
        while let Some(current) = index {
            let node = &self.nodes[current as usize];
            if node.text != text.0 {
                break;
            }
            if at < node.end {
                return self.field(NodeId(current));
            }
            index = (node.parent != current).then_some(node.parent);
        }
        let owner = self.segment_at(text, at).map_or(0, |segment| segment.owner);
        self.field(NodeId(owner))
    }

    fn segment_at(&self, text: TextId, at: u32) -> Option<&Segment> {
        let segments = &self.texts[text.index()].segments;
        let index = segments.partition_point(|segment| segment.start <= at).checked_sub(1)?;
        segments.get(index)
    }

    /// The part of `text` around `at` that came out of one value, with the value's node.
    ///
    /// For the body this is the whole body and the root.
    pub fn segment(&self, text: TextId, at: usize) -> (NodeId, Range<usize>) {
        self.segment_at(text, at as u32).map_or((NodeId::ROOT, 0..self.text(text).len()), |segment| {
            (NodeId(segment.owner), segment.start as usize..segment.end as usize)
        })
    }

    /// The parent text, and the smallest range of it that encodes `range` of `text`; `None` for the body.
    pub fn parent_span(&self, text: TextId, range: Range<usize>) -> Option<(TextId, Range<usize>)> {
        let place = &self.texts[text.index()];
        let segment = self.segment_at(text, range.start as u32)?;
        let start = range.start as u32;
        let end = (range.end as u32).min(segment.end).max(start);
        let parent = segment.map.as_ref()?.to_parent(start..end, segment.start, &place.pieces);
        Some((TextId(place.parent), parent.start as usize..parent.end as usize))
    }

    /// How the part of `text` around `at` was made of the parent text: the parent, the map, and the pieces that the map
    /// names; `None` for the body.
    pub fn way_back(&self, text: TextId, at: usize) -> Option<(TextId, &SpanMap, &[Piece])> {
        let map = self.segment_at(text, at as u32)?.map.as_ref()?;
        let place = &self.texts[text.index()];
        let pieces = match map {
            SpanMap::Pieces(own) => place.pieces.get(own.start as usize..own.end as usize),
            SpanMap::Base64 { .. } | SpanMap::ReversedBase64 { .. } | SpanMap::Whole(_) => None,
        };
        Some((TextId(place.parent), map, pieces.unwrap_or_default()))
    }

    /// The smallest range of the body that encodes `range` of `text`.
    pub fn body_span(&self, text: TextId, range: Range<usize>) -> Range<usize> {
        let (mut text, mut range) = (text, range);
        while text != TextId::BODY {
            match self.parent_span(text, range.clone()) {
                Some((parent, span)) => (text, range) = (parent, span),
                None => break,
            }
        }
        range
    }

    /// What people read at a place in the field `id`: a binary number in decimal, all else as it stands there.
    pub fn value(&self, id: NodeId, text: TextId, range: Range<usize>) -> Cow<'_, [u8]> {
        let field = self.field(id);
        let is_whole = (field.text(), field.span()) == (text, range.clone());
        match field.digits().filter(|_| is_whole) {
            Some(digits) => digits.as_str().as_bytes().to_vec().into(),
            None => self.text(text)[range].into(),
        }
    }

    /// The plain form of a string with escapes, if it was decoded: its text and range.
    pub fn plain(&self, id: NodeId) -> Option<(TextId, Range<usize>)> {
        let node = &self.nodes[id.index()];
        if node.kind != FieldKind::EscapedString {
            return None;
        }
        // Texts are few; segments are sorted by owner because owners are visited in order. The first one is the
        // string's: plain copies of keys come in a text after it.
        self.texts
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, text)| text.parent == node.text && !text.replaces_parent)
            .find_map(|(index, text)| {
                let at = text.segments.binary_search_by_key(&id.0, |segment| segment.owner).ok()?;
                let segment = &text.segments[at];
                Some((TextId(index as u32), segment.start as usize..segment.end as usize))
            })
    }
}

/// A node of a [`Document`], borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Field<'d> {
    document: &'d Document,
    node: &'d Node,
    id: NodeId,
}

impl<'d> Field<'d> {
    /// Which node it is.
    pub fn id(self) -> NodeId {
        self.id
    }

    /// What its bytes are.
    pub fn kind(self) -> FieldKind {
        self.node.kind
    }

    /// What its parent calls it.
    pub fn name(self) -> Name {
        let (start, end) = self.node.label.parts;
        match self.node.label.form {
            NameForm::EscapedKey => Name::EscapedKey { start, end },
            NameForm::FieldNumber => Name::FieldNumber(start),
            NameForm::Index => Name::Index(start),
            NameForm::Key => Name::Key { start, end },
            NameForm::PercentKey => Name::PercentKey { start, end },
            NameForm::Segment | NameForm::Static => Name::Static(self.document.statics[start as usize]),
        }
    }

    /// Its name as it is written, and where it is not: equal names are equal, though not the other way round.
    pub fn name_bytes(self) -> (Name, &'d [u8]) {
        let text = self.document.text(self.text());
        match self.name() {
            Name::Key { start, end } => (Name::Key { start: 0, end: 0 }, &text[start as usize..end as usize]),
            Name::EscapedKey { start, end } => {
                (Name::EscapedKey { start: 0, end: 0 }, &text[start as usize..end as usize])
            }
            Name::PercentKey { start, end } => {
                (Name::PercentKey { start: 0, end: 0 }, &text[start as usize..end as usize])
            }
            name => (name, b""),
        }
    }

    /// Where its name stands in its text, if that is written there without escapes.
    #[inline]
    pub fn plain_key(self) -> Option<Range<usize>> {
        self.node.label.plain_key()
    }

    /// Where its name stands in its text, if that is written with escapes.
    pub fn written_key(self) -> Option<(usize, usize)> {
        let (start, end) = self.node.label.parts;
        matches!(self.node.label.form, NameForm::EscapedKey | NameForm::PercentKey)
            .then_some((start as usize, end as usize))
    }

    /// Whether its name is the segment of an opened container, such as `!json`.
    pub fn is_segment(self) -> bool {
        self.node.label.form == NameForm::Segment
    }

    /// The node above; `None` for the root.
    pub fn parent(self) -> Option<Field<'d>> {
        let parent = NodeId(self.node.parent);
        (parent != self.id).then(|| self.document.field(parent))
    }

    /// The text that its bytes stand in.
    pub fn text(self) -> TextId {
        TextId(self.node.text)
    }

    /// Where its bytes stand in that text.
    pub fn span(self) -> Range<usize> {
        self.node.start as usize..self.node.end as usize
    }

    /// Its bytes as they are written, escapes included.
    pub fn raw(self) -> &'d [u8] {
        &self.document.text(self.text())[self.span()]
    }

    /// The smallest range of the body that encodes it.
    pub fn body_span(self) -> Range<usize> {
        self.document.body_span(self.text(), self.span())
    }

    /// Its value without escapes: the bytes themselves, or the plain copy of an escaped string.
    pub fn plain(self) -> &'d [u8] {
        match self.kind() {
            FieldKind::EscapedString => match self.document.plain(self.id) {
                Some((text, range)) => &self.document.text(text)[range],
                None => self.raw(),
            },
            _ => self.raw(),
        }
    }

    /// Its value for people: text as text, binary numbers in digits, other bytes as hex.
    pub fn display(self) -> Cow<'d, str> {
        match self.kind() {
            FieldKind::Binary(number) => number.digits(self.raw()).as_str().to_owned().into(),
            FieldKind::Bytes => {
                let mut text = String::with_capacity(self.raw().len() * 2);
                for byte in self.raw() {
                    let _ = write!(text, "{byte:02x}");
                }
                text.into()
            }
            _ => String::from_utf8_lossy(self.plain()),
        }
    }

    /// Its value in decimal, if it is a binary number.
    pub fn digits(self) -> Option<Digits> {
        match self.kind() {
            FieldKind::Binary(number) => Some(number.digits(self.raw())),
            _ => None,
        }
    }

    /// The smallest range of the body that encodes its name, if the name stands there.
    pub fn name_span(self) -> Option<Range<usize>> {
        match self.name() {
            Name::Key { start, end } | Name::EscapedKey { start, end } | Name::PercentKey { start, end } => {
                Some(self.document.body_span(self.text(), start as usize..end as usize))
            }
            Name::FieldNumber(_) | Name::Index(_) | Name::Static(_) => None,
        }
    }

    /// The last segment of its path, unescaped; `None` for the root and for places in a list.
    pub fn last_segment(self) -> Option<Cow<'d, [u8]>> {
        match self.name() {
            Name::Static("") | Name::Index(_) | Name::FieldNumber(_) => None,
            Name::Static(name) => Some(Cow::Borrowed(name.as_bytes())),
            Name::Key { start, end } => {
                Some(Cow::Borrowed(&self.document.text(self.text())[start as usize..end as usize]))
            }
            Name::EscapedKey { start, end } => {
                Some(Cow::Owned(unescape_key(&self.document.text(self.text())[start as usize..end as usize])))
            }
            Name::PercentKey { start, end } => {
                Some(Cow::Owned(percent_key(&self.document.text(self.text())[start as usize..end as usize])))
            }
        }
    }

    /// Its path: `prefix:a/0/b`. Of many fields, a [`PathWriter`](crate::model::PathWriter) writes them quicker.
    pub fn path(self) -> FieldPath {
        path_of(self.document.prefix, self)
    }
}

fn unescape_key(raw: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    serde_json::from_slice::<String>(&quoted).map_or_else(|_| raw.to_vec(), String::into_bytes)
}

fn percent_key(raw: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        rest = after;
        plain.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    (high << 4 | low) as u8
                }
                _ => b'%',
            },
            _ => *first,
        });
    }
    plain
}

#[cfg(test)]
mod tests;
