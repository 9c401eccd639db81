//! What the first byte of a value says of what the value may hold: asked of every string, so that most are looked at
//! no further.

use crate::payload::{base64, compressed};

/// What a value that begins with some byte may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hint(u8);

const BASE64: u8 = 1;
const JSON: u8 = 2;
const PACKED: u8 = 4;

static HINTS: [u8; 256] = {
    let mut hints = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let first = byte as u8;
        if base64::may_begin(first) {
            hints[byte] |= BASE64;
        }
        if matches!(first, b'{' | b'[' | b' ' | b'\n' | b'\r' | b'\t') {
            hints[byte] |= JSON;
        }
        if compressed::may_begin(first) {
            hints[byte] |= PACKED;
        }
        byte += 1;
    }
    hints
};

impl Hint {
    /// Of a value that begins with this byte.
    #[inline(always)]
    pub(super) fn of(first: u8) -> Self {
        Self(HINTS[first as usize])
    }

    /// Base64 of something that is opened.
    #[inline(always)]
    pub(super) fn may_be_base64(self) -> bool {
        self.0 & BASE64 != 0
    }

    /// An object or a list, perhaps behind white space.
    #[inline(always)]
    pub(super) fn may_be_json(self) -> bool {
        self.0 & JSON != 0
    }

    /// Compressed.
    #[inline(always)]
    pub(super) fn may_be_packed(self) -> bool {
        self.0 & PACKED != 0
    }
}
