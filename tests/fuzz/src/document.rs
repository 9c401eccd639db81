//! What must hold of every document, whatever it was made from.

use plainsight::model::{ByteSize, Document, TextId};
use plainsight::payload::Budget;

/// A budget that small inputs exhaust, so that its edges are fuzzed too.
pub fn small_budget() -> Budget {
    Budget { containers: 2, depth: 4, nodes: 24, opened_bytes: ByteSize::bytes(512) }
}

/// Checks a document that was made of `body` within `budget`.
pub fn check(document: &Document, body: &[u8], budget: &Budget) {
    assert_eq!(document.text(TextId::BODY), body, "splicing nothing is the identity");
    let nodes = document.fields().len();
    assert!(nodes <= budget.nodes.max(1) as usize, "{nodes} nodes, {} allowed", budget.nodes);
    for (text, bytes) in document.texts() {
        assert_eq!(document.scannable(text).len(), bytes.len());
        check_text(document, text, bytes, body.len());
        check_order(document, text);
    }
    for field in document.fields() {
        let span = field.span();
        assert!(span.start <= span.end && span.end <= document.text(field.text()).len());
        let span = field.body_span();
        assert!(span.start <= span.end && span.end <= body.len(), "{span:?} of {}", body.len());
        if let Some(parent) = field.parent() {
            assert!(parent.id() < field.id(), "a parent comes before its members");
        }
        let path = field.path();
        assert!(!path.as_str().chars().any(char::is_control), "a path moves no cursor");
        if !field.kind().is_branch() {
            _ = field.display();
            _ = field.plain();
        }
    }
    for (node, _) in document.gaps() {
        assert!(node.index() < nodes, "a gap is at a node");
    }
}

/// From anywhere in a text the way leads back into the body.
fn check_text(document: &Document, text: TextId, bytes: &[u8], body_length: usize) {
    let step = (bytes.len() / 64).max(1);
    for at in (0..bytes.len()).step_by(step) {
        let (owner, segment) = document.segment(text, at);
        assert!(segment.start <= segment.end && segment.end <= bytes.len());
        assert!(owner.index() < document.fields().len());
        assert!(document.field_at(text, at).id().index() < document.fields().len());
        let end = (at + step).min(segment.end).max(at);
        for range in [at..at, at..end] {
            let whole = document.body_span(text, range.clone());
            assert!(whole.start <= whole.end && whole.end <= body_length, "{whole:?} of {body_length}");
            check_chain(document, text, range, whole);
        }
    }
}

fn check_chain(
    document: &Document,
    text: TextId,
    range: std::ops::Range<usize>,
    whole: std::ops::Range<usize>,
) {
    let (mut text, mut range) = (text, range);
    while let Some((parent, span)) = document.parent_span(text, range.clone()) {
        assert!(parent < text, "a text is opened out of an earlier one");
        assert!(span.start <= span.end && span.end <= document.text(parent).len());
        (text, range) = (parent, span);
    }
    assert_eq!(text, TextId::BODY, "every chain ends in the body");
    assert_eq!(range, whole);
}

/// Places are looked up by bisection, so nodes must lie in order.
fn check_order(document: &Document, text: TextId) {
    let mut last = 0;
    for field in document.fields_in(text) {
        assert_eq!(field.text(), text, "the nodes of a text lie together");
        let start = field.span().start;
        assert!(start >= last, "the nodes of a text lie in order: {start} after {last}");
        last = start;
    }
}
