use std::fmt::{self, Write as _};

/// How the bytes of a binary number are to be read. Protobuf's wire forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are protobuf's own")]
pub enum BinaryNumber {
    Bool,
    Double,
    Fixed32,
    Fixed64,
    Float,
    Sfixed32,
    Sfixed64,
    Sint,
    Varint,
    VarintSigned,
}

impl BinaryNumber {
    /// The number that these bytes are, in decimal.
    pub fn digits(self, raw: &[u8]) -> Digits {
        let varint = || {
            raw.iter().take(10).enumerate().fold(0_u64, |value, (index, byte)| {
                value | u64::from(byte & 0x7f).wrapping_shl(7 * index as u32)
            })
        };
        let fixed64 = || raw.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let fixed32 = || raw.try_into().map(u32::from_le_bytes).unwrap_or_default();
        match self {
            Self::Bool => Digits::of(varint() != 0),
            Self::Double => Digits::of(f64::from_bits(fixed64())),
            Self::Fixed32 => Digits::of(fixed32()),
            Self::Fixed64 => Digits::of(fixed64()),
            Self::Float => Digits::of(f32::from_bits(fixed32())),
            Self::Sfixed32 => Digits::of(fixed32().cast_signed()),
            Self::Sfixed64 => Digits::of(fixed64().cast_signed()),
            Self::Sint => {
                let value = varint();
                Digits::of((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
            }
            Self::Varint => Digits::of(varint()),
            Self::VarintSigned => Digits::of(varint().cast_signed()),
        }
    }

    /// The bytes of the number that `text` writes, as many as `length`; `None` if it is no number of this kind, or
    /// does not fit. A truth value is none.
    pub fn bytes(self, text: &str, length: usize) -> Option<Vec<u8>> {
        let varint = |number: u64| varint_of(number, length);
        let bytes = match self {
            Self::Bool => return None,
            Self::Double => finite(text.parse::<f64>().ok()?)?.to_le_bytes().into(),
            Self::Fixed32 => text.parse::<u32>().ok()?.to_le_bytes().into(),
            Self::Fixed64 => text.parse::<u64>().ok()?.to_le_bytes().into(),
            Self::Float => {
                let number = text.parse::<f32>().ok()?;
                finite(number.into())?;
                number.to_le_bytes().into()
            }
            Self::Sfixed32 => text.parse::<i32>().ok()?.to_le_bytes().into(),
            Self::Sfixed64 => text.parse::<i64>().ok()?.to_le_bytes().into(),
            Self::Sint => {
                let number = text.parse::<i64>().ok()?;
                varint((number << 1 ^ number >> 63).cast_unsigned())?
            }
            Self::Varint => varint(text.parse::<u64>().ok()?)?,
            Self::VarintSigned => varint(text.parse::<i64>().ok()?.cast_unsigned())?,
        };
        Some(bytes).filter(|bytes| bytes.len() == length)
    }
}

fn finite(number: f64) -> Option<f64> {
    Some(number).filter(|number| number.is_finite())
}

/// A varint of exactly so many bytes: its last groups may be zeros, which every reader takes.
fn varint_of(mut number: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    for _ in 0..length {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    *bytes.last_mut()? &= 0x7f;
    (number == 0).then_some(bytes)
}

/// A binary number in decimal, as people read it. On the stack: rules look at numbers in bodies in which they then find
/// nothing.
#[derive(Clone, Copy)]
pub struct Digits {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl Digits {
    /// The longest is that of a small double: a sign, a zero, a point, and 324 places behind it.
    const LONGEST: usize = 327;

    fn of(number: impl fmt::Display) -> Self {
        let mut digits = Self { bytes: [0; Self::LONGEST], length: 0 };
        // All of them fit, see above.
        let _ = write!(digits, "{number}");
        digits
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Digits").field(&self.as_str()).finish()
    }
}

impl fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_numbers_are_written_in_full() {
        let smallest = -f64::MIN_POSITIVE;
        for number in [smallest, -smallest, f64::MIN, f64::MAX, -5e-324, f64::NAN, f64::NEG_INFINITY] {
            let digits = BinaryNumber::Double.digits(&number.to_le_bytes());

            assert_eq!(digits.as_str(), number.to_string());
        }
        assert_eq!(smallest.to_string().len(), Digits::LONGEST);
        assert_eq!(BinaryNumber::VarintSigned.digits(&[0x80; 10]).as_str(), "0");
    }

    #[test]
    fn a_number_that_fits_is_written_in_as_many_bytes() {
        use BinaryNumber::*;
        for (kind, text, length) in [
            (Double, "-2.5", 8),
            (Fixed32, "4294967295", 4),
            (Fixed64, "7", 8),
            (Float, "0.5", 4),
            (Sfixed32, "-7", 4),
            (Sfixed64, "-7", 8),
            (Sint, "-64", 1),
            (Sint, "-9223372036854775808", 10),
            (Varint, "127", 1),
            (Varint, "1", 5),
            (Varint, "18446744073709551615", 10),
            (VarintSigned, "-1", 10),
        ] {
            let bytes = kind.bytes(text, length).unwrap();

            assert_eq!((bytes.len(), kind.digits(&bytes).as_str()), (length, text), "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_such_number_or_too_large_is_not_written() {
        use BinaryNumber::*;
        for (kind, text, length) in [
            (Bool, "1", 1),
            (Bool, "true", 1),
            (Double, "1e999", 8),
            (Double, "NaN", 8),
            (Float, "1e99", 4),
            (Fixed32, "-1", 4),
            (Fixed32, "4294967296", 4),
            (Sint, "64", 1),
            (Varint, "128", 1),
            (Varint, "1", 0),
            (VarintSigned, "-1", 5),
            (VarintSigned, "1.0", 1),
            (VarintSigned, "anon", 4),
        ] {
            assert_eq!(kind.bytes(text, length), None, "{kind:?} {text}");
        }
    }
}
