use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use aws_lc_rs::digest;
use regex_automata::util::syntax;

use crate::rules::{
    Rule, RuleError, Source,
    around::{Around, Graph},
    fields::FieldIndex,
    finders::Finder,
    grams,
    known::KnownValues,
    literals::Literals,
    read::{self, Pack},
    spec::Kind,
};

/// Rules, ready to run. Immutable: a reload makes another one.
#[derive(Debug)]
pub struct RuleSet {
    pub(super) hash: Arc<str>,
    pub(super) rules: Vec<Rule>,
    pub(super) engine: Engine,
    pub(super) fields: FieldIndex,
    pub(super) known: Option<KnownValues>,
}

/// What finds the places that value rules look at.
#[derive(Debug)]
pub(super) struct Engine {
    /// What literals and single bytes are numbers of.
    pub(super) anchors: Vec<Anchor>,
    pub(super) arounds: Vec<Around>,
    pub(super) searches: Vec<Search>,
}

/// An anchor of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    pub(super) rule: u32,
    /// Its place in [`Engine::arounds`].
    pub(super) around: u32,
    pub(super) length: u32,
}

/// What is looked for in documents of some formats.
#[derive(Debug)]
pub(super) struct Search {
    /// The formats; `None` for all.
    formats: Option<Formats>,
    pub(super) literals: Literals,
    pub(super) bytes: Vec<SingleByte>,
    pub(super) finders: Vec<(Finder, Vec<u32>)>,
}

type Formats = BTreeSet<Box<str>>;

/// An anchor of one byte, the only one of its rule.
#[derive(Debug)]
pub(super) struct SingleByte {
    byte: u8,
    pub(super) anchor: u32,
}

impl SingleByte {
    /// Calls `found` with each place where the byte stands.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(usize)) {
        /// Bytes behind a hit that are looked at one by one: where there is one there are more, and a search that
        /// begins anew for each of them costs more than this.
        const NEAR: usize = 16;
        let mut at = 0;
        while let Some(offset) = memchr::memchr(self.byte, &text[at..]) {
            at += offset;
            let near = text.len().min(at + NEAR);
            for (at, byte) in (at..near).zip(&text[at..near]) {
                if *byte == self.byte {
                    found(at);
                }
            }
            at = near;
        }
    }
}

impl Search {
    /// Whether documents of this format are looked at.
    pub(super) fn is_for(&self, format: &str) -> bool {
        self.formats.as_ref().is_none_or(|formats| formats.contains(format))
    }
}

impl RuleSet {
    /// Loads rule files. A later file whose `pack` has the name of an earlier one replaces it.
    ///
    /// # Errors
    /// The first thing that is wrong in any file, and a rule id that two packs define. A pack that was replaced is not
    /// looked at beyond its name.
    pub fn from_sources(sources: &[Source]) -> Result<Self, RuleError> {
        // Every day is before this one, as text.
        Self::from_sources_at(sources, "")
    }

    /// As [`RuleSet::from_sources`], without the entries of allow lists that expired before `today` (`YYYY-MM-DD`).
    ///
    /// # Errors
    /// As there.
    pub fn from_sources_at(sources: &[Source], today: &str) -> Result<Self, RuleError> {
        let mut packs: BTreeMap<Arc<str>, (usize, Pack)> = BTreeMap::new();
        for (order, source) in sources.iter().enumerate() {
            let pack = read::read(source)?;
            let order = packs.get(&pack.name).map_or(order, |(first, _)| *first);
            packs.insert(pack.name.clone(), (order, pack));
        }
        let mut packs: Vec<(usize, Pack)> = packs.into_values().collect();
        packs.sort_by_key(|(order, _)| *order);
        let mut rules: Vec<Rule> = packs.into_iter().flat_map(|(_, pack)| pack.rules).collect();
        for rule in &mut rules {
            // Days in this notation are in order when their texts are. The last day still counts.
            rule.allow.retain(|allow| allow.expires.as_deref().is_none_or(|last| last >= today));
        }
        let mut first: HashMap<&str, &Rule> = HashMap::new();
        for rule in &rules {
            if let Some(other) = first.insert(rule.id.as_str(), rule) {
                return Err(RuleError::Duplicate {
                    place: rule.place.clone(),
                    what: "rule",
                    name: rule.id.as_str().into(),
                    first: other.place.clone(),
                });
            }
        }
        Ok(Self {
            hash: hash(sources),
            engine: Engine::new(&rules)?,
            fields: FieldIndex::new(&rules),
            known: None,
            rules,
        })
    }

    /// SHA-256 over names and texts of the sources, in hex: which rules a record was made with.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Every rule, in the order of files. [`Hit::rule`](crate::rules::Hit::rule) is a place in this.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule with this id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id.as_str() == id)
    }
}

impl Engine {
    fn new(rules: &[Rule]) -> Result<Self, RuleError> {
        let mut engine = Self { anchors: Vec::new(), arounds: Vec::new(), searches: Vec::new() };
        let mut known = HashMap::new();
        let mut groups: BTreeMap<Option<Formats>, Vec<u32>> = BTreeMap::new();
        for (number, rule) in rules.iter().enumerate() {
            if matches!(rule.kind, Kind::Value(_)) {
                groups.entry(formats(rule)).or_default().push(number as u32);
            }
        }
        for (formats, numbers) in groups {
            let search = engine.search(rules, formats, &numbers, &mut known)?;
            engine.searches.push(search);
        }
        let mut arounds: Vec<(Around, u32)> = known.into_iter().collect();
        arounds.sort_by_key(|(_, place)| *place);
        engine.arounds = arounds.into_iter().map(|(around, _)| around).collect();
        Ok(engine)
    }

    /// What finds the places that some of the rules look at.
    fn search(
        &mut self,
        rules: &[Rule],
        formats: Option<Formats>,
        numbers: &[u32],
        known: &mut HashMap<Around, u32>,
    ) -> Result<Search, RuleError> {
        let (mut literals, mut bytes) = (Vec::new(), Vec::new());
        let mut finders: BTreeMap<Finder, Vec<u32>> = BTreeMap::new();
        for number in numbers {
            let rule = &rules[*number as usize];
            let Kind::Value(shape) = &rule.kind else { continue };
            if let Some(finder) = shape.finder {
                finders.entry(finder).or_default().push(*number);
                continue;
            }
            let config = syntax::Config::new().unicode(false).utf8(false);
            let hir = syntax::parse_with(&shape.regex, &config).map_err(|error| RuleError::Regex {
                place: rule.place.clone(),
                rule: rule.id.as_str().into(),
                why: error.to_string().into(),
            })?;
            let graph = Graph::new(&hir);
            for (text, last) in beginnings(&shape.anchors) {
                let next = known.len() as u32;
                let around = *known.entry(Around::new(&graph, text, last.as_deref())).or_insert(next);
                let anchor = self.anchors.len() as u32;
                self.anchors.push(Anchor { rule: *number, around, length: text.len() as u32 });
                match text {
                    [byte] if shape.anchors.len() == 1 => bytes.push(SingleByte { byte: *byte, anchor }),
                    text => literals.push((Box::from(text), anchor)),
                }
            }
        }
        let literals = Literals::new(&literals);
        Ok(Search { formats, literals, bytes, finders: finders.into_iter().collect() })
    }
}

/// A rule's anchors. Those that differ in their last byte alone are one, with the bytes that may stand behind it: what is
/// looked for costs more than what is looked at.
fn beginnings(anchors: &[Box<str>]) -> Vec<(&[u8], Option<Vec<u8>>)> {
    let mut by_beginning: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
    let mut whole = Vec::new();
    for anchor in anchors {
        match anchor.as_bytes().split_last() {
            Some((last, beginning)) if beginning.len() >= grams::SHORTEST => {
                by_beginning.entry(beginning).or_default().push(*last);
            }
            _ => whole.push((anchor.as_bytes(), None)),
        }
    }
    for anchor in anchors {
        let Some((_, beginning)) = anchor.as_bytes().split_last() else { continue };
        if by_beginning.get(beginning).is_some_and(|last| last.len() == 1) {
            by_beginning.remove(beginning);
            whole.push((anchor.as_bytes(), None));
        }
    }
    whole.extend(by_beginning.into_iter().map(|(beginning, last)| (beginning, Some(last))));
    whole
}

/// The formats that a rule is limited to by what it says of fields; `None` if to none.
fn formats(rule: &Rule) -> Option<Formats> {
    let formats: Option<Formats> = rule.paths.iter().map(|path| path.prefix().map(Into::into)).collect();
    formats.filter(|formats| !formats.is_empty())
}

fn hash(sources: &[Source]) -> Arc<str> {
    let mut context = digest::Context::new(&digest::SHA256);
    for source in sources {
        for part in [&source.name, &source.text] {
            // Lengths keep two files from hashing as one.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
