//! What stands in a container.

use std::{cell::OnceCell, ops::Range};

use crate::model::{BinaryNumber, Document, Field, FieldKind, NodeId};

use super::{Kept, Place};

/// A document, and who is whose child in it, which is found out when first asked.
#[derive(Debug)]
pub struct Tree<'d> {
    document: &'d Document,
    children: OnceCell<Children>,
}

/// The children of all nodes, one node's behind the other's.
#[derive(Debug)]
struct Children {
    /// Where each node's children begin; one more for the end.
    starts: Vec<u32>,
    ids: Vec<NodeId>,
}

impl<'d> Tree<'d> {
    /// Looks at a document.
    pub fn new(document: &'d Document) -> Self {
        Self { document, children: OnceCell::new() }
    }

    /// The document.
    pub fn document(&self) -> &'d Document {
        self.document
    }

    /// What was found in a node: its members, or what was opened out of it.
    pub fn children(&self, node: NodeId) -> &[NodeId] {
        let children = self.children.get_or_init(|| Children::of(self.document));
        let range = |at: usize| children.starts.get(at).copied().unwrap_or_default() as usize;
        &children.ids[range(node.index())..range(node.index() + 1)]
    }

    /// The values in a container that do not stay; `None` if the place is no container that was read as a whole, so
    /// that nothing of it may stay.
    pub(super) fn leaves(&self, place: &Place, kept: Kept<'_>) -> Option<Vec<Place>> {
        let field = self.document.field(place.node);
        let (text, whole) = self.document.plain(place.node).unwrap_or((field.text(), field.span()));
        // A part of a value is no container.
        if self.children(place.node).is_empty() || (text, &whole) != (place.text, &place.range) {
            return None;
        }
        let mut found = Vec::new();
        let mut open = vec![(place.node, false)];
        let mut inside = vec![place.node];
        while let Some((node, stays)) = open.pop() {
            for &child in self.children(node) {
                inside.push(child);
                let field = self.document.field(child);
                let stays = stays
                    || field
                        .last_segment()
                        .is_some_and(|name| kept.keys.iter().any(|key| key.as_bytes() == &*name));
                if !self.children(child).is_empty() {
                    open.push((child, stays));
                } else if !stays && !stays_by_type(field.kind(), kept) && !field.kind().is_branch() {
                    let (text, range) = self.document.plain(child).unwrap_or((field.text(), field.span()));
                    if !range.is_empty() {
                        found.push(Place { text, range, node: child });
                    }
                }
            }
        }
        inside.sort_unstable();
        let is_read =
            |node: &NodeId| inside.binary_search(node).is_err() || self.has_read_all(*node, &inside);
        self.document.gaps().iter().all(|(node, _)| is_read(node)).then_some(found)
    }

    /// Whether what was not read below a node is only where the text was cut off: brackets, and at most a key.
    fn has_read_all(&self, node: NodeId, inside: &[NodeId]) -> bool {
        let field = self.document.field(node);
        let at = field.span().start;
        let segment: Range<usize> = self.document.segment(field.text(), at).1;
        let ends = inside.iter().map(|node| self.document.field(*node)).filter(|other: &Field<'_>| {
            other.text() == field.text() && segment.contains(&other.span().start) && !other.kind().is_branch()
        });
        let Some(last) = ends.map(|other| other.span().end).max() else { return false };
        let tail = &self.document.text(field.text())[last.min(segment.end)..segment.end];
        // The quote that ends the last value, and one or two around a key.
        let mut parts = tail.split(|byte| *byte == b'"');
        let is_frame = |part: &[u8]| part.iter().all(|byte| b"]}:, \n\r\t".contains(byte));
        let (closing, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let _key = parts.next();
        is_frame(closing)
            && is_frame(before)
            && parts.all(is_frame)
            && tail.iter().filter(|byte| **byte == b'"').count() <= 3
    }
}

impl Children {
    fn of(document: &Document) -> Self {
        let count = document.fields().len();
        let mut starts = vec![0_u32; count + 1];
        let parents: Vec<Option<usize>> =
            document.fields().map(|field| field.parent().map(|parent| parent.id().index())).collect();
        for parent in parents.iter().flatten() {
            starts[parent + 1] += 1;
        }
        for at in 0..count {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut ids = vec![NodeId::ROOT; starts[count] as usize];
        for (field, parent) in document.fields().zip(&parents) {
            if let Some(parent) = parent {
                ids[next[*parent] as usize] = field.id();
                next[*parent] += 1;
            }
        }
        Self { starts, ids }
    }
}

fn stays_by_type(kind: FieldKind, kept: Kept<'_>) -> bool {
    let name = match kind {
        FieldKind::Binary(BinaryNumber::Bool) | FieldKind::Bool => "bool",
        FieldKind::Null => return true,
        FieldKind::Binary(_) | FieldKind::Number => "number",
        _ => return false,
    };
    kept.types.iter().any(|kept| **kept == *name)
}
