//! Makes the table of OTLP's messages from the vendored `.proto` files: names and types of fields by number. Reads the
//! part of proto3 that those files use, and stops the build at anything else, so that nothing is left out unnoticed.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::Path,
};

const FILES: &[&str] = &[
    "collector/logs/v1/logs_service.proto",
    "collector/metrics/v1/metrics_service.proto",
    "collector/profiles/v1development/profiles_service.proto",
    "collector/trace/v1/trace_service.proto",
    "common/v1/common.proto",
    "logs/v1/logs.proto",
    "metrics/v1/metrics.proto",
    "profiles/v1development/profiles.proto",
    "resource/v1/resource.proto",
    "trace/v1/trace.proto",
];

const FOLDER: &str = "proto/opentelemetry/proto";

/// What is sent, and so what the table begins with.
const ROOTS: &[&str] = &[
    "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest",
    "opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest",
    "opentelemetry.proto.collector.profiles.v1development.ExportProfilesServiceRequest",
    "opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest",
];

/// Largest field number that is used. The table has a slot for every number up to a message's largest.
const LARGEST_NUMBER: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    let mut schema = Schema::default();
    for file in FILES {
        let source = fs::read_to_string(Path::new(FOLDER).join(file))?;
        Parser { tokens: &tokens(&source), package: String::new(), schema: &mut schema }
            .file()
            .map_err(|error| format!("{FOLDER}/{file}: {error}"))?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("otlp_schema.rs"), schema.write()?)?;
    Ok(())
}

/// Messages and enums by full name.
#[derive(Default)]
struct Schema {
    enums: Vec<String>,
    messages: BTreeMap<String, Vec<Field>>,
}

struct Field {
    name: String,
    number: usize,
    is_repeated: bool,
    type_name: String,
}

impl Schema {
    /// The table, as statics of `payload::otlp::schema`: what can be reached from [`ROOTS`].
    fn write(&self) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        let mut written: Vec<String> = Vec::new();
        let mut waiting: Vec<String> = ROOTS.iter().map(|root| (*root).to_owned()).collect();
        while let Some(name) = waiting.pop() {
            if written.contains(&name) {
                continue;
            }
            let fields = self.messages.get(&name).ok_or_else(|| format!("`{name}` is not defined"))?;
            let slots = fields.iter().map(|field| field.number + 1).max().unwrap_or_default();
            writeln!(out, "pub(super) static {}: Message = Message {{", constant(&name))?;
            writeln!(out, "    role: Role::{},", role(&name))?;
            writeln!(out, "    fields: &[")?;
            for number in 0..slots {
                let Some(field) = fields.iter().find(|field| field.number == number) else {
                    writeln!(out, "        None,")?;
                    continue;
                };
                let kind = match self.resolve(&name, &field.type_name)? {
                    Type::Message(message) => {
                        let kind = format!("Message(&{})", constant(&message));
                        waiting.push(message);
                        kind
                    }
                    Type::Number(number) => format!("Number(BinaryNumber::{number})"),
                    Type::Other(word) => word.to_owned(),
                };
                let (json, is_repeated) = (json_name(&field.name), field.is_repeated);
                writeln!(
                    out,
                    "        Some(Field {{ name: {json:?}, is_repeated: {is_repeated}, kind: Kind::{kind} }}),"
                )?;
            }
            writeln!(out, "    ],\n}};")?;
            written.push(name);
        }
        writeln!(out, "pub(super) static PAIR_LISTS: &[&[u8]] = &[")?;
        for name in self.pair_lists(&written) {
            writeln!(out, "    b{name:?},")?;
        }
        out.push_str("];\n");
        Ok(out)
    }

    /// The names in JSON of lists of pairs, in these messages. Those of a value's own list are known by that value.
    fn pair_lists(&self, messages: &[String]) -> BTreeSet<String> {
        let lists =
            messages.iter().filter(|name| role(name) == "Other").flat_map(|name| &self.messages[name]);
        lists
            .filter(|field| field.is_repeated && field.type_name.rsplit('.').next() == Some("KeyValue"))
            .map(|field| json_name(&field.name))
            .collect()
    }

    fn resolve(&self, scope: &str, type_name: &str) -> Result<Type, Box<dyn Error>> {
        Ok(Type::Number(match type_name {
            "bool" => "Bool",
            "bytes" => return Ok(Type::Other("Bytes")),
            "double" => "Double",
            "fixed32" => "Fixed32",
            "fixed64" => "Fixed64",
            "float" => "Float",
            "int32" | "int64" => "VarintSigned",
            "sfixed32" => "Sfixed32",
            "sfixed64" => "Sfixed64",
            "sint32" | "sint64" => "Sint",
            "string" => return Ok(Type::Other("String")),
            "uint32" | "uint64" => "Varint",
            named => return self.resolve_name(scope, named),
        }))
    }

    /// As protobuf resolves names: from the innermost scope outwards.
    fn resolve_name(&self, scope: &str, named: &str) -> Result<Type, Box<dyn Error>> {
        let mut outer = Some(scope);
        loop {
            let full = outer.map_or_else(|| named.to_owned(), |outer| format!("{outer}.{named}"));
            if self.messages.contains_key(&full) {
                return Ok(Type::Message(full));
            }
            if self.enums.contains(&full) {
                return Ok(Type::Number("VarintSigned"));
            }
            let Some(scope) = outer else {
                return Err(format!("type `{named}` is not defined").into());
            };
            outer = scope.rsplit_once('.').map(|(outer, _)| outer);
        }
    }
}

enum Type {
    Message(String),
    /// A word of `BinaryNumber`.
    Number(&'static str),
    /// A word of `Kind`.
    Other(&'static str),
}

/// What a message is to the walk: the wrappers of values are left out of paths.
fn role(full_name: &str) -> &'static str {
    match full_name {
        "opentelemetry.proto.common.v1.AnyValue" => "AnyValue",
        "opentelemetry.proto.common.v1.ArrayValue" => "ArrayValue",
        "opentelemetry.proto.common.v1.KeyValue" => "KeyValue",
        "opentelemetry.proto.common.v1.KeyValueList" => "KeyValueList",
        _ => "Other",
    }
}

/// `opentelemetry.proto.common.v1.AnyValue` as a constant's name.
fn constant(full_name: &str) -> String {
    let short = full_name.trim_start_matches("opentelemetry.proto.");
    short.replace('.', "_").to_ascii_uppercase()
}

/// A field's name in JSON: `time_unix_nano` becomes `timeUnixNano`.
fn json_name(name: &str) -> String {
    let mut words = name.split('_');
    let mut json = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        json.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        json.push_str(chars.as_str());
    }
    json
}

/// Words, numbers, strings and single characters, without comments.
fn tokens(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let is_word = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.');
            let length = match first {
                '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
                first if is_word(first) => rest.find(|char| !is_word(char)).unwrap_or(rest.len()),
                first => first.len_utf8(),
            };
            found.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
    }
    found
}

struct Parser<'p> {
    tokens: &'p [String],
    package: String,
    schema: &'p mut Schema,
}

impl Parser<'_> {
    fn file(mut self) -> Result<(), Box<dyn Error>> {
        while let Some(word) = self.next() {
            match word.as_str() {
                "enum" => self.enumeration(&self.package.clone())?,
                "import" | "option" => self.skip_statement(),
                "message" => self.message(&self.package.clone())?,
                "package" => {
                    self.package = self.word()?;
                    self.expect(";")?;
                }
                "service" => {
                    self.word()?;
                    self.expect("{")?;
                    self.skip_block()?;
                }
                "syntax" => {
                    self.expect("=")?;
                    self.expect("\"proto3\"")?;
                    self.expect(";")?;
                }
                other => return Err(format!("`{other}` at the top level is not understood").into()),
            }
        }
        Ok(())
    }

    fn message(&mut self, scope: &str) -> Result<(), Box<dyn Error>> {
        let name = format!("{scope}.{}", self.word()?);
        self.expect("{")?;
        let mut fields = Vec::new();
        // A oneof's fields are its message's.
        let mut in_oneof = false;
        loop {
            match self.word()?.as_str() {
                "enum" => self.enumeration(&name)?,
                "message" => self.message(&name)?,
                "oneof" => {
                    self.word()?;
                    self.expect("{")?;
                    in_oneof = true;
                }
                "option" | "reserved" => self.skip_statement(),
                // An empty statement.
                ";" => {}
                "}" if in_oneof => in_oneof = false,
                "}" => break,
                word @ ("extend" | "extensions" | "group" | "map" | "required") => {
                    return Err(format!("`{word}` is not supported").into());
                }
                "optional" => {
                    let type_name = self.word()?;
                    fields.push(self.field(type_name, false)?);
                }
                "repeated" => {
                    let type_name = self.word()?;
                    fields.push(self.field(type_name, true)?);
                }
                type_name => fields.push(self.field(type_name.to_owned(), false)?),
            }
        }
        self.schema.messages.insert(name, fields);
        Ok(())
    }

    fn field(&mut self, type_name: String, is_repeated: bool) -> Result<Field, Box<dyn Error>> {
        let name = self.word()?;
        self.expect("=")?;
        let number = self.word()?.parse()?;
        if number > LARGEST_NUMBER {
            return Err(format!("field number {number} of `{name}` is too large for the table").into());
        }
        self.skip_statement();
        Ok(Field { name, number, is_repeated, type_name })
    }

    fn enumeration(&mut self, scope: &str) -> Result<(), Box<dyn Error>> {
        let name = format!("{scope}.{}", self.word()?);
        self.expect("{")?;
        self.schema.enums.push(name);
        self.skip_block()
    }

    fn skip_statement(&mut self) {
        while self.next().is_some_and(|token| token != ";") {}
    }

    /// Skips up to the brace that closes the one before.
    fn skip_block(&mut self) -> Result<(), Box<dyn Error>> {
        let mut depth = 1;
        while depth > 0 {
            match self.word()?.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<String> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn word(&mut self) -> Result<String, Box<dyn Error>> {
        self.next().ok_or_else(|| "the file ends too early".into())
    }

    fn expect(&mut self, wanted: &str) -> Result<(), Box<dyn Error>> {
        match self.word()? {
            found if found == wanted => Ok(()),
            found => Err(format!("`{wanted}` is expected in place of `{found}`").into()),
        }
    }
}
