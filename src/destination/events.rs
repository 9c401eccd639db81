use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    destination::{CatalogueError, spec::Source},
    model::PathPattern,
};

/// The names that are built in.
pub const EMBEDDED_EVENTS: &str = include_str!("../../rules/events.toml");

/// What telemetry is known to call its events, fields and attributes. Data: `rules/events.toml`.
#[derive(Clone, Debug)]
pub struct Events {
    formats: HashMap<Box<str>, Format>,
    events: HashMap<Box<str>, KnownEvent>,
    attributes: Vec<Attribute>,
    flags: Vec<Flag>,
    categories: BTreeMap<Box<str>, Box<str>>,
}

/// What an event is, as far as its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEvent {
    /// What kind of thing has this name, such as `product` or `span`.
    pub kind: Box<str>,
    /// What it is about: a category's id.
    pub category: Box<str>,
}

/// An attribute of OpenTelemetry on what carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its key.
    pub name: Box<str>,
    /// What carries it: `event`, `metric`, `span`, or one of them by name, such as `event:tool_result`.
    pub on: Box<str>,
    /// The flag without which it is not sent, or not with its value.
    pub gate: Option<Box<str>>,
}

/// A switch of the client that lets attributes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The environment variable.
    pub id: Box<str>,
    /// What holds when it is not set.
    pub default: bool,
    /// What it lets out, for people.
    pub title: Box<str>,
}

/// Where the names of one format stand, and which are known.
#[derive(Clone, Debug)]
pub struct Format {
    /// The paths whose values are names of events.
    pub events: Vec<PathPattern>,
    /// Which keys are names.
    pub names: Names,
    known: HashSet<Box<[u8]>>,
}

/// Which keys of a format are names, rather than data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// What stands directly below a member that is called `attributes`.
    Attributes,
    /// Every key of the body down to [`Names::DEEPEST`], and the outermost ones of a container that is opened in it.
    Keys,
}

impl Names {
    /// How deep keys of a body count. Every key that the recordings hold of the sender's own stands within it; below
    /// begin the keys that data has.
    pub const DEEPEST: usize = 4;
}

impl Format {
    /// Whether a field is known to be called so.
    pub fn knows(&self, name: &[u8]) -> bool {
        self.known.contains(name)
    }
}

impl Events {
    /// Reads names. `name` is the file's name, for errors.
    ///
    /// # Errors
    /// A file that is no TOML, has unknown or missing keys, refers to what is not there, or says a thing twice.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, CatalogueError> {
        let error = |message: String| CatalogueError { file: name.to_owned(), message };
        let file: File = parse(text).map_err(error)?;
        if file.schema != SCHEMA {
            return Err(error(format!(
                "schema {} is not known; this version reads schema {SCHEMA}",
                file.schema
            )));
        }
        file.compile().map_err(error)
    }

    /// The built-in names.
    pub fn embedded() -> Self {
        Self::from_toml("events.toml", EMBEDDED_EVENTS).expect("the embedded names are read in a test")
    }

    /// What is known of a format's names; `None` for a format whose names nobody listed.
    pub fn format(&self, id: &str) -> Option<&Format> {
        self.formats.get(id)
    }

    /// What is known of an event. OpenTelemetry's are known with and without the client's prefix.
    pub fn event(&self, name: &str) -> Option<&KnownEvent> {
        self.events.get(name).or_else(|| self.events.get(name.strip_prefix(OTLP_PREFIX)?))
    }

    /// What a category is about, for people.
    pub fn category(&self, id: &str) -> Option<&str> {
        self.categories.get(id).map(|title| &**title)
    }

    /// Every attribute of OpenTelemetry, once for each thing that carries it.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The switches that let attributes out.
    pub fn flags(&self) -> &[Flag] {
        &self.flags
    }
}

/// What the client puts before the names of its events in the body of a log record.
const OTLP_PREFIX: &str = "claude_code.";

/// The format whose names are the attributes.
const OTLP: &str = "otlp";

/// The one version of the format that exists.
const SCHEMA: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    #[serde(rename = "version")]
    _version: String,
    format: Vec<FormatSpec>,
    category: Vec<CategorySpec>,
    event: Vec<EventSpec>,
    fields: Vec<FieldsSpec>,
    flag: Vec<FlagSpec>,
    attribute: Vec<AttributeSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatSpec {
    id: String,
    events: Vec<String>,
    names: Names,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CategorySpec {
    id: String,
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventSpec {
    kind: String,
    category: String,
    #[serde(rename = "source")]
    _source: Source,
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldsSpec {
    format: String,
    #[serde(rename = "source")]
    _source: Source,
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlagSpec {
    id: String,
    default: bool,
    title: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeSpec {
    on: Vec<String>,
    gate: Option<String>,
    #[serde(rename = "source")]
    _source: Source,
    names: Vec<String>,
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

impl File {
    fn compile(self) -> Result<Events, String> {
        let mut categories = BTreeMap::new();
        for CategorySpec { id, title } in self.category {
            if categories.insert(id.clone().into(), title.into()).is_some() {
                return Err(format!("category `{id}` stands there twice"));
            }
        }
        let mut formats: HashMap<Box<str>, Format> = HashMap::new();
        for FormatSpec { id, events, names } in self.format {
            let patterns = events.iter().map(|glob| {
                let pattern = PathPattern::parse(glob).map_err(|error| format!("format `{id}`: {error}"))?;
                match pattern.last_names() {
                    Some(_) => Ok(pattern),
                    None => Err(format!("format `{id}`: `{glob}` does not end in a name")),
                }
            });
            let events = patterns.collect::<Result<_, _>>()?;
            if formats.insert(id.clone().into(), Format { events, names, known: HashSet::new() }).is_some() {
                return Err(format!("format `{id}` stands there twice"));
            }
        }
        let mut events = HashMap::new();
        for EventSpec { kind, category, names, .. } in self.event {
            if !categories.contains_key(category.as_str()) {
                return Err(format!("there is no category `{category}`"));
            }
            for name in names {
                let event = KnownEvent { kind: kind.clone().into(), category: category.clone().into() };
                if events.insert(name.clone().into(), event).is_some() {
                    return Err(format!("event `{name}` stands there twice"));
                }
            }
        }
        for FieldsSpec { format, names, .. } in self.fields {
            let known =
                formats.get_mut(format.as_str()).ok_or_else(|| format!("there is no format `{format}`"))?;
            for name in names {
                if !known.known.insert(name.as_bytes().into()) {
                    return Err(format!("field `{name}` of `{format}` stands there twice"));
                }
            }
        }
        let flags: Vec<Flag> = self.flag.into_iter().map(Flag::from).collect();
        let attributes = compile_attributes(self.attribute, &flags)?;
        if let Some(otlp) = formats.get_mut(OTLP) {
            otlp.known.extend(attributes.iter().map(|attribute| attribute.name.as_bytes().into()));
        }
        Ok(Events { formats, events, attributes, flags, categories })
    }
}

fn compile_attributes(specs: Vec<AttributeSpec>, flags: &[Flag]) -> Result<Vec<Attribute>, String> {
    let mut attributes = Vec::new();
    let mut seen = HashSet::new();
    for AttributeSpec { on, gate, names, .. } in specs {
        if let Some(gate) = &gate
            && !flags.iter().any(|flag| *flag.id == **gate)
        {
            return Err(format!("there is no flag `{gate}`"));
        }
        for carrier in on {
            let kind = carrier.split(':').next().unwrap_or_default();
            if !["event", "metric", "span", "span-event"].contains(&kind) {
                return Err(format!("`{carrier}` is none of event, metric, span, span-event"));
            }
            for name in &names {
                if !seen.insert((carrier.clone(), name.clone())) {
                    return Err(format!("attribute `{name}` on `{carrier}` stands there twice"));
                }
                attributes.push(Attribute {
                    name: name.as_str().into(),
                    on: carrier.as_str().into(),
                    gate: gate.as_deref().map(Into::into),
                });
            }
        }
    }
    Ok(attributes)
}

impl From<FlagSpec> for Flag {
    fn from(spec: FlagSpec) -> Self {
        Self { id: spec.id.into(), default: spec.default, title: spec.title.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_names_are_read() {
        let events = Events::embedded();

        assert_eq!(events.event("tengu_init").map(|event| &*event.category), Some("session"));
        assert_eq!(events.event("claude_code.tool_result").map(|event| &*event.kind), Some("otlp-event"));
        assert_eq!(events.event("tengu_brand_new"), None);
        assert!(events.format("first-party-events").unwrap().knows(b"device_id"));
        assert!(events.format("otlp").unwrap().knows(b"user.email"));
        assert!(!events.format("otlp").unwrap().knows(b"user.shoe_size"));
        assert!(events.category("tool").is_some() && events.category("x").is_none());
    }

    #[test]
    fn what_shows_content_has_its_documented_gate() {
        let events = Events::embedded();
        let gate = |on: &str, name: &str| {
            let mut carried = events
                .attributes()
                .iter()
                .filter(|attribute| &*attribute.on == on && &*attribute.name == name);
            carried.next().unwrap().gate.as_deref()
        };

        assert_eq!(gate("event:user_prompt", "prompt"), Some("OTEL_LOG_USER_PROMPTS"));
        assert_eq!(gate("span:claude_code.interaction", "user_prompt"), Some("OTEL_LOG_USER_PROMPTS"));
        assert_eq!(gate("event:tool_result", "tool_input"), Some("OTEL_LOG_TOOL_DETAILS"));
        assert_eq!(gate("span:claude_code.tool", "full_command"), Some("OTEL_LOG_TOOL_DETAILS"));
        assert_eq!(gate("span-event:tool.output", "output"), Some("OTEL_LOG_TOOL_CONTENT"));
        assert_eq!(gate("event:api_request_body", "body"), Some("OTEL_LOG_RAW_API_BODIES"));
        assert_eq!(gate("metric", "session.id"), Some("OTEL_METRICS_INCLUDE_SESSION_ID"));
        assert_eq!(gate("event", "session.id"), None);
        let on_by_default = events.flags().iter().filter(|flag| flag.default).map(|flag| &*flag.id);
        assert!(
            on_by_default.clone().count() == 3
                && on_by_default.clone().all(|id| id.starts_with("OTEL_METRICS_"))
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        const FILE: &str = r#"
            schema = 1
            version = "1"
            format = [{ id = "f", events = ["f:*/name"], names = "keys" }]
            category = [{ id = "c", title = "C" }]
            event = [{ kind = "k", category = "c", source = "measured", names = ["e"] }]
            fields = [{ format = "f", source = "measured", names = ["n"] }]
            flag = [{ id = "FLAG", default = true, title = "F" }]
            attribute = [{ on = ["event:x"], gate = "FLAG", source = "documented", names = ["a"] }]
        "#;
        assert!(Events::from_toml("x.toml", FILE).is_ok());
        for (from, to, expected) in [
            ("schema = 1", "schema = 2", "schema 2"),
            ("title = \"C\"", "titel = \"C\"", "titel"),
            ("category = \"c\"", "category = \"d\"", "there is no category `d`"),
            ("[\"e\"]", "[\"e\", \"e\"]", "event `e` stands there twice"),
            ("format = \"f\"", "format = \"g\"", "there is no format `g`"),
            ("[\"n\"]", "[\"n\", \"n\"]", "field `n` of `f` stands there twice"),
            ("gate = \"FLAG\"", "gate = \"FLAT\"", "there is no flag `FLAT`"),
            ("event:x", "even:x", "`even:x` is none of"),
            ("[\"a\"]", "[\"a\", \"a\"]", "attribute `a` on `event:x` stands there twice"),
            ("f:*/name", "f:*/na*", "does not end in a name"),
            ("\"measured\"", "\"guessed\"", "guessed"),
        ] {
            let message = Events::from_toml("x.toml", &FILE.replace(from, to)).unwrap_err().to_string();

            assert!(message.starts_with("x.toml: ") && message.contains(expected), "{message}");
        }
    }
}
