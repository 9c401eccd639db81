use std::{fmt, sync::Arc};

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

/// A keyed hash of a value: equal values have equal fingerprints on one machine, and nobody else can tell of what.
///
/// 16 hex digits: the first 64 bits of HMAC-SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Its bytes, for a store.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Takes the bytes that [`Fingerprint::to_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() != 16 {
            return Err("a fingerprint has 16 hex digits");
        }
        u64::from_str_radix(&text, 16).map(Self).map_err(|_| "a fingerprint has 16 hex digits")
    }
}

/// The key of an installation's fingerprints and pseudonyms.
#[derive(Clone)]
pub struct FingerprintKey(Arc<hmac::Key>);

impl FingerprintKey {
    /// Length of the raw key: as long as the hash's output.
    pub const LEN_BYTES: usize = 32;

    /// Makes a key from raw bytes.
    pub fn new(raw: &[u8; Self::LEN_BYTES]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, raw)))
    }

    /// Another key made of this one, for another purpose: who knows what it makes learns nothing of what this one makes.
    #[must_use]
    pub fn derive(&self, label: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.0, label).as_ref())))
    }

    /// Hashes `value`.
    pub fn fingerprint(&self, value: &[u8]) -> Fingerprint {
        let tag = hmac::sign(&self.0, value);
        let mut first = [0; 8];
        first.copy_from_slice(&tag.as_ref()[..8]);
        Fingerprint(u64::from_be_bytes(first))
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_depend_on_value_and_key() {
        let (one, other) = (FingerprintKey::new(&[1; 32]), FingerprintKey::new(&[2; 32]));

        assert_eq!(one.fingerprint(b"a@b.co"), one.fingerprint(b"a@b.co"));
        assert_ne!(one.fingerprint(b"a@b.co"), one.fingerprint(b"a@b.cx"));
        assert_ne!(one.fingerprint(b"a@b.co"), other.fingerprint(b"a@b.co"));
    }

    #[test]
    fn a_derived_key_makes_other_fingerprints_by_its_label() {
        let key = FingerprintKey::new(&[1; 32]);
        let of = |key: &FingerprintKey| key.fingerprint(b"a@b.co");

        assert_eq!(of(&key.derive(b"one")), of(&key.derive(b"one")));
        assert_ne!(of(&key.derive(b"one")), of(&key.derive(b"other")));
        assert_ne!(of(&key.derive(b"one")), of(&key));
    }

    #[test]
    fn a_fingerprint_survives_json() {
        let fingerprint = FingerprintKey::new(&[1; 32]).fingerprint(b"x");

        let text = serde_json::to_string(&fingerprint).unwrap();

        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), fingerprint);
    }
}
