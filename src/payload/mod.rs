//! Payloads: turns decoded bytes into the fields of a [`Document`](crate::model::Document). Knows the formats, not who sends them or what is
//! personal in them.
//!
//! One file per format; [`recognise`] says which one a body is in. Whatever the format, strings that hold another
//! document (JSON, base64, percent) are opened afterwards by `container`.

use crate::model::NotInspected;

mod base64;
mod chunk;
mod compressed;
mod container;
mod escape;
mod form;
mod format;
mod head;
mod hint;
mod json;
mod multipart;
mod otlp;
mod percent;
mod protobuf;
mod sentry;
mod shape;
mod splice;
mod tags;

pub use container::Budget;
pub use format::{PayloadFormat, Recognition, decode, decode_stream, recognise};
pub use head::{headers, path, query};
pub use otlp::{Content, OtlpEncoding, Signal, StreamMessage};
pub use splice::{Pack, SpliceError, Surroundings, item_told, splice, splice_within, told};

/// Why a payload was not taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Offsets within it would not fit.
    #[error("the body is too large to be taken apart")]
    TooLarge,
    /// There is no decoder for this format.
    #[error("there is no decoder for the format `{0}`")]
    Unsupported(&'static str),
}

impl PayloadError {
    /// The same for a record.
    pub fn reason(&self) -> NotInspected {
        match self {
            Self::TooLarge => NotInspected::BodyTooLarge,
            Self::Unsupported(_) => NotInspected::FormatUnsupported,
        }
    }
}

#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod tests;
