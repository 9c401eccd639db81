//! A labelled corpus: documents in the shapes of real telemetry, with values of which it is known what they are.
//!
//! Nothing in it is real, and no file holds a secret: prefixes are written here, the rest comes from a seed.

mod carriers;
mod credentials;
mod depths;
mod examples;
mod negatives;
mod personal;
mod random;
pub mod score;

pub use carriers::CARRIERS;
pub use depths::DEPTHS;
pub use random::Random;
pub use score::{Score, Scorer, Tally};

/// What a value is: the class that it is counted under.
pub type Class = &'static str;

/// A value and the text that it stands in. Some values are recognised by what stands around them alone.
#[derive(Clone, Debug)]
pub struct Planted {
    pub class: Class,
    pub text: String,
    pub value: String,
}

impl Planted {
    pub fn alone(class: Class, value: String) -> Self {
        Self { class, text: value.clone(), value }
    }
}

/// A value that a scan must find.
#[derive(Clone, Debug)]
pub struct Label {
    pub class: Class,
    pub value: String,
    /// How it is wrapped, or `field` for what a carrier says by itself.
    pub depth: &'static str,
}

/// One request, and what is in it.
#[derive(Debug)]
pub struct Document {
    pub carrier: &'static str,
    pub destination: &'static str,
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    pub labels: Vec<Label>,
}

/// Positives: `per_class` values of each class in every carrier and depth in turn.
pub fn positives(seed: u64, per_class: usize) -> Vec<Document> {
    let mut random = Random(seed);
    let personal = personal::MAKERS.iter().map(|(_, make)| Maker::Personal(*make));
    let makers = personal.chain(credentials::KINDS.iter().map(Maker::Credential));
    let mut documents = Vec::new();
    for (number, maker) in makers.enumerate() {
        for turn in 0..per_class {
            let planted = maker.make(&mut random);
            let carrier = CARRIERS[(turn + number) % CARRIERS.len()];
            let depth = DEPTHS[(turn / CARRIERS.len() + turn + number) % DEPTHS.len()];
            documents.push(carriers::document(&mut random, carrier, depth, &planted));
        }
    }
    documents
}

enum Maker {
    Credential(&'static credentials::Kind),
    Personal(personal::Make),
}

impl Maker {
    fn make(&self, random: &mut Random) -> Planted {
        match self {
            Self::Credential(kind) => credentials::make(random, kind),
            Self::Personal(make) => make(random),
        }
    }
}

/// Hard negatives: `count` texts that look like something, several to a document, in every carrier.
pub fn negatives(seed: u64, count: usize) -> Vec<Document> {
    /// Texts in one document.
    const TOGETHER: usize = 8;
    let mut random = Random(seed ^ 0x6e65_6761);
    let mut documents = Vec::new();
    for number in 0..count.div_ceil(TOGETHER) {
        let texts: Vec<String> = (0..TOGETHER)
            .map(|turn| negatives::MAKERS[(number * TOGETHER + turn) % negatives::MAKERS.len()](&mut random))
            .collect();
        let carrier = CARRIERS[number % CARRIERS.len()];
        documents.push(carriers::clean(&mut random, carrier, &texts));
    }
    documents
}

/// A second set, written by hand after the vendors' documentation and apart from the generators.
pub fn examples(seed: u64) -> Vec<Document> {
    let mut random = Random(seed ^ 0x6578_616d);
    let mut documents = Vec::new();
    for (number, planted) in examples::all(&mut random).into_iter().enumerate() {
        let carrier = CARRIERS[number % CARRIERS.len()];
        documents.push(carriers::document(&mut random, carrier, depths::Depth::Plain, &planted));
        documents.push(carriers::document(&mut random, carrier, depths::Depth::Nested, &planted));
    }
    for text in examples::innocent(&mut random) {
        documents.push(carriers::clean(&mut random, CARRIERS[documents.len() % CARRIERS.len()], &[text]));
    }
    documents
}
