//! How a document is put together, text by text. Used by `payload`; everyone else only reads.

use std::ops::Range;

use bytes::Bytes;

use crate::model::NotInspected;

use super::{
    Document, FieldKind, Label, Name, NameForm, Node, NodeId, Piece, Segment, SpanMap, Text, TextId,
};

/// What becomes of a node, see [`DocumentBuilder::reshape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays.
    Keep,
    /// It goes, and its members are its parent's.
    LeaveOut,
    /// It is called otherwise, and is of this kind.
    Rename(Name, FieldKind),
    /// It is called otherwise, and has no value.
    Void(Name),
}

/// A point in the building of a text.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    nodes: usize,
    gaps: usize,
}

impl Mark {
    /// How many nodes the document had.
    pub fn nodes(self) -> usize {
        self.nodes
    }

    /// The first node that was added since.
    pub fn first(self) -> NodeId {
        NodeId(self.nodes as u32)
    }
}

/// Builds a [`Document`] text by text. Used by `payload`; everyone else only reads.
#[derive(Debug)]
pub struct DocumentBuilder {
    document: Document,
    current: u32,
    /// Where a static name may stand in the document's list, by [`slot`].
    places: [u8; SLOTS],
}

/// Static names are looked up without a comparison of their text. OTLP has 150 of them, a request a fraction of that.
const SLOTS: usize = 256;

/// Bytes of a body for which room for one node is made at once: telemetry has a field in 20 to 60 bytes, of
/// which some are opened once more.
const BYTES_PER_NODE: usize = 16;

/// Most nodes that room is made for before the first is read.
const MOST_NODES_AT_ONCE: usize = 1 << 14;

impl DocumentBuilder {
    /// Starts with the body. `prefix` begins every path.
    pub fn new(prefix: &'static str, body: Bytes) -> Self {
        let end = body.len() as u32;
        let body = Text {
            bytes: body,
            scannable: None,
            parent: 0,
            segments: vec![Segment { start: 0, end, owner: 0, map: None }],
            pieces: Vec::new(),
            first_node: 0,
            replaces_parent: false,
        };
        let room = (end as usize / BYTES_PER_NODE).clamp(1, MOST_NODES_AT_ONCE);
        let nodes = Vec::with_capacity(room);
        Self {
            document: Document { prefix, texts: vec![body], nodes, statics: Vec::new(), gaps: Vec::new() },
            current: 0,
            places: [0; SLOTS],
        }
    }

    /// What has been built so far.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The text that nodes are added to.
    pub fn current_text(&self) -> TextId {
        TextId(self.current)
    }

    /// Adds a node to the current text and returns its id. The first node added is the root and its own parent.
    ///
    /// Nodes of one text must be added in order of their spans' starts, a parent before its members.
    #[inline]
    pub fn push(&mut self, parent: NodeId, name: Name, kind: FieldKind, span: Range<usize>) -> NodeId {
        let label = self.label(name);
        self.push_labelled(parent, label, kind, span)
    }

    /// As [`DocumentBuilder::push`], with a name in the form in which it is kept.
    #[inline]
    pub fn push_labelled(
        &mut self,
        parent: NodeId,
        label: Label,
        kind: FieldKind,
        span: Range<usize>,
    ) -> NodeId {
        let id = self.document.nodes.len() as u32;
        let node = Node {
            parent: parent.0,
            text: self.current,
            start: span.start as u32,
            end: span.end as u32,
            label,
            kind,
        };
        self.document.nodes.push(node);
        NodeId(id)
    }

    /// A name in the form in which it is kept.
    #[inline]
    pub fn label(&mut self, name: Name) -> Label {
        let (form, parts) = match name {
            Name::EscapedKey { start, end } => (NameForm::EscapedKey, (start, end)),
            Name::FieldNumber(number) => (NameForm::FieldNumber, (number, 0)),
            Name::Index(index) => (NameForm::Index, (index, 0)),
            Name::Key { start, end } => (NameForm::Key, (start, end)),
            Name::PercentKey { start, end } => (NameForm::PercentKey, (start, end)),
            Name::Static(name) => {
                let form = if name.starts_with('!') { NameForm::Segment } else { NameForm::Static };
                (form, (self.place(name), 0))
            }
        };
        Label { parts, form }
    }

    /// How many nodes there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.document.nodes.len()
    }

    /// Where a static name stands in the document's list. Two names may be one text: that is no harm.
    #[inline]
    fn place(&mut self, name: &'static str) -> u32 {
        let guess = self.places[slot(name)];
        match self.document.statics.get(usize::from(guess)) {
            Some(known) if std::ptr::eq(*known, name) => u32::from(guess),
            _ => self.find_place(name),
        }
    }

    #[cold]
    fn find_place(&mut self, name: &'static str) -> u32 {
        let statics = &mut self.document.statics;
        let place = statics.iter().position(|known| *known == name).unwrap_or_else(|| {
            statics.push(name);
            statics.len() - 1
        });
        if let Ok(guess) = u8::try_from(place)
            && std::ptr::eq(statics[place], name)
        {
            self.places[slot(name)] = guess;
        }
        place as u32
    }

    /// Sets where a branch ends, once that is known.
    pub fn close(&mut self, id: NodeId, end: usize) {
        self.document.nodes[id.index()].end = end as u32;
    }

    /// Gives the current text other bytes to be scanned, see [`Document::scannable`]. Another length changes nothing.
    pub fn set_scannable(&mut self, bytes: Bytes) {
        let text = &mut self.document.texts[self.current as usize];
        if bytes.len() == text.bytes.len() {
            text.scannable = Some(bytes);
        }
    }

    /// Changes what a node's bytes are.
    pub fn set_kind(&mut self, id: NodeId, kind: FieldKind) {
        self.document.nodes[id.index()].kind = kind;
    }

    /// Notes that what stands below `at` was not read.
    pub fn gap(&mut self, at: NodeId, why: NotInspected) {
        self.document.gaps.push((at, why));
    }

    /// Where the current text has got to, for [`DocumentBuilder::rollback`].
    pub fn mark(&self) -> Mark {
        Mark { nodes: self.document.nodes.len(), gaps: self.document.gaps.len() }
    }

    /// Takes back the nodes and gaps that were added to the current text since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        let kept = mark.nodes.max(self.document.texts[self.current as usize].first_node as usize);
        self.document.nodes.truncate(kept);
        self.document.gaps.truncate(mark.gaps);
    }

    /// Goes through the nodes of the body in order, before any text was opened, and makes of each what `change` says.
    ///
    /// `change` may look at the node and at those behind it, but not at those before: they may have moved.
    pub fn reshape(&mut self, mut change: impl FnMut(&Document, NodeId) -> Change) {
        let mut moved: Vec<u32> = Vec::with_capacity(self.document.nodes.len());
        let mut kept = 0;
        for index in 0..self.document.nodes.len() as u32 {
            let change = change(&self.document, NodeId(index));
            let mut node = self.document.nodes[index as usize];
            // The root is its own parent, and stays.
            let parent = if node.parent == index { kept } else { moved[node.parent as usize] };
            node.parent = parent;
            match change {
                Change::LeaveOut if index != 0 => {
                    moved.push(parent);
                    continue;
                }
                Change::Keep | Change::LeaveOut => {}
                Change::Rename(name, kind) => {
                    (node.label, node.kind) = (self.label(name), kind);
                }
                Change::Void(name) => {
                    node.label = self.label(name);
                    (node.kind, node.end) = (FieldKind::Null, node.start);
                }
            }
            self.document.nodes[kept as usize] = node;
            moved.push(kept);
            kept += 1;
        }
        self.document.nodes.truncate(kept as usize);
        for (node, _) in &mut self.document.gaps {
            // What was broken from its first byte has a gap at the root, which is only added at the end.
            node.0 = moved.get(node.index()).copied().unwrap_or_default();
        }
    }

    /// Adds a text that was opened from `parent`; nodes are added to it from now on.
    ///
    /// `segments` are (range in the new text, the node whose value it is, the way back), sorted by range and by node.
    /// `replaces_parent` says that a hit inside the parent's encoded form means nothing.
    pub fn open_text(
        &mut self,
        parent: TextId,
        bytes: Bytes,
        segments: Vec<(Range<usize>, NodeId, SpanMap)>,
        replaces_parent: bool,
    ) -> TextId {
        self.open_copies(parent, bytes, segments, Vec::new(), replaces_parent)
    }

    /// As [`DocumentBuilder::open_text`]; `pieces` are those of all segments whose map is [`SpanMap::Pieces`].
    pub fn open_copies(
        &mut self,
        parent: TextId,
        bytes: Bytes,
        segments: Vec<(Range<usize>, NodeId, SpanMap)>,
        pieces: Vec<Piece>,
        replaces_parent: bool,
    ) -> TextId {
        let id = self.document.texts.len() as u32;
        let first = self.document.nodes.len() as u32;
        let segments = segments
            .into_iter()
            .map(|(range, owner, map)| Segment {
                start: range.start as u32,
                end: range.end as u32,
                owner: owner.0,
                map: Some(map),
            })
            .collect();
        self.document.texts.push(Text {
            bytes,
            scannable: None,
            parent: parent.0,
            segments,
            pieces,
            first_node: first,
            replaces_parent,
        });
        self.current = id;
        TextId(id)
    }

    /// The finished document. One without a single node gets a root that spans the body.
    pub fn finish(mut self) -> Document {
        if self.document.nodes.is_empty() {
            let end = self.document.texts[0].bytes.len();
            self.current = 0;
            for text in &mut self.document.texts[1..] {
                text.first_node = 1;
            }
            self.push(NodeId::ROOT, Name::Static(""), FieldKind::Bytes, 0..end);
        }
        self.document
    }
}

/// Names are told apart by where they stand, which costs no look at them.
#[inline]
fn slot(name: &'static str) -> usize {
    let place = name.as_ptr().addr();
    (place ^ place >> 8 ^ name.len() << 3) % SLOTS
}
