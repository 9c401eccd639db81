//! Runs a rule set over a document: anchors first, a regex only in a window around them, then checks, then places.
//!
//! # Why it is linear
//!
//! Windows of one rule that overlap are joined into regions, and a region is at most [`REGION_WINDOWS`] windows long. So
//! no byte is handed to one rule's regex more than a constant number of times, however many anchors stand around it.
//! Anchors count only between neighbours that a match could have ([`Around`](super::around::Around)).
//! [`Scratch::confirmed_bytes`] counts.

use std::{borrow::Cow, cmp::Reverse, ops::Range, sync::Arc};

use crate::{
    model::{Confidence, DestinationId, Document, Field, FieldKind, NodeId, TextId},
    rules::{
        Finder, Rule, RuleSet, finders, known,
        matcher::MatcherScratch,
        set::Anchor,
        spec::{Allowed, Kind, Shape},
        validators::{self, Candidate, Check},
    },
};

/// A region is at most this many windows long. Neighbouring regions share one window, so each byte of a flood is
/// confirmed at most 4/3 times.
const REGION_WINDOWS: usize = 4;

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The rule's place in [`RuleSet::rules`].
    pub rule: usize,
    /// The text that the value stands in: the most decoded one.
    pub text: TextId,
    /// Where in that text.
    pub range: Range<usize>,
    /// The field that holds it.
    pub node: NodeId,
    /// How sure it is, after context and checksums.
    pub confidence: Confidence,
}

impl Hit {
    /// The value as its reader sees it.
    pub fn value<'d>(&self, document: &'d Document) -> Cow<'d, [u8]> {
        document.value(self.node, self.text, self.range.clone())
    }
}

/// Buffers that a scan reuses. One per worker; any rule set may use it.
#[derive(Debug, Default)]
pub struct Scratch {
    owner: Option<Arc<str>>,
    matchers: Vec<Option<MatcherScratch>>,
    regions: Vec<Region>,
    active: Vec<u32>,
    found: Vec<Hit>,
    covered: Vec<(TextId, Range<usize>)>,
    confirmed_bytes: u64,
    /// As `confirmed_bytes`, for each rule.
    confirmed_by: Vec<u64>,
}

/// Joined windows of one rule that wait for confirmation.
#[derive(Clone, Debug, Default)]
struct Region {
    start: usize,
    end: usize,
    /// Nothing before this is looked at again: a value was found up to here.
    resume: usize,
    /// Where the value that the region lies in ends.
    limit: usize,
    /// Where the last anchor in it begins: a match that begins behind that holds none.
    last: usize,
    waiting: bool,
    listed: bool,
}

impl Scratch {
    /// Bytes that regexes have looked at since this was made: the measure of work that floods must not blow up.
    pub fn confirmed_bytes(&self) -> u64 {
        self.confirmed_bytes
    }

    /// The part of [`Scratch::confirmed_bytes`] that is one rule's.
    pub(super) fn confirmed_by(&self, rule: usize) -> u64 {
        self.confirmed_by.get(rule).copied().unwrap_or_default()
    }

    fn confirmed(&mut self, rule: usize, bytes: usize) {
        self.confirmed_bytes += bytes as u64;
        if let Some(sum) = self.confirmed_by.get_mut(rule) {
            *sum += bytes as u64;
        }
    }

    fn prepare(&mut self, set: &RuleSet) {
        self.found.clear();
        self.covered.clear();
        if self.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, &set.hash)) {
            return;
        }
        self.owner = Some(set.hash.clone());
        self.matchers.clear();
        self.matchers.resize_with(set.rules.len(), || None);
        self.regions.clear();
        self.regions.resize(set.rules.len(), Region::default());
        self.active.clear();
        self.confirmed_by.clear();
        self.confirmed_by.resize(set.rules.len(), 0);
    }
}

impl RuleSet {
    /// Finds what the rules name in `document`, in order of texts and offsets.
    ///
    /// Where two rules name the same entity at exactly the same place, the graver one stays; then a field rule before
    /// a value rule, the surer one, and the one that is written first. Different entities at one place all stay.
    pub fn scan(&self, document: &Document, destination: &DestinationId, scratch: &mut Scratch) -> Vec<Hit> {
        let mut hits = self.scan_all(document, destination, scratch);
        resolve(self, document, &mut hits);
        hits
    }

    /// As [`RuleSet::scan`], before overlaps are resolved.
    pub(super) fn scan_all(
        &self,
        document: &Document,
        destination: &DestinationId,
        scratch: &mut Scratch,
    ) -> Vec<Hit> {
        scratch.prepare(self);
        for (text, _) in document.texts() {
            let bytes = document.scannable(text);
            Pass { set: self, destination, document, text, bytes, segment: 0..0, scratch }.run();
        }
        if !scratch.found.is_empty() {
            drop_covered(document, scratch);
        }
        self.fields.scan(self, document, destination, &mut scratch.found);
        // A clean body leaves both without memory of their own.
        scratch.found.as_slice().to_vec()
    }

    /// Finds what one rule names in `document`, whatever others say.
    pub(super) fn scan_one(
        &self,
        rule: usize,
        document: &Document,
        destination: &DestinationId,
        scratch: &mut Scratch,
    ) -> Vec<Hit> {
        let mut hits = self.scan_all(document, destination, scratch);
        hits.retain(|hit| hit.rule == rule);
        hits
    }

    /// Finds what value rules name in plain text: a header's or a query's value.
    pub fn scan_text(&self, text: &[u8], destination: &DestinationId, scratch: &mut Scratch) -> Vec<Hit> {
        let document =
            crate::model::DocumentBuilder::new("text", bytes::Bytes::copy_from_slice(text)).finish();
        self.scan(&document, destination, scratch)
    }
}

/// One run of all value rules over one text.
struct Pass<'a> {
    set: &'a RuleSet,
    destination: &'a DestinationId,
    document: &'a Document,
    text: TextId,
    bytes: &'a [u8],
    /// The value that was looked at last. Values that were opened side by side must not run into each other.
    segment: Range<usize>,
    scratch: &'a mut Scratch,
}

impl Pass<'_> {
    fn run(mut self) {
        let (set, bytes) = (self.set, self.bytes);
        let format = self.document.prefix();
        for search in set.engine.searches.iter().filter(|search| search.is_for(format)) {
            for pass in &search.literals.passes {
                pass.find(bytes, |anchor, at| self.widen(anchor, at));
                self.flush_all();
            }
            for single in &search.bytes {
                let anchor = set.engine.anchors[single.anchor as usize];
                let around = &set.engine.arounds[anchor.around as usize];
                single.find(bytes, |at| {
                    if around.could_hold(bytes, at..at + 1) {
                        self.widen_at(anchor, at..at + 1);
                    }
                });
            }
            self.flush_all();
            finders::find_all(search.finders.iter().map(|(finder, _)| finder), bytes, |index, range| {
                if self.is_in_one_value(&range)
                    && let Some((_, rules)) = search.finders.get(index)
                {
                    for rule in rules {
                        self.confirm(*rule as usize, range.clone(), range.end);
                    }
                }
            });
            self.flush_all();
        }
        if let Some(known) = &set.known {
            known.find(bytes, |rule, range| self.keep_known(rule, range));
        }
    }

    /// The value that the byte at `at` belongs to. Between two values: the one before, which ends there.
    fn segment_at(&mut self, at: usize) -> Range<usize> {
        if !self.segment.contains(&at) {
            (_, self.segment) = self.document.segment(self.text, at);
        }
        self.segment.clone()
    }

    fn is_in_one_value(&mut self, range: &Range<usize>) -> bool {
        let segment = self.segment_at(range.start);
        segment.start <= range.start && range.end <= segment.end
    }

    /// Adds the window around an anchor to its rule's region, if a match could hold what stands there.
    #[inline(always)]
    fn widen(&mut self, anchor: u32, at: usize) {
        let engine = &self.set.engine;
        let anchor = engine.anchors[anchor as usize];
        let place = at..at + anchor.length as usize;
        if engine.arounds[anchor.around as usize].could_hold(self.bytes, place.clone()) {
            self.widen_at(anchor, place);
        }
    }

    #[inline(never)]
    fn widen_at(&mut self, anchor: Anchor, place: Range<usize>) {
        let (at, rule) = (place.start, anchor.rule);
        let segment = self.segment_at(at);
        if !self.set.engine.arounds[anchor.around as usize].holds(self.bytes, &segment, place) {
            return;
        }
        let rule = rule as usize;
        let Kind::Value(shape) = &self.set.rules[rule].kind else { return };
        let region = &mut self.scratch.regions[rule];
        if !region.listed {
            region.listed = true;
            self.scratch.active.push(rule as u32);
        }
        let start = at.saturating_sub(shape.back).max(segment.start).max(region.resume);
        let end = segment.end.min(at + shape.max_len);
        if start >= end || at < region.resume {
            return;
        }
        let longest = REGION_WINDOWS * (shape.back + shape.max_len);
        if region.waiting {
            // Anchors of different lengths may come a little out of order.
            let joined = region.start.min(start)..region.end.max(end);
            let touches = start <= region.end && end >= region.start && region.limit == segment.end;
            if touches && joined.len() <= longest {
                (region.start, region.end) = (joined.start, joined.end);
                region.last = region.last.max(at);
                return;
            }
            let (waiting, last) = (region.start..region.end, region.last);
            region.waiting = false;
            self.confirm(rule, waiting, last);
        }
        let region = &mut self.scratch.regions[rule];
        region.start = start.max(region.resume);
        region.end = end;
        region.limit = segment.end;
        region.last = at;
        region.waiting = region.start < region.end;
    }

    fn flush_all(&mut self) {
        while let Some(rule) = self.scratch.active.pop() {
            let region = &mut self.scratch.regions[rule as usize];
            let (waiting, range, last) = (region.waiting, region.start..region.end, region.last);
            if waiting {
                self.confirm(rule as usize, range, last);
            }
            self.scratch.regions[rule as usize] = Region::default();
        }
    }

    /// Runs a rule's regex over `range`, which lies in one value, and keeps what passes. Its last anchor is at `last`.
    fn confirm(&mut self, rule_index: usize, range: Range<usize>, last: usize) {
        let set = self.set;
        let rule = &set.rules[rule_index];
        let Kind::Value(shape) = &rule.kind else { return };
        if !rule.holds_for(self.destination.as_str()) {
            return;
        }
        self.segment_at(range.start);
        if shape.whole {
            self.confirm_whole(rule_index, shape, range);
            return;
        }
        let mut at = range.start;
        while at < range.end && at <= last {
            let Some((end, hit)) = self.search(rule_index, shape, at..range.end) else {
                self.scratch.confirmed(rule_index, range.end - at);
                return;
            };
            self.scratch.confirmed(rule_index, end - at);
            at = hit.end.max(at + 1);
            // Zeros stand for what frames values in binary formats, and a regex that says what a value does not hold
            // runs over them.
            let hit = hit.start
                ..memchr::memchr(0, &self.bytes[hit.clone()]).map_or(hit.end, |zero| hit.start + zero);
            if let Some(confidence) = self.judge(rule, hit.clone()) {
                let region = &mut self.scratch.regions[rule_index];
                region.resume = region.resume.max(hit.end);
                self.keep(rule_index, hit, confidence);
            }
        }
    }

    /// As `confirm`, for a value that a finder outlined: checks cost less than a regex, and come first.
    fn confirm_whole(&mut self, rule: usize, shape: &Shape, range: Range<usize>) {
        let region = &self.scratch.regions[rule];
        if range.start < region.resume {
            return;
        }
        let Some(confidence) = self.judge(&self.set.rules[rule], range.clone()) else { return };
        self.scratch.confirmed(rule, range.len());
        let scratch = self.scratch.matchers[rule].get_or_insert_with(|| shape.matcher.scratch());
        if !shape.matcher.matches(scratch, &self.bytes[range.clone()]) {
            return;
        }
        let region = &mut self.scratch.regions[rule];
        region.resume = range.end;
        if !region.listed {
            region.listed = true;
            self.scratch.active.push(rule as u32);
        }
        self.keep(rule, range, confidence);
    }

    fn keep(&mut self, rule: usize, range: Range<usize>, confidence: Confidence) {
        let node = self.document.field_at(self.text, range.start).id();
        self.scratch.found.push(Hit { rule, text: self.text, range, node, confidence });
    }

    /// The end of the next match in `range`, and where its value stands. Sees nothing outside the current value.
    fn search(&mut self, rule: usize, shape: &Shape, range: Range<usize>) -> Option<(usize, Range<usize>)> {
        let scratch = self.scratch.matchers[rule].get_or_insert_with(|| shape.matcher.scratch());
        let first = self.segment.start;
        let value = &self.bytes[self.segment.clone()];
        let (end, hit) = shape.matcher.find(scratch, value, range.start - first..range.end - first)?;
        Some((end + first, hit.start + first..hit.end + first))
    }

    fn keep_known(&mut self, rule_index: usize, hit: Range<usize>) {
        let rule = &self.set.rules[rule_index];
        if !rule.holds_for(self.destination.as_str()) || !self.is_in_one_value(&hit) {
            return;
        }
        if let Some(confidence) = self.judge(rule, hit.clone()) {
            self.keep(rule_index, hit, confidence);
        }
    }

    /// Whether a value passes its rule, and how sure it is then.
    fn judge(&self, rule: &Rule, hit: Range<usize>) -> Option<Confidence> {
        let value = &self.bytes[hit.clone()];
        let before = &self.bytes[self.segment.start..hit.start];
        let confidence = judge_value(rule, value, before)?;
        let digits_only = matches!(&rule.kind, Kind::Value(shape) if shape.finder == Some(Finder::DigitRun));
        if digits_only && is_number(self.document, self.document.field_at(self.text, hit.start)) {
            return None;
        }
        if !rule.paths.is_empty() && !rule.paths.iter().any(|pattern| pattern.matches_everything())
            || !rule.paths_not.is_empty()
        {
            let path = self.document.field_at(self.text, hit.start).path();
            if !applies_to(rule, path.as_str()) {
                return None;
            }
        }
        let Some(context) = &rule.context else { return Some(confidence) };
        let near = hit.start.saturating_sub(context.within).max(self.segment.start)
            ..self.segment.end.min(hit.end + context.within);
        let near = &self.bytes[near];
        let named = context
            .words
            .iter()
            .any(|word| near.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes())));
        Some(if named { context.adds } else { confidence })
    }
}

/// Whether a field is a number by its kind, or by OTLP's name for whole numbers, which JSON writes as strings.
/// Numbers that people go by are written as text, because a leading zero counts.
pub(super) fn is_number(document: &Document, field: Field<'_>) -> bool {
    const NAME: &[u8] = b"\"intValue\"";
    /// The name, a colon and the quote, with a space between or two.
    const NEAR: usize = NAME.len() + 4;
    if matches!(field.kind(), FieldKind::Binary(_) | FieldKind::Number) {
        return true;
    }
    let start = field.span().start;
    let before = &document.text(field.text())[start.saturating_sub(NEAR)..start];
    // Too short for a searcher, which takes longer to make.
    before.windows(NAME.len()).any(|part| part == NAME)
}

/// Whether a rule holds for a field.
pub(super) fn applies_to(rule: &Rule, path: &str) -> bool {
    (rule.paths.is_empty() || rule.paths.iter().any(|pattern| pattern.matches(path)))
        && !rule.paths_not.iter().any(|pattern| pattern.matches(path))
}

/// Checks, allow list and grades: what depends on the value alone and on what leads up to it.
pub(super) fn judge_value(rule: &Rule, value: &[u8], before: &[u8]) -> Option<Confidence> {
    if value.is_empty() || rule.unless_value.iter().any(|other| other.as_bytes() == value) {
        return None;
    }
    let mut checks = rule.checks.iter().chain(rule.grades.iter().map(|(check, _)| check));
    let variable = if checks.any(Check::wants_variety) { without_anchor(rule, value) } else { value };
    let candidate = Candidate { value, variable, before };
    if !rule.checks.iter().all(|check| check.passes(candidate)) || is_allowed(rule, value) {
        return None;
    }
    let grade =
        rule.grades.iter().filter(|(check, _)| check.passes(candidate)).map(|(_, grade)| *grade).max();
    Some(grade.map_or(rule.confidence, |grade| grade.max(rule.confidence)))
}

/// What varies between values: a fixed prefix adds nothing to variety.
fn without_anchor<'v>(rule: &Rule, value: &'v [u8]) -> &'v [u8] {
    let Kind::Value(shape) = &rule.kind else { return value };
    let longest =
        shape.anchors.iter().filter(|anchor| value.starts_with(anchor.as_bytes())).map(|anchor| anchor.len());
    &value[longest.max().unwrap_or(0)..]
}

fn is_allowed(rule: &Rule, value: &[u8]) -> bool {
    rule.allow.iter().any(|allow| match &allow.what {
        Allowed::Cidr(network) => validators::address(value).is_some_and(|address| network.contains(address)),
        Allowed::Exact(exact) => exact.as_bytes() == value,
        Allowed::Regex(regex) => regex.is_match(value),
        Allowed::Suffix(suffix) => value.ends_with(suffix.as_bytes()),
    })
}

/// Drops hits in bytes that a more decoded text stands for: base64 that was opened, strings whose escapes were undone.
fn drop_covered(document: &Document, scratch: &mut Scratch) {
    for (text, bytes) in document.texts().skip(1) {
        let mut at = 0;
        while at < bytes.len() {
            let (owner, segment) = document.segment(text, at);
            let field = document.field(owner);
            if document.replaces_parent(text) || field.kind() == FieldKind::EscapedString {
                scratch.covered.push((field.text(), field.span()));
            }
            at = segment.end.max(at + 1);
        }
    }
    scratch.covered.sort_unstable_by_key(|(text, span)| (*text, span.start));
    let covered = &scratch.covered;
    scratch.found.retain(|hit| {
        let after =
            covered.partition_point(|(text, span)| (*text, span.start) <= (hit.text, hit.range.start));
        let inside = after.checked_sub(1).map(|index| &covered[index]);
        !inside.is_some_and(|(text, span)| *text == hit.text && hit.range.start < span.end)
    });
}

/// Leaves one hit per entity and place, and of one rule's hits on the same bytes of the body the most decoded.
fn resolve(set: &RuleSet, document: &Document, hits: &mut Vec<Hit>) {
    if hits.len() < 2 {
        return;
    }
    known::drop_named(set, hits);
    if hits.iter().any(|hit| hit.text != TextId::BODY) {
        drop_superseded(set, document, hits);
    }
    drop_parts(set, hits);
    let rank = |hit: &Hit| {
        let rule = &set.rules[hit.rule];
        (Reverse(rule.severity), !matches!(rule.kind, Kind::Field), Reverse(hit.confidence), hit.rule)
    };
    // Value rules' hits and field rules' are each nearly in order: a sort that merges runs.
    hits.sort_by(|a, b| {
        (a.text, a.range.start, a.range.end)
            .cmp(&(b.text, b.range.start, b.range.end))
            .then_with(|| set.rules[a.rule].entity.cmp(&set.rules[b.rule].entity))
            .then_with(|| rank(a).cmp(&rank(b)))
    });
    hits.dedup_by(|b, a| {
        a.text == b.text && a.range == b.range && set.rules[a.rule].entity == set.rules[b.rule].entity
    });
    // Nearly sorted already: only rules at one place may have to change places.
    hits.sort_by_key(|hit| (hit.text, hit.range.start, hit.range.end, hit.rule));
}

/// Drops what finders of digits saw inside a longer value of another rule: groups of a token or an account number.
fn drop_parts(set: &RuleSet, hits: &mut Vec<Hit>) {
    let finder = |hit: &Hit| match &set.rules[hit.rule].kind {
        Kind::Value(shape) => shape.finder,
        Kind::Field | Kind::Known(_) => None,
    };
    let is_digits = |hit: &Hit| matches!(finder(hit), Some(Finder::DigitRun | Finder::PhoneGroups));
    if !hits.iter().any(is_digits) {
        return;
    }
    hits.sort_unstable_by_key(|hit| (hit.text, hit.range.start, Reverse(hit.range.end)));
    // Of the values so far the one that reaches farthest, and of several the one that begins first.
    let mut widest = (TextId::BODY, 0..0);
    hits.retain(|hit| {
        let (text, range) = &widest;
        let reaches = *text == hit.text && range.end >= hit.range.end;
        if reaches && range.len() > hit.range.len() && is_digits(hit) {
            return false;
        }
        if !reaches && matches!(set.rules[hit.rule].kind, Kind::Value(_)) {
            widest = (hit.text, hit.range.clone());
        }
        true
    });
}

/// Of one value rule's hits that encode to overlapping bytes of the body, keeps those in the latest text: texts are
/// opened out of earlier ones, so that one is the most decoded. A field rule's hits are whole values and stay.
fn drop_superseded(set: &RuleSet, document: &Document, hits: &mut Vec<Hit>) {
    let is_field = |hit: &Hit| matches!(set.rules[hit.rule].kind, Kind::Field);
    let (fields, values): (Vec<Hit>, Vec<Hit>) = hits.drain(..).partition(is_field);
    hits.extend(fields);
    let mut placed: Vec<(Range<usize>, Hit)> =
        values.into_iter().map(|hit| (document.body_span(hit.text, hit.range.clone()), hit)).collect();
    placed.sort_by_key(|(span, hit)| (hit.rule, span.start, hit.text));
    let mut kept: Vec<(Range<usize>, Hit)> = Vec::with_capacity(placed.len());
    for (span, hit) in placed {
        let overlaps = |(other, kept): &(Range<usize>, Hit)| kept.rule == hit.rule && span.start < other.end;
        match kept.last() {
            Some(last) if overlaps(last) && last.1.text > hit.text => continue,
            Some(last) if overlaps(last) && last.1.text < hit.text => _ = kept.pop(),
            _ => {}
        }
        kept.push((span, hit));
    }
    hits.extend(kept.into_iter().map(|(_, hit)| hit));
}
