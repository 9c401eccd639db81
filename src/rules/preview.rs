use crate::rules::Rule;

/// A value as far as it may be shown: enough to recognise what one knows already, too little to learn it.
///
/// Printable ASCII only. Of a value at most a quarter of the characters, and at most six of them, not counting a token's
/// public prefix and a short domain ending; of content, and of secrets without such a prefix, nothing but the length.
///
/// ```
/// # use plainsight::rules::{RuleSet, embedded, preview};
/// let set = RuleSet::from_sources(&embedded())?;
/// let rule = set.rule("contact.email").expect("a shipped rule");
/// assert_eq!(&*preview(rule, b"bob@example.com"), "b***@e***.com");
/// # Ok::<(), plainsight::rules::RuleError>(())
/// ```
pub fn preview(rule: &Rule, value: &[u8]) -> Box<str> {
    let shown = if rule.category.starts_with("content") {
        None
    } else if rule.entity.as_ref() == "EMAIL_ADDRESS" {
        email(value)
    } else if rule.category.starts_with("environment") {
        environment(value)
    } else if let Some(prefix) = public_prefix(rule, value) {
        Some(format!("{prefix}***"))
    } else if rule.category.starts_with("secret") {
        None
    } else {
        ends(value)
    };
    shown.unwrap_or_else(|| length_only(value)).into()
}

/// Characters of a value that a preview shows at most.
const SHOWN: usize = 6;

fn length_only(value: &[u8]) -> String {
    let characters = String::from_utf8_lossy(value).chars().count();
    let unit = if characters == 1 { "character" } else { "characters" };
    format!("*** ({characters} {unit})")
}

/// `bob@example.com` -> `b***@e***.com`. Initials of short parts would be the parts themselves.
fn email(value: &[u8]) -> Option<String> {
    let text = printable(value)?;
    let (local, domain) = text.rsplit_once('@')?;
    let (host, tld) = domain.rsplit_once('.')?;
    /// In a short address the ending would be most of what there is to know.
    const SHORT: usize = 12;
    let tld = if tld.len() <= 3 && text.len() >= SHORT { tld } else { "***" };
    let initial =
        |part: &str| if part.len() > 1 { part.get(..1).unwrap_or("").to_owned() } else { String::new() };
    Some(format!("{}***@{}***.{tld}", initial(local), initial(host)))
}

/// Names of systems and programs identify nobody alone, and are why such a finding is looked at.
fn environment(value: &[u8]) -> Option<String> {
    const LONGEST: usize = 12;
    let text = printable(value)?;
    let shown = (text.len() / 4).clamp(1, LONGEST.min(SHOWN));
    Some(format!("{}***", text.get(..shown)?))
}

/// What a vendor puts in front of every token of a kind: the part of an anchor that the value begins with.
fn public_prefix<'v>(rule: &Rule, value: &'v [u8]) -> Option<&'v str> {
    use crate::{model::Redaction, rules::spec::Kind};
    /// Longer than any vendor's prefix.
    const LONGEST: usize = 16;
    if !rule.category.starts_with("secret") {
        return None;
    }
    let text = printable(value)?;
    let Kind::Value(shape) = &rule.kind else { return None };
    let anchor = shape
        .anchors
        .iter()
        .filter(|anchor| text.starts_with(&***anchor))
        .map(|anchor| anchor.len())
        .max()?;
    let kept = match rule.redact {
        Redaction::Partial { keep_prefix, .. } => keep_prefix.max(anchor),
        _ => anchor,
    };
    // The secret that follows must be much longer than what is shown of the whole.
    let kept = kept.min(LONGEST);
    (text.len() >= kept * 2).then(|| text.get(..kept)).flatten()
}

/// The first characters, at most a quarter of all.
fn ends(value: &[u8]) -> Option<String> {
    /// A few more of an id or a name are no use to whoever reads a report.
    const LONGEST: usize = 4;
    let text = printable(value)?;
    let shown = (text.len() / 4).min(LONGEST);
    text.get(..shown).filter(|shown| !shown.is_empty()).map(|shown| format!("{shown}***"))
}

fn printable(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
}
