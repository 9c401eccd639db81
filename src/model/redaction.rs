//! How values are made unreadable, and what an edit of a document is. Said by `rules` and `policy`, carried out by
//! `redaction` (value to replacement) and `payload` (replacement to bytes).

use std::ops::{Range, RangeInclusive};

use crate::model::{NodeId, TextId};

/// How a value is made unreadable: as a rule says it, or a row of the policy in its stead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redaction {
    /// Keeps the network part of an address.
    IpPrefix {
        /// Bits kept of an IPv4 address.
        v4: u8,
        /// Bits kept of an IPv6 address.
        v6: u8,
    },
    /// Replaces each text inside a container and keeps its shape.
    Leaves {
        /// What stands for each.
        each: Template,
    },
    /// Replaces characters by a filler and keeps the ends.
    Mask {
        /// Characters kept at the start.
        keep_first: usize,
        /// Characters kept at the end.
        keep_last: usize,
    },
    /// As [`Redaction::Mask`], with as many filler characters as there were: lengths and columns stay.
    MaskSameLength {
        /// Characters kept at the start.
        keep_first: usize,
        /// Characters kept at the end.
        keep_last: usize,
    },
    /// `null` where the format has one, else an empty value.
    Null,
    /// Keeps a prefix that names the kind.
    Partial {
        /// Bytes kept.
        keep_prefix: usize,
        /// What stands for the value.
        template: Template,
    },
    /// The same replacement for the same value, by a keyed hash.
    Pseudonym {
        /// Whose key: this installation's (joins work across runs) or this run's.
        scope: PseudonymScope,
        /// What stands for the value.
        template: Template,
    },
    /// Takes the whole member out, name and value; in a list, or where a format cannot leave it out, an empty value.
    Remove,
    /// The same replacement for every value.
    Replace {
        /// What stands for the value.
        template: Template,
    },
    /// Says how long it was, and nothing else.
    Summary {
        /// What stands for the value.
        template: Template,
    },
    /// Keeps the start and says that there was more.
    Truncate {
        /// Characters kept.
        keep: usize,
    },
}

impl Redaction {
    /// The word for the method, in files and records.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::IpPrefix { .. } => "ip-prefix",
            Self::Leaves { .. } => "leaves",
            Self::Mask { .. } => "mask",
            Self::MaskSameLength { .. } => "mask-same-length",
            Self::Null => "null",
            Self::Partial { .. } => "partial",
            Self::Pseudonym { .. } => "pseudonym",
            Self::Remove => "remove",
            Self::Replace { .. } => "replace",
            Self::Summary { .. } => "summary",
            Self::Truncate { .. } => "truncate",
        }
    }

    /// Whether what comes holds nothing of the value itself, so that it may be shown.
    pub const fn keeps_nothing(&self) -> bool {
        match self {
            Self::Leaves { .. }
            | Self::Null
            | Self::Pseudonym { .. }
            | Self::Remove
            | Self::Replace { .. }
            | Self::Summary { .. } => true,
            Self::IpPrefix { .. }
            | Self::Mask { .. }
            | Self::MaskSameLength { .. }
            | Self::Partial { .. }
            | Self::Truncate { .. } => false,
        }
    }
}

/// Whose key a pseudonym is made with. Per destination, two receivers cannot join what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum PseudonymScope {
    Destination,
    Install,
    Run,
}

/// Replacement text: characters that need no escaping in any format, and placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<TemplatePart>);

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// `{h6}`: so many hex digits of the keyed hash.
    Hash(usize),
    /// `{len}`: the value's length in characters.
    Length,
    /// Text from `[A-Za-z0-9._-]`.
    Literal(Box<str>),
    /// `{prefix}`: what `keep_prefix` keeps.
    Prefix,
}

/// Lengths of the hash placeholder: below 4 pseudonyms collide, 16 is all that a fingerprint has.
const HASH_DIGITS: RangeInclusive<usize> = 4..=16;

impl Template {
    /// Parses the notation.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Box<str>> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or("`{` without `}`")?;
                parts.push(match name {
                    "len" => TemplatePart::Length,
                    "prefix" => TemplatePart::Prefix,
                    _ => match name.strip_prefix('h').and_then(|digits| digits.parse().ok()) {
                        Some(digits) if HASH_DIGITS.contains(&digits) => TemplatePart::Hash(digits),
                        _ => {
                            let why =
                                format!("unknown placeholder `{{{name}}}`; there are {{len}}, {{prefix}}, {{h4}} to {{h16}}");
                            return Err(why.into());
                        }
                    },
                });
                rest = after;
                continue;
            }
            let end = rest.find('{').unwrap_or(rest.len());
            let literal = &rest[..end];
            if !literal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
                return Err("replacement text is made of letters, digits, `.`, `_` and `-` only".into());
            }
            parts.push(TemplatePart::Literal(literal.into()));
            rest = &rest[end..];
        }
        if parts.is_empty() {
            return Err("it is empty".into());
        }
        Ok(Self(parts))
    }

    /// Whether it has a letter that no number has in any base: what it becomes then passes for no id.
    pub fn has_word(&self) -> bool {
        self.0.iter().any(|part| match part {
            TemplatePart::Literal(literal) => {
                literal.bytes().any(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit())
            }
            TemplatePart::Hash(_) | TemplatePart::Length | TemplatePart::Prefix => false,
        })
    }
}

/// What stands in the place of something afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// The format's null, or an empty value where it has none.
    Null,
    /// Nothing: the member goes with its name. Only for a whole node.
    Remove,
    /// This text, of `[A-Za-z0-9._-]` and of what the value itself held: escaped and encoded as its place needs it.
    /// Where the value is a number or a boolean, what stands there afterwards is one too.
    Text(Box<str>),
}

/// One place of a document, and what is to stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The text of which `range` is a part: the body, or one that was opened out of it.
    pub text: TextId,
    /// The bytes that go.
    pub range: Range<usize>,
    /// The field that holds them.
    pub node: NodeId,
    /// What comes.
    pub with: Replacement,
}
