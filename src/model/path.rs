use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a field stands: `prefix:a/0/b`, the same notation for every format.
///
/// A `/` inside a name is written `~1`, a `~` is written `~0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldPath(Box<str>);

impl FieldPath {
    /// Takes a path that is already in its notation.
    pub fn from_raw(path: impl Into<Box<str>>) -> Self {
        Self(path.into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A glob over field paths: `*` within one segment, `**` any number of segments, `{a,b}` alternatives.
///
/// With a prefix (`otlp:**/email`) it holds for that format only; without, for every format.
///
/// ```
/// # use plainsight::model::PathPattern;
/// let pattern = PathPattern::parse("**/{user.email,email}")?;
/// assert!(pattern.matches("otlp:resourceLogs/0/attributes/user.email"));
/// assert!(!pattern.matches("otlp:resourceLogs/0/attributes/user.email_count"));
/// # Ok::<(), plainsight::model::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    source: Box<str>,
    prefix: Option<Box<str>>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`
    Deep,
    /// `{a,b}` or a single name; each may hold `*`.
    OneOf(Vec<Box<str>>),
}

impl PathPattern {
    /// Parses a glob.
    ///
    /// # Errors
    /// An empty pattern or segment, and braces that do not close.
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        let error = |why| PatternError { pattern: source.to_owned(), why };
        let (prefix, rest) = match source.split_once(':') {
            Some((prefix, rest)) if !prefix.contains(['/', '*', '{', '}', '.']) => {
                (Some(prefix.into()), rest)
            }
            _ => (None, source),
        };
        if rest.is_empty() {
            return Err(error("it is empty"));
        }
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            segments.push(match segment {
                "" => return Err(error("a segment is empty")),
                "**" => Segment::Deep,
                segment => {
                    let names = match segment.strip_prefix('{') {
                        Some(rest) => rest
                            .strip_suffix('}')
                            .ok_or_else(|| error("`{` without `}` at the segment's end"))?,
                        None => segment,
                    };
                    if names.contains(['{', '}']) {
                        return Err(error("braces enclose a whole segment, and do not nest"));
                    }
                    let alternatives =
                        if names.len() == segment.len() { vec![names] } else { names.split(',').collect() };
                    if alternatives.contains(&"") {
                        return Err(error("an alternative is empty"));
                    }
                    Segment::OneOf(alternatives.into_iter().map(Into::into).collect())
                }
            });
        }
        Ok(Self { source: source.into(), prefix, segments })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether every path matches.
    pub fn matches_everything(&self) -> bool {
        self.prefix.is_none() && self.segments == [Segment::Deep]
    }

    /// The format that it is limited to.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// The names that a path's last segment must be one of; `None` when that is not a matter of plain names.
    pub fn last_names(&self) -> Option<&[Box<str>]> {
        match self.segments.last()? {
            Segment::OneOf(names) if !names.iter().any(|name| name.contains('*')) => Some(names),
            _ => None,
        }
    }

    /// Whether `path` (with its prefix) matches.
    pub fn matches(&self, path: &str) -> bool {
        let (prefix, rest) = path.split_once(':').unwrap_or(("", path));
        if self.prefix.as_deref().is_some_and(|wanted| wanted != prefix) {
            return false;
        }
        self.matches_segments_of(rest)
    }

    /// Whether `path`, which has no prefix and no leading slash, matches. For paths of URLs.
    pub fn matches_segments_of(&self, path: &str) -> bool {
        /// Deeper paths than any payload's are matched as well, but need memory.
        const USUAL_DEPTH: usize = 32;
        if path.is_empty() {
            return matches_segments(&self.segments, &[]);
        }
        let mut usual = [""; USUAL_DEPTH];
        let mut depth = 0;
        for segment in path.split('/') {
            let Some(place) = usual.get_mut(depth) else {
                return matches_segments(&self.segments, &path.split('/').collect::<Vec<_>>());
            };
            *place = segment;
            depth += 1;
        }
        matches_segments(&self.segments, &usual[..depth])
    }
}

/// Matches with one point of return, so that time is at most the product of both lengths.
fn matches_segments(pattern: &[Segment], path: &[&str]) -> bool {
    let (mut in_pattern, mut in_path) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match pattern.get(in_pattern) {
            Some(Segment::Deep) => {
                retry = Some((in_pattern + 1, in_path));
                in_pattern += 1;
                continue;
            }
            Some(Segment::OneOf(names)) => {
                if let Some(segment) = path.get(in_path)
                    && names.iter().any(|name| matches_name(name.as_bytes(), segment.as_bytes()))
                {
                    (in_pattern, in_path) = (in_pattern + 1, in_path + 1);
                    continue;
                }
            }
            None if in_path == path.len() => return true,
            None => {}
        }
        match retry {
            Some((after_deep, start)) if start < path.len() => {
                retry = Some((after_deep, start + 1));
                (in_pattern, in_path) = (after_deep, start + 1);
            }
            _ => return false,
        }
    }
}

/// Matches one name against a glob in which `*` is any run of bytes.
pub(super) fn matches_name(glob: &[u8], name: &[u8]) -> bool {
    let (mut in_glob, mut in_name) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match glob.get(in_glob) {
            Some(b'*') => {
                retry = Some((in_glob + 1, in_name));
                in_glob += 1;
                continue;
            }
            Some(wanted) if name.get(in_name) == Some(wanted) => {
                (in_glob, in_name) = (in_glob + 1, in_name + 1);
                continue;
            }
            None if in_name == name.len() => return true,
            _ => {}
        }
        match retry {
            Some((after_star, start)) if start < name.len() => {
                retry = Some((after_star, start + 1));
                (in_glob, in_name) = (after_star, start + 1);
            }
            _ => return false,
        }
    }
}

/// A glob that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no path pattern: {why}")]
pub struct PatternError {
    pattern: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn a_deep_star_takes_any_number_of_segments() {
        assert!(matches("**", "json:"));
        assert!(matches("**/a", "json:a"));
        assert!(matches("**/a", "json:x/y/a"));
        assert!(matches("a/**", "json:a/b/c"));
        assert!(matches("**/a/**/b", "json:a/a/x/b"));
        assert!(!matches("**/a", "json:a/b"));
    }

    #[test]
    fn depth_makes_no_difference() {
        for depth in [0, 1, 22, 23, 24, 25, 200] {
            let path = format!("json:{}x", "a/".repeat(depth));

            assert!(matches("**/x", &path), "{depth}");
            assert!(!matches("**/y", &path), "{depth}");
        }
    }

    #[test]
    fn a_prefix_limits_to_one_format() {
        assert!(matches("sentry:**/user/email", "sentry:items/0/event/user/email"));
        assert!(!matches("sentry:**/user/email", "otlp:user/email"));
    }

    #[test]
    fn a_star_stays_within_a_segment() {
        assert!(matches("a/*/c", "json:a/b/c"));
        assert!(!matches("a/*/c", "json:a/b/b/c"));
        assert!(matches("header:x-*-key", "header:x-api-key"));
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["", "a//b", "{a", "a}", "{a,}", "json:", "{a{b}}"] {
            assert!(PathPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
