use tempfile::TempDir;

use super::*;
use crate::{
    audit::{AuditWriter, Options, RunWriter, Store},
    model::{
        Action, CapturedFields, DestinationId, DestinationKind, FlowClosing, FlowId, FlowKind, FlowOpening,
        Outcome, RunClosing, RunOpening,
    },
};

const NOW_MS: i64 = 1_800_000_000_000;

struct House {
    folder: TempDir,
    store: Store,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        Self { folder, store }
    }

    fn run(&self) -> RunWriter {
        let opening = RunOpening {
            watch: None,
            time_ms: NOW_MS,
            mode: "run".into(),
            program: None,
            version: "1".into(),
            policy_hash: "".into(),
            rules_hash: "".into(),
        };
        self.store.begin_run(&opening).unwrap()
    }

    /// Everything that there is at `now_ms`, in batches of `limit`.
    fn take(&self, cursor: &mut Cursor, limit: usize, now_ms: i64) -> Vec<String> {
        let reader = Reader::open(self.folder.path()).unwrap();
        let mut taken = Vec::new();
        loop {
            let (batch, after) = cursor.next(&reader, limit, now_ms).unwrap();
            assert!(batch.len() <= limit);
            *cursor = serde_json::from_str(&serde_json::to_string(&after).unwrap()).unwrap();
            if batch.is_empty() {
                return taken;
            }
            taken.extend(batch.iter().map(|flow| flow.opening.id.to_string()));
        }
    }
}

async fn open(writer: &AuditWriter, id: FlowId) -> crate::audit::OpenFlow {
    let opening = FlowOpening {
        id,
        time_ms: NOW_MS,
        kind: FlowKind::Request,
        destination: DestinationId::new("otlp"),
        destination_kind: DestinationKind::Telemetry,
        method: "POST".into(),
        scheme: "https".into(),
        authority: "c.example:443".into(),
        path: "/v1/logs".into(),
        version: "HTTP/1.1".into(),
        user_agent: None,
        session: None,
        request_bytes: 0,
        action: Action::Allow,
        policy_row: "default".into(),
        policy_hash: None,
        rewriting: None,
        answered: None,
        not_inspected: None,
        format: None,
        credentials: Vec::new(),
        findings: Vec::new(),
        fields: CapturedFields::default(),
        fields_left_out: 0,
        body: None,
        news: Vec::new(),
    };
    writer.open(opening).await.unwrap()
}

fn closing() -> FlowClosing {
    FlowClosing {
        outcome: Outcome::Forwarded,
        status: Some(200),
        request_bytes: 0,
        response_bytes: 0,
        duration_ms: 1,
        error: None,
        not_inspected: None,
    }
}

/// Closings are written some time soon: until the run's end they all are.
fn end(run: RunWriter) {
    run.finish(RunClosing { time_ms: NOW_MS, exit_code: None }).unwrap();
}

#[tokio::test]
async fn each_flow_comes_once_however_small_the_batches() {
    let house = House::new();
    let run = house.run();
    let writer = run.writer();
    for _ in 0..7 {
        open(&writer, writer.next_id()).await.close(closing());
    }
    end(run);
    for limit in [1, 3, 7, 100] {
        let mut cursor = Cursor::default();

        let first = house.take(&mut cursor, limit, NOW_MS);
        let again = house.take(&mut cursor, limit, NOW_MS);

        assert_eq!(first, (1..=7).map(|number| format!("1-{number}")).collect::<Vec<_>>(), "limit {limit}");
        assert!(again.is_empty());
    }
}

#[tokio::test]
async fn a_number_that_is_written_late_and_a_flow_that_ends_late_are_not_passed_over() {
    let house = House::new();
    let (run, other) = (house.run(), house.run());
    let writer = run.writer();
    let (late, open_first, closed) = (writer.next_id(), writer.next_id(), writer.next_id());
    let still_open = open(&writer, open_first).await;
    open(&writer, closed).await.close(closing());
    let elsewhere = other.writer();
    open(&elsewhere, elsewhere.next_id()).await.close(closing());
    end(other);
    let mut cursor = Cursor::default();
    // What closes is written by and by; the second run's end has waited for its own only.
    let mut first = Vec::new();
    while first.len() < 2 {
        first.extend(house.take(&mut cursor, 10, NOW_MS));
    }

    open(&writer, late).await.close(closing());
    still_open.close(closing());
    end(run);
    let mut second = house.take(&mut cursor, 10, NOW_MS);
    second.sort();

    first.sort();
    assert_eq!(first, ["1-3", "2-1"]);
    assert_eq!(second, ["1-1", "1-2"]);
    assert!(house.take(&mut cursor, 10, NOW_MS).is_empty());
}

#[tokio::test]
async fn runs_that_are_over_need_no_entry() {
    let house = House::new();
    for _ in 0..3 {
        let run = house.run();
        let writer = run.writer();
        open(&writer, writer.next_id()).await.close(closing());
        // A number that is given out and never used.
        writer.next_id();
        open(&writer, writer.next_id()).await.close(closing());
        end(run);
    }
    let mut cursor = Cursor::default();

    let taken = house.take(&mut cursor, 10, NOW_MS);
    let left = house.take(&mut cursor, 10, NOW_MS + GRACE_MS + 1);

    assert_eq!((taken.len(), left.len()), (6, 0));
    assert_eq!(cursor, Cursor { before: 4, runs: BTreeMap::new() });
}

#[tokio::test]
async fn a_flow_of_a_run_that_was_killed_comes_after_a_day() {
    let house = House::new();
    let run = house.run();
    let writer = run.writer();
    let flow = open(&writer, writer.next_id()).await;
    let mut cursor = Cursor::default();

    let at_once = house.take(&mut cursor, 10, NOW_MS);
    let next_day = house.take(&mut cursor, 10, NOW_MS + OPEN_MS + 1);

    assert!(at_once.is_empty());
    assert_eq!(next_day, ["1-1"]);
    drop(flow);
}
