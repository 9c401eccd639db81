use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

/// Recorders differ in whether they pad, and some leave bits over at the end.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Decodes base64 of either alphabet; white space in it is no matter. `None` if it is none.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let alphabet = match text.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        true => alphabet::URL_SAFE,
        false => alphabet::STANDARD,
    };
    GeneralPurpose::new(&alphabet, LENIENT).decode(text).ok()
}

/// Encodes as the specification has it.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_are_read_with_and_without_padding() {
        for text in ["//4AAQ==", "//4AAQ", "__4AAQ==", "//4A\r\nAQ=="] {
            assert_eq!(decode(text.as_bytes()), Some(vec![0xff, 0xfe, 0, 1]), "{text}");
        }
        assert_eq!(decode(b"{not base64}"), None);
        assert_eq!(encode(&[0xff, 0xfe, 0, 1]), "//4AAQ==");
    }
}
