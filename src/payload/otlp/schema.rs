//! Names and types of OTLP's fields, from the vendored `.proto` files.

use crate::{model::BinaryNumber, payload::otlp::Signal};

/// A message's fields, each at its number.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) role: Role,
    pub(super) fields: &'static [Option<Field>],
}

/// What a message is to the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    AnyValue,
    ArrayValue,
    KeyValue,
    KeyValueList,
    Other,
}

#[derive(Debug)]
pub(super) struct Field {
    /// As JSON has it.
    pub(super) name: &'static str,
    pub(super) is_repeated: bool,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bytes,
    Message(&'static Message),
    Number(BinaryNumber),
    String,
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&'static Field> {
        self.fields.get(number as usize)?.as_ref()
    }
}

/// The fields of a value: which of its kinds it is.
pub(super) static ANY_VALUE: &Message = &COMMON_V1_ANYVALUE;

/// The fields of a pair in a list of attributes.
pub(super) static KEY_VALUE: &Message = &COMMON_V1_KEYVALUE;

/// What a client of a signal's service sends.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Logs => &COLLECTOR_LOGS_V1_EXPORTLOGSSERVICEREQUEST,
        Signal::Metrics => &COLLECTOR_METRICS_V1_EXPORTMETRICSSERVICEREQUEST,
        Signal::Profiles => &COLLECTOR_PROFILES_V1DEVELOPMENT_EXPORTPROFILESSERVICEREQUEST,
        Signal::Traces => &COLLECTOR_TRACE_V1_EXPORTTRACESERVICEREQUEST,
    }
}

// The statics of messages, and `PAIR_LISTS`: what lists of pairs are called.
include!(concat!(env!("OUT_DIR"), "/otlp_schema.rs"));
