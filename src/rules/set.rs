use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aws_lc_rs::digest;
use regex_automata::util::syntax;

use crate::rules::{
    Rule, RuleError, Source,
    fields::FieldIndex,
    finders::Finder,
    known::KnownValues,
    literals::Literals,
    read::{self, Pack},
    required::Neighbours,
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
    pub(super) literals: Literals,
    pub(super) bytes: Vec<SingleByte>,
    pub(super) finders: Vec<(Finder, Vec<u32>)>,
}

/// A rule whose only anchor is one byte.
#[derive(Debug)]
pub(super) struct SingleByte {
    pub(super) byte: u8,
    pub(super) rule: u32,
    pub(super) neighbours: Neighbours,
}

impl SingleByte {
    /// Calls `found` with each place where the byte stands between neighbours that a match could have.
    pub(super) fn find(&self, text: &[u8], mut found: impl FnMut(usize)) {
        /// Bytes behind a hit that are looked at one by one: where there is one there are more, and a search that
        /// begins anew for each of them costs more than this.
        const NEAR: usize = 16;
        let mut at = 0;
        while let Some(offset) = memchr::memchr(self.byte, &text[at..]) {
            at += offset;
            let near = text.len().min(at + NEAR);
            for at in at..near {
                if text[at] != self.byte {
                    continue;
                }
                let before = at.checked_sub(1).map(|before| text[before]);
                let fits = before.is_none_or(|byte| self.neighbours.before[usize::from(byte)])
                    && text.get(at + 1).is_none_or(|byte| self.neighbours.after[usize::from(*byte)]);
                if fits {
                    found(at);
                }
            }
            at = near;
        }
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
        let mut anchors = Vec::new();
        let mut bytes = Vec::new();
        let mut finders: BTreeMap<Finder, Vec<u32>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let Kind::Value(shape) = &rule.kind else { continue };
            let number = index as u32;
            match (shape.finder, &shape.anchors[..]) {
                (Some(finder), _) => finders.entry(finder).or_default().push(number),
                (None, [anchor]) if anchor.len() == 1 => {
                    let byte = anchor.as_bytes()[0];
                    let config = syntax::Config::new().unicode(false).utf8(false);
                    let hir =
                        syntax::parse_with(&shape.regex, &config).map_err(|error| RuleError::Regex {
                            place: rule.place.clone(),
                            rule: rule.id.as_str().into(),
                            why: error.to_string().into(),
                        })?;
                    bytes.push(SingleByte { byte, rule: number, neighbours: Neighbours::new(&hir, byte) });
                }
                (None, several) => {
                    anchors.extend(several.iter().map(|anchor| (Box::from(anchor.as_bytes()), number)));
                }
            }
        }
        let literals = Literals::new(&anchors).map_err(|why| RuleError::Anchor {
            place: rules[0].place.clone(),
            rule: "*".into(),
            why: why.into(),
        })?;
        Ok(Self { literals, bytes, finders: finders.into_iter().collect() })
    }
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
