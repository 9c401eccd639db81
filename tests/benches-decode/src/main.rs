//! How fast payloads are decoded into fields, against `serde_json` and `prost` on the same bytes in the same run, and
//! what memory bodies take that were made to do harm. Prints Markdown.
//!
//! `BODY COUNT` as arguments (`events 20`) decodes one body so many times and does nothing else, to be counted by
//! `valgrind --tool=callgrind`.

mod bodies;
mod bombs;
mod counting;

use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use plainsight::payload::{self, Budget, OtlpEncoding, PayloadFormat, Signal};
use prost::Message as _;
use serde_json::Value;

use counting::{Counting, taken};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes a body with what we are compared with.
type Peer = fn(&[u8]);

/// How long one body is decoded again and again in a round.
const WINDOW: Duration = Duration::from_millis(250);

const ROUNDS: usize = 7;

/// How many events a body holds.
const EVENTS: u64 = 200;

fn main() {
    let serde: Peer = |body| _ = black_box(serde_json::from_slice::<Value>(body).expect("valid"));
    let logs: Peer = |body| _ = black_box(ExportLogsServiceRequest::decode(body).expect("valid"));
    let spans: Peer = |body| _ = black_box(ExportTraceServiceRequest::decode(body).expect("valid"));
    let protobuf = |signal| PayloadFormat::Otlp(OtlpEncoding::Protobuf(signal));
    let json = PayloadFormat::Otlp(OtlpEncoding::Json);
    let rows: [(&str, &str, PayloadFormat, fn(u64) -> Vec<u8>, Peer, &str); 6] = [
        (
            "events",
            "event batch, plain",
            PayloadFormat::FirstPartyEvents,
            |n| bodies::events(n, false),
            serde,
            "serde_json",
        ),
        (
            "events-base64",
            "event batch, base64 of JSON in each event",
            PayloadFormat::FirstPartyEvents,
            |n| bodies::events(n, true),
            serde,
            "serde_json, base64 unread",
        ),
        (
            "datadog",
            "Datadog logs, tags opened",
            PayloadFormat::Datadog,
            bodies::datadog,
            serde,
            "serde_json, tags unread",
        ),
        ("otlp-json", "OTLP logs, JSON", json, bodies::otlp_json, serde, "serde_json"),
        ("otlp-logs", "OTLP logs, protobuf", protobuf(Signal::Logs), bodies::otlp_logs, logs, "prost"),
        ("otlp-spans", "OTLP spans, protobuf", protobuf(Signal::Traces), bodies::otlp_spans, spans, "prost"),
    ];
    if let [_, body, count] = &env::args().collect::<Vec<_>>()[..] {
        let (_, _, format, make, ..) = rows.iter().find(|row| row.0 == body).expect("a body of that name");
        let body = Bytes::from(make(EVENTS));
        for _ in 0..count.parse().expect("a number") {
            decode_counted(*format, &body);
        }
        return;
    }
    println!(
        "| body | bytes | fields | plainsight, GB/s | peer | peer, GB/s | ratio | allocations: plainsight | … of a body 8 times as long | peer |"
    );
    println!("|---|---:|---:|---:|---|---:|---:|---:|---:|---:|");
    for (_, name, format, make, peer, peer_name) in rows {
        row(name, format, make, peer, peer_name);
    }
    println!();
    bombs::table();
}

fn decode(format: PayloadFormat, body: &Bytes) -> usize {
    let document = payload::decode(&format, body.clone(), &Budget::default()).expect("there is a decoder");
    assert!(document.gaps().is_empty(), "all of it is read");
    document.fields().len()
}

/// Stands alone so that `--toggle-collect='*decode_counted*'` counts it and nothing else.
#[inline(never)]
fn decode_counted(format: PayloadFormat, body: &Bytes) {
    black_box(payload::decode(&format, body.clone(), &Budget::default()).expect("there is a decoder"));
}

fn row(name: &str, format: PayloadFormat, make: fn(u64) -> Vec<u8>, peer: Peer, peer_name: &str) {
    let (body, longer) = (Bytes::from(make(EVENTS)), Bytes::from(make(8 * EVENTS)));
    let fields = decode(format, &body);
    let (mut own_speeds, mut peer_speeds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        own_speeds.push(speed(body.len(), || _ = black_box(decode(format, black_box(&body)))));
        peer_speeds.push(speed(body.len(), || peer(black_box(&body))));
    }
    let (own_speed, peer_speed) = (median(&mut own_speeds), median(&mut peer_speeds));
    let own = taken(|| decode(format, &body)).1.count;
    let own_longer = taken(|| decode(format, &longer)).1.count;
    let theirs = taken(|| peer(&body)).1.count;
    println!(
        "| {name} | {} | {fields} | {own_speed:.2} ({:.2}–{:.2}) | {peer_name} | {peer_speed:.2} | {:.1} | {own} | {own_longer} | {theirs} |",
        body.len(),
        own_speeds[0],
        own_speeds[ROUNDS - 1],
        own_speed / peer_speed,
    );
}

/// GB/s of one core over one window.
fn speed(bytes: usize, mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < WINDOW {
        work();
        count += 1;
    }
    bytes as f64 * f64::from(count) / start.elapsed().as_secs_f64() / 1e9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
