//! Protobuf's wire format: one field after another, each with a number and a form. Knows no schema.

use std::ops::Range;

/// One field as it stands in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WireField {
    pub(super) number: u32,
    pub(super) form: Form,
    /// Where its value stands: without tag, length, or the tag that ends a group.
    pub(super) value: Range<usize>,
    /// Where the next field begins.
    pub(super) end: usize,
    /// Whether it claims more bytes than there are; `value` is then what there is.
    pub(super) is_cut: bool,
}

/// How a field's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Fixed32,
    Fixed64,
    /// Fields between two tags, which proto3 does not have.
    Group,
    /// A length, and that many bytes: text, bytes, a message, or packed numbers.
    Length,
    Varint,
}

/// What stands at a place is no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl WireField {
    /// Reads the field that begins at `at`, of a message that ends at `end`.
    #[inline(always)]
    pub(super) fn read(bytes: &[u8], at: usize, end: usize) -> Result<Self, Broken> {
        // Nearly all fields have a number below 16 and less than 128 bytes.
        if let Some(&[tag @ 8..0x80, length @ ..0x80, ref rest @ ..]) = bytes.get(at..end)
            && tag & 7 == 2
            && usize::from(length) <= rest.len()
        {
            let after = at + 2 + usize::from(length);
            let number = u32::from(tag >> 3);
            return Ok(Self { number, form: Form::Length, value: at + 2..after, end: after, is_cut: false });
        }
        Self::read_any(bytes, at, end)
    }

    fn read_any(bytes: &[u8], at: usize, end: usize) -> Result<Self, Broken> {
        let (number, form, start) = read_tag(bytes, at, end)?;
        let form = match form {
            0 => {
                let (_, after) = read_varint(bytes, start, end)?;
                return Ok(Self {
                    number,
                    form: Form::Varint,
                    value: start..after,
                    end: after,
                    is_cut: false,
                });
            }
            1 => return Self::fixed(number, Form::Fixed64, start, 8, end),
            2 => Form::Length,
            3 => Form::Group,
            5 => return Self::fixed(number, Form::Fixed32, start, 4, end),
            _ => return Err(Broken),
        };
        if form == Form::Group {
            return Self::group(bytes, number, start, end);
        }
        let (length, start) = read_varint(bytes, start, end)?;
        let left = end - start;
        let is_cut = length > left as u64;
        let after = if is_cut { end } else { start + length as usize };
        Ok(Self { number, form, value: start..after, end: after, is_cut })
    }

    fn fixed(number: u32, form: Form, start: usize, length: usize, end: usize) -> Result<Self, Broken> {
        if end - start < length {
            return Err(Broken);
        }
        let value = start..start + length;
        Ok(Self { number, form, end: value.end, value, is_cut: false })
    }

    /// Skips to the tag that ends the group, without a look at what is in it.
    fn group(bytes: &[u8], number: u32, start: usize, end: usize) -> Result<Self, Broken> {
        let (mut at, mut depth) = (start, 1_u32);
        while at < end {
            let (_, form, after) = read_tag(bytes, at, end)?;
            let before = at;
            at = match form {
                0 => read_varint(bytes, after, end)?.1,
                1 => after + 8,
                2 => {
                    let (length, start) = read_varint(bytes, after, end)?;
                    usize::try_from(length).ok().and_then(|length| start.checked_add(length)).ok_or(Broken)?
                }
                3 => {
                    depth += 1;
                    after
                }
                4 => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(Self {
                            number,
                            form: Form::Group,
                            value: start..before,
                            end: after,
                            is_cut: false,
                        });
                    }
                    after
                }
                5 => after + 4,
                _ => return Err(Broken),
            };
        }
        Ok(Self { number, form: Form::Group, value: start..end, end, is_cut: true })
    }
}

/// Field number, wire type, and where the value begins.
#[inline]
fn read_tag(bytes: &[u8], at: usize, end: usize) -> Result<(u32, u8, usize), Broken> {
    let (tag, after) = read_varint(bytes, at, end)?;
    let number = u32::try_from(tag >> 3).map_err(|_| Broken)?;
    if number == 0 || number > LARGEST_NUMBER {
        return Err(Broken);
    }
    Ok((number, (tag & 7) as u8, after))
}

/// Largest number that a field may have, by protobuf's own rule.
const LARGEST_NUMBER: u32 = (1 << 29) - 1;

/// Most bytes of a varint: 64 bits in groups of seven.
pub(super) const VARINT_BYTES: usize = 10;

/// A varint's value, and where it ends. Bits beyond 64 are dropped, as everyone does.
#[inline]
pub(super) fn read_varint(bytes: &[u8], at: usize, end: usize) -> Result<(u64, usize), Broken> {
    let bytes = bytes.get(at..end).ok_or(Broken)?;
    match *bytes {
        [first, ..] if first < 0x80 => return Ok((u64::from(first), at + 1)),
        [first, second, ..] if second < 0x80 => {
            return Ok((u64::from(first & 0x7f) | u64::from(second) << 7, at + 2));
        }
        _ => {}
    }
    let mut value = 0;
    for (index, byte) in bytes.iter().take(VARINT_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Ok((value, at + index + 1));
        }
    }
    Err(Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(u32, Form, Range<usize>, usize, bool), Broken> {
        let field = WireField::read(bytes, 0, bytes.len())?;
        Ok((field.number, field.form, field.value, field.end, field.is_cut))
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read(b"\x08\x96\x01rest"), Ok((1, Form::Varint, 1..3, 3, false)));
        assert_eq!(read(b"\x09abcdefghrest"), Ok((1, Form::Fixed64, 1..9, 9, false)));
        assert_eq!(read(b"\x12\x03abcrest"), Ok((2, Form::Length, 2..5, 5, false)));
        assert_eq!(read(b"\x82\x01\x01arest"), Ok((16, Form::Length, 3..4, 4, false)));
        assert_eq!(read(b"\x1dabcdrest"), Ok((3, Form::Fixed32, 1..5, 5, false)));
        assert_eq!(read(b"\x0b\x08\x01\x13\x12\x01\x0c\x14\x0crest"), Ok((1, Form::Group, 1..8, 9, false)));
    }

    #[test]
    fn what_claims_more_than_there_is_is_cut() {
        assert_eq!(read(b"\x12\x09abc"), Ok((2, Form::Length, 2..5, 5, true)));
        assert_eq!(
            read(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abc"),
            Ok((2, Form::Length, 11..14, 14, true))
        );
        assert_eq!(read(b"\x0b\x08\x01"), Ok((1, Form::Group, 1..3, 3, true)));
        assert_eq!(read(b"\x0b\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Err(Broken));
    }

    #[test]
    fn what_is_no_field_is_broken() {
        for bytes in [&b""[..], b"\x00", b"\x0c", b"\x0e", b"\x0f", b"\x08", b"\x09abc", b"\x80", &[0xff; 12]]
        {
            assert_eq!(read(bytes), Err(Broken), "{bytes:?}");
        }
    }
}
