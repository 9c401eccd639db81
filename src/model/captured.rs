//! The decoded fields that a record keeps, packed: a request may have thousands, and few are ever looked at.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A decoded field as it may be kept: findings in it are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedField {
    /// The field's path.
    pub path: Box<str>,
    /// Its value with every finding masked, cut at a limit.
    pub value: Box<str>,
}

/// Decoded fields in order of place, in one buffer.
///
/// Of each field it holds four things: how many bytes its path shares with the path before, the rest of the path, and
/// the value, each of the texts behind its length. Numbers are LEB128.
///
/// ```
/// # use plainsight::model::{CapturedField, CapturedFields};
/// let mut fields = CapturedFields::default();
/// fields.push("json:user/id", "7");
/// fields.push("json:user/name", "b***");
/// assert_eq!(fields.iter().nth(1).map(|field| field.path).as_deref(), Some("json:user/name"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<CapturedField>", into = "Vec<CapturedField>")]
pub struct CapturedFields {
    packed: Vec<u8>,
    count: usize,
    last_path: String,
}

impl CapturedFields {
    /// Adds a field.
    pub fn push(&mut self, path: &str, value: &str) {
        let shared = shared_prefix(&self.last_path, path);
        let rest = &path[shared..];
        push_number(&mut self.packed, shared as u64);
        push_text(&mut self.packed, rest);
        push_text(&mut self.packed, value);
        self.last_path.truncate(shared);
        self.last_path.push_str(rest);
        self.count += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The fields, written out one by one.
    pub fn iter(&self) -> impl Iterator<Item = CapturedField> + '_ {
        let mut reader = Unpacking { rest: &self.packed, path: String::new() };
        std::iter::from_fn(move || reader.next_field())
    }

    /// The packed form, for [`CapturedFields::from_packed`].
    pub fn as_packed(&self) -> &[u8] {
        &self.packed
    }

    /// Takes the packed form; `None` if it is none.
    pub fn from_packed(packed: Vec<u8>) -> Option<Self> {
        let mut reader = Unpacking { rest: &packed, path: String::new() };
        let mut count = 0;
        while !reader.rest.is_empty() {
            reader.next_field()?;
            count += 1;
        }
        let last_path = reader.path;
        Some(Self { packed, count, last_path })
    }
}

/// As text, not as bytes: tests look for what must not be in a record in its debug form.
impl fmt::Debug for CapturedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Extend<CapturedField> for CapturedFields {
    fn extend<I: IntoIterator<Item = CapturedField>>(&mut self, fields: I) {
        fields.into_iter().for_each(|field| self.push(&field.path, &field.value));
    }
}

impl FromIterator<CapturedField> for CapturedFields {
    fn from_iter<I: IntoIterator<Item = CapturedField>>(fields: I) -> Self {
        let mut packed = Self::default();
        packed.extend(fields);
        packed
    }
}

impl From<Vec<CapturedField>> for CapturedFields {
    fn from(fields: Vec<CapturedField>) -> Self {
        fields.into_iter().collect()
    }
}

impl From<CapturedFields> for Vec<CapturedField> {
    fn from(fields: CapturedFields) -> Self {
        fields.iter().collect()
    }
}

struct Unpacking<'p> {
    rest: &'p [u8],
    path: String,
}

impl Unpacking<'_> {
    fn next_field(&mut self) -> Option<CapturedField> {
        let shared = usize::try_from(take_number(&mut self.rest)?).ok()?;
        if !self.path.is_char_boundary(shared) {
            return None;
        }
        self.path.truncate(shared);
        self.path.push_str(take_text(&mut self.rest)?);
        let value = take_text(&mut self.rest)?;
        Some(CapturedField { path: self.path.as_str().into(), value: value.into() })
    }
}

/// How many bytes two texts begin with alike, whole characters only.
pub(crate) fn shared_prefix(one: &str, other: &str) -> usize {
    let (mut rest, mut others) = (one.as_bytes(), other.as_bytes());
    // Eight at a time: paths are long, and mostly alike.
    while let (Some((first, behind)), Some((other, others_behind))) =
        (rest.split_first_chunk::<8>(), others.split_first_chunk::<8>())
        && first == other
    {
        (rest, others) = (behind, others_behind);
    }
    let last = rest.iter().zip(others).take_while(|(one, other)| one == other).count();
    one.floor_char_boundary(one.len() - rest.len() + last)
}

/// Appends a number as LEB128.
pub(crate) fn push_number(packed: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        packed.push(number as u8 | 0x80);
        number >>= 7;
    }
    packed.push(number as u8);
}

/// Appends a text behind its length.
pub(crate) fn push_text(packed: &mut Vec<u8>, text: &str) {
    push_number(packed, text.len() as u64);
    packed.extend_from_slice(text.as_bytes());
}

/// Takes a number off the front; `None` if none is there.
pub(crate) fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a text off the front; `None` if none is there.
pub(crate) fn take_text<'r>(rest: &mut &'r [u8]) -> Option<&'r str> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(path: &str, value: &str) -> CapturedField {
        CapturedField { path: path.into(), value: value.into() }
    }

    #[test]
    fn packed_fields_come_back_as_they_were() {
        let fields = vec![
            field("json:a/0/é", "1"),
            // Shares the first byte of a character with the path before.
            field("json:a/0/è", ""),
            field("json:a", &"x".repeat(300)),
            field("", "ü"),
            field("json:a", "2"),
        ];

        let packed = CapturedFields::from(fields.clone());
        let read = CapturedFields::from_packed(packed.as_packed().to_vec()).unwrap();

        assert_eq!(packed.len(), 5);
        assert_eq!(read, packed);
        assert_eq!(Vec::from(read), fields);
    }

    #[test]
    fn a_shared_prefix_ends_where_texts_differ() {
        let text = "json:events/0/é/event_data";
        for (end, char) in text.char_indices() {
            let other = format!("{}è", &text[..end]);

            assert_eq!(shared_prefix(text, &other), end, "{char}");
            assert_eq!(shared_prefix(&other, text), end, "{char}");
            assert_eq!(shared_prefix(text, &text[..end]), end, "{char}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_packed_form_is_refused() {
        let packed = CapturedFields::from(vec![field("json:a", "1")]).as_packed().to_vec();

        for end in 1..packed.len() {
            assert!(CapturedFields::from_packed(packed[..end].to_vec()).is_none(), "{end}");
        }
        assert!(CapturedFields::from_packed(vec![1, 0, 0]).is_none());
        assert!(CapturedFields::from_packed(vec![0xff; 20]).is_none());
        assert!(CapturedFields::from_packed(vec![0, 1, 0xff, 0]).is_none());
    }
}
