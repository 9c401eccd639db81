//! plainsight's own detection, with all rules that ship, at three places of the way from bytes to findings.

use std::{collections::HashMap, hint::black_box};

use bytes::Bytes;
use plainsight::{
    model::{DestinationId, Document, DocumentBuilder},
    payload::{Budget, decode, recognise},
    rules::{Hit, Kind, RuleSet, Scratch},
};

use crate::{
    body::Body,
    tool::{Round, Tool, time},
};

/// How much of the way is timed.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// From bytes: recognise the format, take the body apart (base64 and JSON in strings too), scan, name each hit's field.
    Whole,
    /// A document that was taken apart before: value and field rules, over what was opened as well.
    Scan,
    /// The body as one plain text: value rules only. What a scanner of text does.
    Text,
}

pub struct Product<'r> {
    rules: &'r RuleSet,
    way: Way,
    scratch: Scratch,
    documents: HashMap<&'static str, Document>,
}

impl<'r> Product<'r> {
    pub fn new(rules: &'r RuleSet, way: Way) -> Self {
        Self { rules, way, scratch: Scratch::default(), documents: HashMap::new() }
    }

    /// Values that a whole scan names by what they look like, leaving out those known by their field's name, which no
    /// other tool here looks at.
    pub fn values(&mut self, destination: &'static str, path: &str, body: &str) -> Vec<Vec<u8>> {
        let document = take_apart(destination, path, Bytes::copy_from_slice(body.as_bytes()));
        let hits = self.rules.scan(&document, &DestinationId::new(destination), &mut self.scratch);
        let by_value = |hit: &Hit| matches!(self.rules.rules()[hit.rule].kind, Kind::Value(_));
        hits.into_iter().filter(by_value).map(|hit| document.text(hit.text)[hit.range].to_vec()).collect()
    }
}

impl Tool for Product<'_> {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Whole => "plainsight, bytes to findings",
            Way::Scan => "plainsight, detection alone",
            Way::Text => "plainsight, body as one text",
        }
    }

    fn round(&mut self, body: &Body) -> Result<Round, String> {
        let Self { rules, way, scratch, documents } = self;
        let destination = DestinationId::new(body.destination);
        let bytes = Bytes::from(body.text.clone());
        if let Way::Whole = way {
            return Ok(time(bytes.len(), || {
                let document = take_apart(body.destination, body.path, black_box(bytes.clone()));
                let hits = rules.scan(&document, &destination, scratch);
                for hit in &hits {
                    black_box(document.field(hit.node).path());
                    black_box(document.body_span(hit.text, hit.range.clone()));
                }
                hits.len()
            }));
        }
        let document: &Document = documents.entry(body.name).or_insert_with(|| match way {
            Way::Scan => take_apart(body.destination, body.path, bytes.clone()),
            _ => DocumentBuilder::new("text", bytes.clone()).finish(),
        });
        // Of the body, like everyone's, although what was opened out of it is scanned on top.
        Ok(time(bytes.len(), || black_box(rules.scan(black_box(document), &destination, scratch)).len()))
    }
}

fn take_apart(destination: &str, path: &str, body: Bytes) -> Document {
    let format = recognise(destination, Some("application/json"), path, &body).format;
    decode(&format, body.clone(), &Budget::default())
        .or_else(|_| {
            let json = recognise("first-party-events", Some("application/json"), "/", &body).format;
            decode(&json, body, &Budget::default())
        })
        .expect("a body of our own")
}
