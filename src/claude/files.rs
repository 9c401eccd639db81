use bytes::Bytes;

/// A file that the client keeps in its own folder, and that holds what was sent or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFile {
    /// Events that the service refused, kept for a later try: `telemetry/1p_failed_events.<session>.<id>.json`.
    FailedEvents,
    /// What the client counts for its own statistics, and sends nowhere: `stats-cache.json`.
    StatsCache,
    /// What the Statsig library keeps: ids, cached answers, events that were refused: `statsig/statsig.*`.
    Statsig,
}

impl ClientFile {
    /// Recognises a file by its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "stats-cache.json" => Some(Self::StatsCache),
            name if name.starts_with("1p_failed_events.") && name.ends_with(".json") => {
                Some(Self::FailedEvents)
            }
            name if name.starts_with("statsig.") => Some(Self::Statsig),
            _ => None,
        }
    }
}

/// Refused events as the batch that they were, and will be again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// The batch.
    pub body: Bytes,
    /// How many bytes of it stand before the file's first. Behind that, batch and file go byte by byte.
    pub before: usize,
}

/// Makes a batch out of a file of refused events.
///
/// The client writes one event a line. Line ends become commas, so that every place in the batch is a place in the file.
/// A file that is a list of events or a whole batch is taken as it is.
pub fn event_batch(file: &[u8]) -> EventBatch {
    let start = file.trim_ascii_start();
    if start.starts_with(b"[") {
        return EventBatch { body: [BEFORE_LIST, file, b"}"].concat().into(), before: BEFORE_LIST.len() };
    }
    if is_batch(start) {
        return EventBatch { body: Bytes::copy_from_slice(file), before: 0 };
    }
    let end = file.trim_ascii_end().len();
    let mut body = Vec::with_capacity(file.len() + BEFORE_LINES.len() + AFTER_LINES.len());
    body.extend_from_slice(BEFORE_LINES);
    let mut in_line = false;
    for &byte in &file[..end] {
        // JSON has no bare line ends within a string, so each of these lies between two events; of several, one counts.
        let separates = byte == b'\n' && in_line;
        body.push(if separates { b',' } else { byte });
        in_line = (in_line && !separates) || !byte.is_ascii_whitespace();
    }
    body.extend_from_slice(AFTER_LINES);
    EventBatch { body: body.into(), before: BEFORE_LINES.len() }
}

/// Whether the file is one object with `events` in front.
fn is_batch(start: &[u8]) -> bool {
    let Some(rest) = start.strip_prefix(b"{") else { return false };
    rest.trim_ascii_start().starts_with(b"\"events\"")
}

const BEFORE_LINES: &[u8] = br#"{"events":["#;
const AFTER_LINES: &[u8] = b"]}";
const BEFORE_LIST: &[u8] = br#"{"events":"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_name() {
        let spool =
            "1p_failed_events.be81deb8-69e8-4db1-ab9e-3effa02346f1.a3a9e0ec-9b4b-492f-a452-e3490c446e6a.json";

        assert_eq!(ClientFile::named(spool), Some(ClientFile::FailedEvents));
        assert_eq!(ClientFile::named("stats-cache.json"), Some(ClientFile::StatsCache));
        assert_eq!(ClientFile::named("statsig.failed_logs.658916400"), Some(ClientFile::Statsig));
        assert_eq!(ClientFile::named("settings.json"), None);
    }

    #[test]
    fn lines_become_a_batch_in_which_every_byte_keeps_its_place() {
        let file = b"{\"a\":1}\n\n{\"a\":2}\r\n{\"a\":3}\n";

        let batch = event_batch(file);

        let events: serde_json::Value = serde_json::from_slice(&batch.body).unwrap();
        assert_eq!(events, serde_json::json!({ "events": [{ "a": 1 }, { "a": 2 }, { "a": 3 }] }));
        let place = file.windows(5).position(|window| window == b"\"a\":3").unwrap();
        assert_eq!(&batch.body[batch.before + place..][..5], b"\"a\":3");
    }

    #[test]
    fn lists_and_batches_are_taken_as_they_are() {
        let list = event_batch(b"[{\"a\":1}]");
        let batch = event_batch(b" {\"events\": [{\"a\":1}]}");

        assert_eq!((&list.body[..], list.before), (&br#"{"events":[{"a":1}]}"#[..], 10));
        assert_eq!((&batch.body[..], batch.before), (&br#" {"events": [{"a":1}]}"#[..], 0));
    }

    #[test]
    fn an_empty_file_is_an_empty_batch() {
        assert_eq!(&event_batch(b"\n").body[..], br#"{"events":[]}"#);
    }
}
