//! What a regex says of its anchors: whether a match can hold them, must hold one, and how far in the first one lies.

use regex_syntax::hir::{Class, Hir, HirKind};

/// A class of at most this many bytes counts as spelled out: `[pousr]` does, `[a-z]` does not.
pub(super) const SPELLED_CLASS: usize = 16;

/// Repetitions are unrolled this often; a literal that needs more rounds is not an anchor that anyone writes.
const UNROLL: u32 = 6;

/// Distances beyond this are not read off a regex; the rule says `back`.
const FARTHEST: usize = 4096;

/// How many bytes before an anchor a match may begin: `None` if the regex does not bound it.
///
/// # Errors
/// An anchor that no match spells out, and an alternative that spells out none of the anchors: such a rule would be
/// blind without anyone noticing. Case and optional parts are forgiven, because leaving out a rare spelling is a choice.
pub(super) fn look_back(hir: &Hir, anchors: &[Box<str>]) -> Result<Option<usize>, String> {
    let mut farthest = 0;
    for anchor in anchors {
        let Some(distance) = distance(hir, anchor.as_bytes()) else {
            return Err(format!("no match of its regex spells out the anchor `{anchor}`"));
        };
        farthest = distance.max(farthest);
    }
    if !covered(hir, anchors) {
        return Err("its regex matches without any of its anchors".to_owned());
    }
    Ok((farthest <= FARTHEST).then_some(farthest))
}

/// Whether a match is its one group and nothing else but looks around it.
pub(super) fn is_one_group(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(_) => true,
        HirKind::Concat(parts) => {
            let mut rest = parts.iter().filter(|part| !matches!(part.kind(), HirKind::Look(_)));
            rest.next().is_some_and(|part| matches!(part.kind(), HirKind::Capture(_)))
                && rest.next().is_none()
        }
        _ => false,
    }
}

/// The farthest that the first occurrence of `anchor` can lie from a match's start.
fn distance(hir: &Hir, anchor: &[u8]) -> Option<usize> {
    let mut start = vec![None; anchor.len()];
    start[0] = Some(0);
    walk(hir, anchor, start).1
}

/// For each number of bytes matched so far, the farthest start of such a partial occurrence. At 0: bytes consumed.
type Progress = Vec<Option<usize>>;

/// Moves over `hir`. The second part of the answer is where an occurrence that was completed begins.
fn walk(hir: &Hir, anchor: &[u8], progress: Progress) -> (Progress, Option<usize>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (progress, None),
        HirKind::Literal(literal) => {
            let (mut progress, mut found) = (progress, None);
            for byte in &literal.0 {
                found = found.max(step(&mut progress, anchor, |wanted| wanted == *byte));
            }
            (progress, found)
        }
        HirKind::Class(class) => {
            let size = class_size(class);
            let mut progress = progress;
            let found =
                step(&mut progress, anchor, |wanted| size <= SPELLED_CLASS && class_holds(class, wanted));
            (progress, found)
        }
        HirKind::Capture(capture) => walk(&capture.sub, anchor, progress),
        HirKind::Concat(parts) => {
            let mut progress = progress;
            for part in parts {
                let (after, found) = walk(part, anchor, progress);
                // What follows the first occurrence does not matter: the search begins from the first.
                if found.is_some() {
                    return (after, found);
                }
                progress = after;
            }
            (progress, None)
        }
        HirKind::Alternation(branches) => {
            let mut merged: (Progress, Option<usize>) = (vec![None; anchor.len()], None);
            for branch in branches {
                let (after, found) = walk(branch, anchor, progress.clone());
                merge(&mut merged.0, &after);
                merged.1 = merged.1.max(found);
            }
            merged
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            let rounds = most.min(repetition.min.saturating_add(2)).min(UNROLL);
            let mut reached = if repetition.min == 0 { progress.clone() } else { vec![None; anchor.len()] };
            let mut current = progress.clone();
            for round in 1..=rounds {
                let (after, found) = walk(&repetition.sub, anchor, current);
                if found.is_some() {
                    return (after, found);
                }
                if round >= repetition.min || round == rounds {
                    merge(&mut reached, &after);
                }
                current = after;
            }
            let longest = repetition.sub.properties().maximum_len().unwrap_or(usize::MAX);
            let extra = longest.saturating_mul(usize::try_from(most).unwrap_or(usize::MAX));
            if most > rounds {
                // Rounds that were not unrolled still move everything along.
                reached[0] = reached[0].max(progress[0].map(|from| from.saturating_add(extra)));
            }
            (reached, None)
        }
    }
}

/// Moves `progress` one byte on, in place: there are many bytes and many anchors. Returns where an occurrence that was
/// completed begins.
fn step(progress: &mut Progress, anchor: &[u8], holds: impl Fn(u8) -> bool) -> Option<usize> {
    let mut found = None;
    for (index, byte) in anchor.iter().enumerate().rev() {
        // What nothing has reached cannot go on.
        let Some(begin) = progress[index] else {
            if let Some(next) = progress.get_mut(index + 1) {
                *next = None;
            }
            continue;
        };
        let moved = holds(*byte).then_some(begin);
        match progress.get_mut(index + 1) {
            Some(next) => *next = moved,
            None => found = moved,
        }
    }
    progress[0] = progress[0].map(|consumed| consumed.saturating_add(1));
    found
}

fn merge(into: &mut Progress, other: &Progress) {
    for (mine, theirs) in into.iter_mut().zip(other) {
        *mine = (*mine).max(*theirs);
    }
}

/// How many bytes a class has. Without Unicode every class is one of bytes; another one would spell nothing out.
fn class_size(class: &Class) -> usize {
    let Class::Bytes(class) = class else { return 256 };
    class.ranges().iter().map(|range| usize::from(range.end() - range.start()) + 1).sum()
}

fn class_holds(class: &Class, byte: u8) -> bool {
    let Class::Bytes(class) = class else { return true };
    class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&byte))
}

/// Whether every alternative of `hir` spells out one of the anchors.
fn covered(hir: &Hir, anchors: &[Box<str>]) -> bool {
    /// Alternatives within alternatives beyond this are believed.
    const DEPTH: u32 = 6;
    fn go(hir: &Hir, anchors: &[&[u8]], depth: u32) -> bool {
        // Most parts are too short for an anchor or lack some byte of it, and there may be hundreds to try.
        let (longest, mut spelled) = (hir.properties().maximum_len(), [false; 256]);
        mark_spelled(hir, &mut spelled);
        let could = |anchor: &&&[u8]| {
            longest.is_none_or(|longest| longest >= anchor.len())
                && anchor.iter().all(|byte| spelled[usize::from(*byte)])
        };
        let anchors: Vec<&[u8]> = anchors.iter().filter(could).copied().collect();
        if anchors.is_empty() {
            return false;
        }
        let anchors = anchors.as_slice();
        let possible = || anchors.iter().any(|anchor| distance(hir, anchor).is_some());
        match hir.kind() {
            HirKind::Alternation(branches) => branches.iter().all(|branch| go(branch, anchors, depth)),
            HirKind::Capture(capture) => go(&capture.sub, anchors, depth),
            HirKind::Repetition(repetition) => repetition.min > 0 && go(&repetition.sub, anchors, depth),
            HirKind::Concat(parts) => {
                if parts.iter().any(|part| go(part, anchors, depth)) {
                    return true;
                }
                if depth == 0 || !possible() {
                    return possible();
                }
                // The anchor may straddle an alternative and its neighbours: look at each choice on its own.
                let split = parts.iter().enumerate().find_map(|(index, part)| {
                    let mut part = part;
                    while let HirKind::Capture(capture) = part.kind() {
                        part = &capture.sub;
                    }
                    match part.kind() {
                        HirKind::Alternation(branches) => Some((index, branches)),
                        _ => None,
                    }
                });
                split.is_none_or(|(index, branches)| {
                    branches.iter().all(|branch| {
                        let mut parts = parts.clone();
                        parts[index] = branch.clone();
                        go(&Hir::concat(parts), anchors, depth - 1)
                    })
                })
            }
            _ => possible(),
        }
    }
    let anchors: Vec<&[u8]> = anchors.iter().map(|anchor| anchor.as_bytes()).collect();
    go(hir, &anchors, DEPTH)
}

/// Marks the bytes that some part of `hir` spells out.
fn mark_spelled(hir: &Hir, spelled: &mut [bool; 256]) {
    match hir.kind() {
        HirKind::Alternation(parts) | HirKind::Concat(parts) => {
            parts.iter().for_each(|part| mark_spelled(part, spelled));
        }
        HirKind::Capture(capture) => mark_spelled(&capture.sub, spelled),
        HirKind::Class(Class::Bytes(bytes)) => {
            let ranges =
                || bytes.ranges().iter().map(|range| usize::from(range.start())..=usize::from(range.end()));
            if ranges().map(|range| range.count()).sum::<usize>() <= SPELLED_CLASS {
                ranges().for_each(|range| spelled[range].fill(true));
            }
        }
        HirKind::Class(Class::Unicode(_)) | HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => literal.0.iter().for_each(|byte| spelled[usize::from(*byte)] = true),
        HirKind::Repetition(repetition) => mark_spelled(&repetition.sub, spelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hir(regex: &str) -> Hir {
        let config = regex_automata::util::syntax::Config::new().unicode(false).utf8(false);
        regex_automata::util::syntax::parse_with(regex, &config).unwrap()
    }

    fn back(regex: &str, anchors: &[&str]) -> Result<Option<usize>, String> {
        let anchors: Vec<Box<str>> = anchors.iter().map(|anchor| (*anchor).into()).collect();
        look_back(&hir(regex), &anchors)
    }

    #[test]
    fn the_distance_to_the_anchor_is_read_off_the_regex() {
        assert_eq!(back(r"\b(?P<hit>sk-ant-[a-z]+)", &["sk-ant-"]), Ok(Some(0)));
        assert_eq!(back(r"[a-z]{1,64}@[a-z]+", &["@"]), Ok(Some(64)));
        assert_eq!(back(r"(?:^|[^0-9])\+[0-9]+", &["+"]), Ok(Some(1)));
        assert_eq!(back(r"eyJ[A-Za-z]{8,}\.eyJ[A-Za-z]+", &["eyJ"]), Ok(Some(0)));
        assert_eq!(back(r"[a-z]+@[a-z]+", &["@"]), Ok(None));
    }

    #[test]
    fn an_anchor_may_run_through_small_classes_and_optional_parts() {
        assert_eq!(back("gh[pousr]_[A-Za-z0-9]{20}", &["ghp_", "gho_"]), Ok(Some(0)));
        assert_eq!(
            back("(?i:secret_?access_?key)=(?P<hit>x)", &["SecretAccessKey", "secret_access_key"]),
            Ok(Some(0))
        );
        assert_eq!(back("(?:sk|rk)_live_[a-z]+", &["sk_live_", "rk_live_"]), Ok(Some(0)));
    }

    #[test]
    fn an_anchor_that_no_match_holds_is_an_error() {
        assert!(back("ghp_[a-z]+", &["ghpp_"]).is_err());
        assert!(back("[a-z]+", &["abc"]).is_err());
    }

    #[test]
    fn an_alternative_without_an_anchor_is_an_error() {
        assert!(back("foo-[a-z]+|[a-z]{3,}", &["foo-"]).is_err());
        assert!(back("(?:sk|rk)_live_[a-z]+", &["sk_live_"]).is_err());
    }
}
