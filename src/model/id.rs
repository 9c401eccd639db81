use std::{fmt, num::NonZeroU32, str::FromStr};

/// One start of plainsight: a `run`, a `proxy`, a `demo` or a `scan`. Numbered from 1 within a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(NonZeroU32);

impl RunId {
    /// The first run of a store.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// Makes a run id; `None` for zero.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError(text.to_owned()))
    }
}

/// One request or tunnel: the run and its number within the run, written `12-7`.
///
/// Known before the record is written, unique in a store, short enough to type, and ordered as things happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    run: RunId,
    number: u32,
}

impl FlowId {
    /// Names flow `number` of `run`.
    pub const fn new(run: RunId, number: u32) -> Self {
        Self { run, number }
    }

    /// The run it belongs to.
    pub const fn run(self) -> RunId {
        self.run
    }

    /// The number within the run, from 1.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// One integer that sorts as the id does, for a database key.
    pub const fn to_key(self) -> i64 {
        ((self.run.get() as i64) << 32) | self.number as i64
    }

    /// The id with this key; `None` for a key that no id has.
    pub fn from_key(key: i64) -> Option<Self> {
        let run = RunId::new(u32::try_from(key >> 32).ok()?)?;
        Some(Self { run, number: key as u32 })
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.run, self.number))
    }
}

impl FromStr for FlowId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts =
            text.split_once('-').and_then(|(run, number)| Some((run.parse().ok()?, number.parse().ok()?)));
        let (run, number) = parts.ok_or_else(|| IdError(text.to_owned()))?;
        Ok(Self { run, number })
    }
}

/// Text that is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no id; ids look like `12-7`, `plainsight log` lists them")]
pub struct IdError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_id_survives_text_and_key() {
        let id: FlowId = "12-7".parse().unwrap();

        assert_eq!(id.to_string(), "12-7");
        assert_eq!(FlowId::from_key(id.to_key()), Some(id));
    }

    #[test]
    fn keys_sort_as_ids_do() {
        let earlier = FlowId::new(RunId::new(1).unwrap(), u32::MAX);
        let later = FlowId::new(RunId::new(2).unwrap(), 0);

        assert!(earlier < later);
        assert!(earlier.to_key() < later.to_key());
    }

    #[test]
    fn nonsense_is_no_id() {
        for text in ["", "7", "0-1", "-", "1-", "a-b", "1-2-3"] {
            assert!(text.parse::<FlowId>().is_err(), "{text}");
        }
    }
}
