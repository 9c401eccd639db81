//! What was opened out of a text goes back into it.

use std::{io::Write as _, ops::Range};

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use flate2::{Compression, write};

use crate::{
    model::{Document, FieldKind, Name, NodeId, NotInspected, SpanMap, TextId},
    payload::{
        compressed::{self, Packing},
        splice::{
            SpliceError, Splicer,
            patch::{self, Patch},
            place::{self, Place},
            wire,
        },
    },
};

/// Zstandard's own default.
const ZSTD_LEVEL: i32 = 3;

impl Splicer<'_> {
    /// Makes of the changes in `text` changes in the text that it was opened from.
    pub(super) fn lift(
        &mut self,
        text: TextId,
        pack: Option<&dyn Fn(&[u8]) -> Vec<u8>>,
    ) -> Result<(), SpliceError> {
        let patches = self.take(text);
        let mut rest = &patches[..];
        while let Some(first) = rest.first() {
            let (owner, segment) = self.document.segment(text, first.range.start);
            let count =
                rest.partition_point(|patch| patch.range.start < segment.end.max(first.range.start + 1));
            let (own, others) = rest.split_at(count);
            rest = others;
            if own.iter().any(|patch| patch.range.end > segment.end) {
                return Err(SpliceError::Place);
            }
            self.lift_segment(text, owner, segment, own, pack)?;
        }
        Ok(())
    }

    fn lift_segment(
        &mut self,
        text: TextId,
        owner: NodeId,
        segment: Range<usize>,
        patches: &[Patch],
        pack: Option<&dyn Fn(&[u8]) -> Vec<u8>>,
    ) -> Result<(), SpliceError> {
        let document = self.document;
        let (parent, map) = document.way_back(text, segment.start).ok_or(SpliceError::Place)?;
        if let SpanMap::Pieces(pieces) = map {
            let is_percent = document.replaces_parent(text) && !is_tags(document, text);
            for patch in patches {
                let (range, with) = through_pieces(document.text(text), pieces, patch)?;
                let with = if is_percent { place::escape_percent(&with, false) } else { with };
                self.push_lifted(parent, owner, range, &with);
            }
            return Ok(());
        }
        let encoded = match map {
            SpanMap::Whole(range) => range.start as usize..range.end as usize,
            SpanMap::Base64 { start } => whole_value(document, parent, owner, *start as usize),
            SpanMap::ReversedBase64 { end } => {
                whole_value(document, parent, owner, (*end as usize).saturating_sub(1))
            }
            SpanMap::Pieces(_) => return Err(SpliceError::Place),
        };
        let bytes = document.text(text);
        let raw = document.text(parent).get(encoded.clone()).ok_or(SpliceError::Place)?;
        let edited = if place::is_binary(document, text) {
            wire::message(bytes, segment.clone(), patches)?
        } else {
            patch::apply(bytes, segment.clone(), patches)
        };
        let with = match map {
            SpanMap::Whole(_) if document.field(owner).kind() == FieldKind::Object => {
                pack.ok_or(SpliceError::Packing)?(&edited)
            }
            SpanMap::Whole(_) => {
                let unread = |(node, why): &(NodeId, NotInspected)| {
                    *node == owner
                        && matches!(why, NotInspected::FormatBroken | NotInspected::DecodedTooLarge)
                };
                if document.gaps().iter().any(unread) {
                    return Err(SpliceError::NotWhole);
                }
                repack(compressed::magic(raw).ok_or(SpliceError::Place)?, &edited)
            }
            SpanMap::ReversedBase64 { .. } => {
                let forwards: Vec<u8> = raw.iter().rev().copied().collect();
                let mut with = encode_base64(&forwards, &bytes[segment], &edited);
                with.reverse();
                with
            }
            _ => encode_base64(raw, &bytes[segment], &edited),
        };
        self.push_lifted(parent, owner, encoded, &with);
        Ok(())
    }

    /// Adds what a deeper text became, written as the owner's place wants it.
    fn push_lifted(&mut self, parent: TextId, owner: NodeId, range: Range<usize>, plain: &[u8]) {
        let field = self.document.field(owner);
        let (place, value) = if field.text() != parent {
            (Place::Raw, range.clone())
        } else if place::is_key(field, &range) {
            (Place::of_key(self.document, field), place::key_range(field))
        } else {
            (Place::of_value(self.document, field), field.span())
        };
        self.push(parent, Patch { with: place.write(plain), value, ..Patch::empty(range) });
    }
}

/// The whole of the value around `at` that was opened.
fn whole_value(document: &Document, parent: TextId, owner: NodeId, at: usize) -> Range<usize> {
    let field = document.field(owner);
    if field.text() == parent { field.span() } else { document.segment(parent, at).1 }
}

fn is_tags(document: &Document, text: TextId) -> bool {
    document.fields_in(text).next().is_some_and(|field| field.name() == Name::Static("!tags"))
}

/// A change of a plain copy as a change of what was copied. Escapes are whole: what of one stays is written anew.
fn through_pieces(
    bytes: &[u8],
    pieces: &[(u32, u32, bool)],
    patch: &Patch,
) -> Result<(Range<usize>, Vec<u8>), SpliceError> {
    let piece = |at: usize| {
        let index = pieces.partition_point(|piece| piece.0 as usize <= at).checked_sub(1)?;
        let (here, there, is_unit) = pieces[index];
        let next = pieces.get(index + 1).map(|next| (next.0 as usize, next.1 as usize));
        Some((here as usize, there as usize, is_unit, next))
    };
    let Range { start, end } = patch.range;
    let (here, there, is_unit, _) = piece(start).ok_or(SpliceError::Place)?;
    let (from, parent_from) = if is_unit { (here, there) } else { (start, there + (start - here)) };
    let (to, parent_to) = if start == end && from == start {
        (end, parent_from)
    } else {
        let last = end.max(from + 1) - 1;
        let (here, there, is_unit, next) = piece(last).ok_or(SpliceError::Place)?;
        match next {
            Some((next, parent_next)) if is_unit => (next, parent_next),
            _ => (end, there + (end - here)),
        }
    };
    let with = [&bytes[from..start], &patch.with, &bytes[end..to.max(end)]].concat();
    Ok((parent_from..parent_to, with))
}

/// Compresses a value again as it was.
fn repack(packing: Packing, plain: &[u8]) -> Vec<u8> {
    const INFALLIBLE: &str = "a vector takes whatever is written to it";
    match packing {
        Packing::Gzip => {
            let mut encoder = write::GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE)
        }
        Packing::Zlib => {
            let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE)
        }
        Packing::Zstd => zstd::encode_all(plain, ZSTD_LEVEL).expect(INFALLIBLE),
    }
}

/// Encodes `edited` as `raw` encodes `before`: in its alphabet, padded if it was, and with the same characters for the
/// groups at the start that did not change.
fn encode_base64(raw: &[u8], before: &[u8], edited: &[u8]) -> Vec<u8> {
    let same = before.iter().zip(edited).take_while(|(one, other)| one == other).count() / 3;
    let is_url_safe = raw.iter().any(|byte| matches!(byte, b'-' | b'_'));
    // Where the length needs no padding, the alphabet hints at the habit.
    let is_padded = raw.ends_with(b"=") || raw.len() % 4 == 0 && !is_url_safe;
    let config = GeneralPurposeConfig::new().with_encode_padding(is_padded);
    let alphabet = if is_url_safe { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let mut encoded = raw[..raw.len().min(same * 4)].to_vec();
    encoded.extend_from_slice(GeneralPurpose::new(alphabet, config).encode(&edited[same * 3..]).as_bytes());
    // A last group that was cut off was not read. It stays where it still reads as it did.
    let read = before.len() / 3 * 4 + [0, 2, 3][before.len() % 3];
    let unread = raw.get(read..).unwrap_or_default();
    let is_end_kept = before.last() == edited.last() && before.len() % 3 == 0 && edited.len() % 3 == 0;
    if is_end_kept && !unread.contains(&b'=') {
        encoded.extend_from_slice(unread);
    }
    encoded
}
