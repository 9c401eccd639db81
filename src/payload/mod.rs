//! Payloads: turns decoded bytes into the fields of a [`Document`](crate::model::Document). Knows the formats, not who sends them or what is
//! personal in them.
//!
//! One file per format; [`recognise`] says which one a body is in. Whatever the format, strings that hold another
//! document (JSON, base64, percent) are opened afterwards by `container`.

use crate::model::NotInspected;

mod base64;
mod container;
mod escape;
mod format;
mod json;
mod percent;

pub use container::Budget;
pub use format::{PayloadFormat, Recognition, decode, recognise};

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
mod tests;
