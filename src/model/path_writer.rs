use std::{collections::HashMap, fmt::Write as _};

use crate::model::{Document, Field, FieldPath, Name, NodeId};

/// Writes the paths of one document's fields, each onto what it has in common with the one before.
///
/// Cheap when fields come in document order, right in any.
#[derive(Debug)]
pub struct PathWriter<'d> {
    path: String,
    prefix_bytes: usize,
    /// From the root down to the last field.
    chain: Vec<Link<'d>>,
    missing: Vec<Field<'d>>,
    /// What stands for the names of some fields.
    masks: HashMap<NodeId, Box<str>>,
}

#[derive(Debug)]
struct Link<'d> {
    field: Field<'d>,
    /// Where the path ends that leads to it.
    end: usize,
    /// Whether that path has a segment. Not to be told from its length: a key may be empty.
    has_segment: bool,
}

impl<'d> PathWriter<'d> {
    /// Starts with the document's prefix.
    pub fn new(document: &Document) -> Self {
        let mut path = String::with_capacity(PATH_BYTES);
        path.push_str(document.prefix());
        path.push(':');
        Self {
            prefix_bytes: path.len(),
            path,
            chain: Vec::with_capacity(DEPTH),
            missing: Vec::new(),
            masks: HashMap::new(),
        }
    }

    /// Writes these instead of the names of fields, where what a field is called must not be shown.
    #[must_use]
    pub fn masking(self, masks: HashMap<NodeId, Box<str>>) -> Self {
        Self { masks, ..self }
    }

    /// The path of a field, which must be of that document: `prefix:a/0/b`.
    pub fn path(&mut self, field: Field<'d>) -> &str {
        let mut current = Some(field);
        while let Some(field) = current {
            // Members have higher numbers than their parent: what is higher stands on another branch.
            while self.chain.last().is_some_and(|link| link.field.id() > field.id()) {
                self.chain.pop();
            }
            if self.chain.last().is_some_and(|link| link.field.id() == field.id()) {
                break;
            }
            self.missing.push(field);
            current = field.parent();
        }
        self.path.truncate(self.chain.last().map_or(self.prefix_bytes, |link| link.end));
        while let Some(field) = self.missing.pop() {
            self.push(field);
        }
        &self.path
    }

    /// The path of a field as a value of its own.
    pub fn field_path(&mut self, field: Field<'d>) -> FieldPath {
        FieldPath::from_raw(self.path(field))
    }

    fn push(&mut self, field: Field<'d>) {
        let after_segment = self.chain.last().is_some_and(|link| link.has_segment);
        let has_segment = match self.masks.get(&field.id()) {
            Some(mask) => {
                if after_segment {
                    self.path.push('/');
                }
                push_segment(&mut self.path, mask.as_bytes());
                true
            }
            None => push_name(&mut self.path, field, after_segment),
        };
        self.chain.push(Link { field, end: self.path.len(), has_segment });
    }
}

/// The path of one field of a document with this prefix.
pub(super) fn path_of(prefix: &str, field: Field<'_>) -> FieldPath {
    let mut chain = Vec::with_capacity(DEPTH);
    let mut current = Some(field);
    while let Some(field) = current {
        chain.push(field);
        current = field.parent();
    }
    let mut path = String::with_capacity(PATH_BYTES);
    path.push_str(prefix);
    path.push(':');
    let after_segment = false;
    chain
        .into_iter()
        .rev()
        .fold(after_segment, |after_segment, field| push_name(&mut path, field, after_segment));
    FieldPath::from_raw(path)
}

/// Writes what a field's parent calls it; returns whether the path has a segment now.
fn push_name(path: &mut String, field: Field<'_>, after_segment: bool) -> bool {
    if matches!(field.name(), Name::Static("")) {
        return after_segment;
    }
    if after_segment {
        path.push('/');
    }
    match field.name() {
        Name::Index(index @ 0..10) => path.push(char::from(b'0' + index as u8)),
        Name::Index(index) => _ = write!(path, "{index}"),
        Name::FieldNumber(number) => _ = write!(path, "#{number}"),
        _ => push_segment(path, &field.last_segment().unwrap_or_default()),
    }
    true
}

/// Writes a segment so that it holds no separator, and nothing that moves a terminal's cursor.
fn push_segment(path: &mut String, segment: &[u8]) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'}') && byte != b'/';
    // To the end in any case: without a way out, many bytes are looked at at once.
    if segment.iter().fold(true, |plain, byte| plain & is_plain(*byte))
        && let Ok(segment) = std::str::from_utf8(segment)
    {
        path.push_str(segment);
        return;
    }
    for char in String::from_utf8_lossy(segment).chars() {
        match char {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            char if char.is_control() => _ = write!(path, "{}", char.escape_unicode()),
            char => path.push(char),
        }
    }
}

/// Most paths are shorter than this.
const PATH_BYTES: usize = 128;

/// Most fields stand less deep than this.
const DEPTH: usize = 16;
