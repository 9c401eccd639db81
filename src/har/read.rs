use std::{
    cell::Cell,
    fmt,
    io::{BufRead, BufReader, Read},
    ops::ControlFlow,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::har::{Entry, HarError};

/// An entry that is no request, or not one that can be read. The others are read all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Something in it is missing or makes no sense.
    #[error("entry {index}: {what}")]
    Broken {
        /// Which entry, from 0.
        index: usize,
        /// What is wrong.
        what: String,
    },
    /// It never left the browser.
    #[error("entry {index}: `{scheme}:` is not HTTP")]
    NotHttp {
        /// Which entry, from 0.
        index: usize,
        /// The scheme.
        scheme: String,
    },
}

/// Reads a recording entry by entry, in order; `visit` may stop it.
///
/// # Errors
/// [`HarError`] when the file as a whole cannot be read, or not from some entry on. What is wrong with one entry alone
/// goes to `visit`.
pub fn read(
    source: impl Read,
    visit: impl FnMut(Result<Entry, Unreadable>) -> ControlFlow<()>,
) -> Result<(), HarError> {
    let mut source = BufReader::with_capacity(BUFFER_BYTES, source);
    if source.fill_buf().map_err(HarError::Io)?.starts_with(BOM) {
        source.consume(BOM.len());
    }
    let state = State { visit, index: Cell::new(None), stopped: false, found: false };
    let mut log = File(state);
    let mut deserializer = serde_json::Deserializer::from_reader(source);
    let read = (&mut log).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    let File(state) = log;
    match read {
        _ if state.stopped => Ok(()),
        Ok(()) if state.found => Ok(()),
        Ok(()) => Err(HarError::Format(serde_json::Error::custom("`log.entries` is missing"))),
        Err(error) if error.is_io() => Err(HarError::Io(error.into())),
        Err(source) => Err(match state.index.get() {
            Some(index) => HarError::Entry { index, source },
            None => HarError::Format(source),
        }),
    }
}

/// The whole file: `{"log": {"entries": […]}}`, with whatever else in any order.
struct File<V>(State<V>);

struct State<V> {
    visit: V,
    /// The entry that is being read; `None` outside the list.
    index: Cell<Option<usize>>,
    stopped: bool,
    found: bool,
}

impl<'de, V> DeserializeSeed<'de> for &mut File<V>
where
    V: FnMut(Result<Entry, Unreadable>) -> ControlFlow<()>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(Object { wanted: "log", inner: Log(&mut self.0) })
    }
}

/// Finds one member of an object and passes over the others.
struct Object<S> {
    wanted: &'static str,
    inner: S,
}

/// Something that can be read from a value, once or (a duplicate key) several times.
trait Member<'de> {
    fn read<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error>;
}

impl<'de, S: Member<'de>> Visitor<'de> for Object<S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", self.wanted)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.wanted {
                self.inner.read(&mut map)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Log<'s, V>(&'s mut State<V>);

impl<'de, V> Member<'de> for Log<'_, V>
where
    V: FnMut(Result<Entry, Unreadable>) -> ControlFlow<()>,
{
    fn read<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        struct Seed<'s, V>(&'s mut State<V>);

        impl<'de, V> DeserializeSeed<'de> for Seed<'_, V>
        where
            V: FnMut(Result<Entry, Unreadable>) -> ControlFlow<()>,
        {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_map(Object { wanted: "entries", inner: Entries(self.0) })
            }
        }

        map.next_value_seed(Seed(self.0))
    }
}

struct Entries<'s, V>(&'s mut State<V>);

impl<'de, V> Member<'de> for Entries<'_, V>
where
    V: FnMut(Result<Entry, Unreadable>) -> ControlFlow<()>,
{
    fn read<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        map.next_value_seed(List(self.0))
    }
}

struct List<'s, V>(&'s mut State<V>);

impl<'de, V> DeserializeSeed<'de> for List<'_, V>
where
    V: FnMut(Result<Entry, Unreadable>) -> ControlFlow<()>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, V> Visitor<'de> for List<'_, V>
where
    V: FnMut(Result<Entry, Unreadable>) -> ControlFlow<()>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let state = self.0;
        state.found = true;
        let mut index = 0;
        state.index.set(Some(index));
        // One entry's text at a time: what is wrong in it does not end the walk, and its answer is never parsed.
        while let Some(raw) = list.next_element::<Box<RawValue>>()? {
            let entry = serde_json::from_str::<RawEntry>(raw.get())
                .map_err(|error| Unreadable::Broken { index, what: error.to_string() })
                .and_then(|raw| Entry::new(index, raw));
            drop(raw);
            if (state.visit)(entry).is_break() {
                state.stopped = true;
                return Err(A::Error::custom("stopped"));
            }
            index += 1;
            state.index.set(Some(index));
        }
        state.index.set(None);
        Ok(())
    }
}

/// An entry as it is written. Only what is needed; recorders leave out what they do not know, or write `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawEntry {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) started_date_time: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) time: f64,
    pub(super) request: RawRequest,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) response: RawResponse,
    #[serde(default, rename = "_webSocketMessages", deserialize_with = "length")]
    pub(super) web_socket_messages: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawRequest {
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) http_version: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) headers: Vec<RawHeader>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) body_size: f64,
    #[serde(default)]
    pub(super) post_data: Option<RawPostData>,
    #[serde(default, rename = "_content")]
    pub(super) content: Option<RawContent>,
    #[serde(default, rename = "_requestBodyStatus")]
    pub(super) body_status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct RawHeader {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPostData {
    #[serde(default)]
    pub(super) mime_type: Option<String>,
    #[serde(default)]
    pub(super) text: Option<Text>,
    #[serde(default)]
    pub(super) encoding: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) params: Vec<RawParameter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawParameter {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: Option<String>,
    #[serde(default)]
    pub(super) file_name: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct RawContent {
    #[serde(default)]
    pub(super) text: Option<Text>,
    #[serde(default)]
    pub(super) encoding: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawResponse {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) status: f64,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) body_size: f64,
}

/// The text of a body. A cut-off emoji leaves half of a surrogate pair, which is no `String` and must not be lost:
/// it is kept in the three bytes that UTF-8 would give it.
pub(super) struct Text(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsBytes;

        impl Visitor<'_> for AsBytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.as_bytes().to_vec()))
            }
        }

        deserializer.deserialize_bytes(AsBytes)
    }
}

/// Reads `null` as what a missing member would be.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let list: Option<Vec<IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(list.map_or(0, |list| list.len()))
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What is read from the file at once: large enough that the system call costs nothing.
const BUFFER_BYTES: usize = 256 * 1024;
