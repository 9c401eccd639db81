use crate::model::ByteSize;

/// Parses `4096`, `512 KiB`, `8MiB`, `1 GiB`; upper or lower case.
///
/// # Errors
/// For anything else, decimal units included: `MB` means two things.
pub fn parse_size(text: &str) -> Result<ByteSize, SizeError> {
    let error = || SizeError(text.escape_debug().to_string());
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| error())?;
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(error()),
    };
    number.checked_mul(factor).map(ByteSize::bytes).ok_or_else(error)
}

/// Text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no size; write a number of bytes, or a number and KiB, MiB or GiB")]
pub struct SizeError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("4096"), Ok(ByteSize::bytes(4096)));
        assert_eq!(parse_size("512 KiB"), Ok(ByteSize::kibibytes(512)));
        assert_eq!(parse_size("8mib"), Ok(ByteSize::mebibytes(8)));
        assert_eq!(parse_size(" 1GiB "), Ok(ByteSize::mebibytes(1024)));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "8 MB", "-1", "1.5 MiB", "99999999999 GiB", "0x10"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
