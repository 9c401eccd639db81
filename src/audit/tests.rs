//! The store as a whole: writing, failing, dying, reading back.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    audit::{
        AuditError, AuditWriter, ChainHash, ChainHead, Filter, Options, Order, Reader, RunWriter, Store,
        Sync, Verification,
    },
    model::{
        Action, CapturedField, Confidence, DestinationId, DestinationKind, FieldPath, Finding,
        FingerprintKey, FlowClosing, FlowId, FlowKind, FlowOpening, NotInspected, Outcome, RuleId,
        RunClosing, RunOpening, Severity, Watch,
    },
};

pub(super) fn run_opening() -> RunOpening {
    RunOpening {
        time_ms: 1_000,
        mode: "run".into(),
        program: Some("claude".into()),
        version: "0.1.0".into(),
        policy_hash: "00".into(),
        rules_hash: "11".into(),
        watch: Some(Watch::Watched),
    }
}

pub(super) fn opening(id: FlowId) -> FlowOpening {
    FlowOpening {
        id,
        time_ms: 1_700_000_000_000 + i64::from(id.number()),
        kind: FlowKind::Request,
        destination: DestinationId::new("first-party-events"),
        destination_kind: DestinationKind::Telemetry,
        method: "POST".into(),
        scheme: "https".into(),
        authority: "api.example:443".into(),
        path: "/api/event_logging/v2/batch".into(),
        version: "HTTP/1.1".into(),
        user_agent: Some("client/2".into()),
        session: None,
        request_bytes: 2048,
        action: Action::Allow,
        answered: None,
        policy_row: "default".into(),
        policy_hash: None,
        not_inspected: None,
        format: Some("first-party-events".into()),
        credentials: Vec::new(),
        findings: Vec::new(),
        fields: Vec::new().into(),
        fields_left_out: 0,
        body: None,
        news: Vec::new(),
        rewriting: None,
    }
}

pub(super) fn finding(rule: &str, category: &str) -> Finding {
    Finding {
        rule: RuleId::new(rule),
        category: category.into(),
        severity: Severity::High,
        confidence: Confidence::Certain,
        path: FieldPath::from_raw("json:user/email"),
        span: 10..22,
        length: 12,
        fingerprint: FingerprintKey::new(&[1; 32]).fingerprint(b"value"),
        preview: "b***@e***.example".into(),
    }
}

pub(super) fn closing(outcome: Outcome) -> FlowClosing {
    FlowClosing {
        outcome,
        status: Some(200),
        request_bytes: 2048,
        response_bytes: 17,
        duration_ms: 5,
        error: None,
        not_inspected: None,
    }
}

pub(super) fn begin(folder: &Path) -> RunWriter {
    Store::open(folder, Options::default()).unwrap().begin_run(&run_opening()).unwrap()
}

pub(super) fn finish(run: RunWriter) -> ChainHead {
    run.finish(RunClosing { time_ms: 2_000, exit_code: Some(0) }).unwrap()
}

/// Checks the chain of the store in `folder`.
pub(super) fn verify(folder: &Path, heads: &[ChainHash]) -> Verification {
    Reader::open(folder).unwrap().verify(heads, &mut |_, _| {}).unwrap()
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Bytes that do not compress.
fn noise(count: usize) -> bytes::Bytes {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).unwrap();
    bytes.into()
}

/// Writes one flow, changed by `change`, and closes it.
pub(super) fn write(writer: &AuditWriter, outcome: Outcome, change: impl FnOnce(&mut FlowOpening)) -> FlowId {
    let mut opening = opening(writer.next_id());
    change(&mut opening);
    let id = opening.id;
    wait(writer.open(opening)).unwrap().close(closing(outcome));
    id
}

fn ids(reader: &Reader, filter: &Filter) -> Vec<u32> {
    reader.flows(filter).unwrap().iter().map(|flow| flow.opening.id.number()).collect()
}

#[test]
fn the_head_of_the_chain_is_that_of_the_last_record() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    assert_eq!(Reader::open(folder.path()).unwrap().head().unwrap(), None);

    let head = finish(store.begin_run(&run_opening()).unwrap());

    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.head().unwrap(), Some(head));
    let _open = store.begin_run(&run_opening()).unwrap();
    assert_ne!(reader.head().unwrap(), Some(head));
}

#[test]
fn a_flow_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let mut written = opening(writer.next_id());
    written.findings = vec![finding("account.email", "pii.contact"); 20];
    written.fields = vec![CapturedField { path: "json:a".into(), value: "b***".into() }].into();
    written.fields_left_out = 3;
    written.body = Some(bytes::Bytes::from_static(b"\x28\xb5\x2f\xfd not really zstd"));
    written.news = vec!["path".into()];
    written.not_inspected = Some(NotInspected::FormatBroken);
    written.session = Some(FingerprintKey::new(&[1; 32]).fingerprint(b"session"));
    let expected = written.clone();

    let closed = FlowClosing {
        error: Some("broken pipe".into()),
        not_inspected: Some(NotInspected::Upgraded),
        ..closing(Outcome::UpstreamFailed)
    };
    wait(writer.open(written)).unwrap().close(closed.clone());
    let run_id = run.id();
    finish(run);

    let reader = Reader::open(folder.path()).unwrap();
    let found = reader.flow(expected.id).unwrap().unwrap();
    let json = |value: &FlowOpening| serde_json::to_value(value).unwrap();
    assert_eq!(json(&found.opening), json(&expected));
    assert_eq!(found.opening.id, expected.id);
    assert_eq!(found.opening.body, expected.body);
    let found_closing = serde_json::to_value(found.closing.unwrap()).unwrap();
    assert_eq!(found_closing, serde_json::to_value(closed).unwrap());
    let run = reader.run(run_id).unwrap().unwrap();
    assert_eq!(run.opening.program.as_deref(), Some("claude"));
    assert_eq!(run.opening.watch, Some(Watch::Watched));
    assert_eq!(run.closing.unwrap().exit_code, Some(0));
    assert_eq!(reader.runs().unwrap().len(), 1);
}

#[test]
fn an_opening_is_in_the_store_when_open_returns() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let id = writer.next_id();

    let flow = wait(writer.open(opening(id))).unwrap();

    let reader = Reader::open(folder.path()).unwrap();
    assert!(reader.flow(id).unwrap().unwrap().closing.is_none());
    flow.close(closing(Outcome::Forwarded));
    finish(run);
}

#[test]
fn a_closing_is_written_soon_though_nothing_comes_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let id = write(&run.writer(), Outcome::Forwarded, |_| {});
    let reader = Reader::open(folder.path()).unwrap();

    let deadline = Instant::now() + Duration::from_secs(10);
    while reader.flow(id).unwrap().unwrap().closing.is_none() {
        assert!(Instant::now() < deadline, "the closing was never written");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_dropped_flow_is_closed_as_gone() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let (waited, unwaited) = (writer.next_id(), writer.next_id());

    drop(wait(writer.open(opening(waited))).unwrap());
    drop(writer.open_unwaited(opening(unwaited)));
    finish(run);

    let reader = Reader::open(folder.path()).unwrap();
    for id in [waited, unwaited] {
        let closing = reader.flow(id).unwrap().unwrap().closing.unwrap();
        assert_eq!(closing.outcome, Outcome::ClientGone);
    }
}

#[test]
fn an_open_that_nobody_waits_for_any_more_is_closed_as_gone() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let id = writer.next_id();

    wait(async {
        let mut open = std::pin::pin!(writer.open(opening(id)));
        // Polled once, so that the record is on its way, and then given up.
        std::future::poll_fn(|context| {
            let _ = open.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    });
    finish(run);

    let record = Reader::open(folder.path()).unwrap().flow(id).unwrap().unwrap();
    assert_eq!(record.closing.unwrap().outcome, Outcome::ClientGone);
}

#[test]
fn every_filter_finds_its_flows_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let session = FingerprintKey::new(&[1; 32]).fingerprint(b"session");
    write(&writer, Outcome::Forwarded, |_| {});
    write(&writer, Outcome::Refused, |flow| flow.action = Action::Block);
    write(&writer, Outcome::Forwarded, |flow| flow.session = Some(session));
    write(&writer, Outcome::Forwarded, |flow| {
        flow.findings = vec![finding("account.email", "pii.contact"), finding("net.ipv4", "pii.network")];
    });
    write(&writer, Outcome::Tunneled, |flow| {
        flow.destination = DestinationId::new("unknown");
        flow.authority = "Registry.example:443".into();
        flow.path = "".into();
    });
    write(&writer, Outcome::Forwarded, |flow| flow.findings = vec![finding("secret.jwt", "secret.token")]);
    let first = run.id();
    finish(run);
    let other = begin(folder.path());
    let second = other.id();
    write(&other.writer(), Outcome::Forwarded, |flow| flow.time_ms += 1_000);
    finish(other);

    let reader = Reader::open(folder.path()).unwrap();
    let base = 1_700_000_000_000;
    let of = |filter: Filter| ids(&reader, &filter);
    let all = Filter::default;
    assert_eq!(of(all()), [1, 6, 5, 4, 3, 2, 1]);
    assert_eq!(of(Filter { order: Order::OldestFirst, limit: Some(2), ..all() }), [1, 2]);
    assert_eq!(of(Filter { run: Some(first), limit: Some(2), ..all() }), [6, 5]);
    assert_eq!(of(Filter { run: Some(second), ..all() }), [1]);
    assert_eq!(of(Filter { action: Some(Action::Block), ..all() }), [2]);
    assert_eq!(of(Filter { action: Some(Action::Allow), run: Some(first), ..all() }), [6, 5, 4, 3, 1]);
    assert_eq!(of(Filter { outcome: Some(Outcome::Refused), ..all() }), [2]);
    assert_eq!(of(Filter { outcome: Some(Outcome::Forwarded), limit: Some(2), ..all() }), [1, 6]);
    assert_eq!(of(Filter { session: Some(session), ..all() }), [3]);
    assert_eq!(of(Filter { rule: Some(RuleId::new("net.ipv4")), ..all() }), [4]);
    assert_eq!(of(Filter { rule: Some(RuleId::new("no.such")), ..all() }), [0; 0]);
    assert_eq!(of(Filter { category: Some("pii".into()), ..all() }), [4]);
    assert_eq!(of(Filter { category: Some("secret.token".into()), ..all() }), [6]);
    let both = (Some(RuleId::new("net.ipv4")), Some("pii.contact".into()));
    assert_eq!(of(Filter { rule: both.0, category: both.1, ..all() }), [4]);
    assert_eq!(of(Filter { destination: Some(DestinationId::new("unknown")), ..all() }), [5]);
    assert_eq!(of(Filter { destination: Some(DestinationId::new("nobody")), ..all() }), [0; 0]);
    assert_eq!(of(Filter { since_ms: Some(base + 5), ..all() }), [1, 6, 5]);
    assert_eq!(of(Filter { until_ms: Some(base + 3), ..all() }), [2, 1]);
    assert_eq!(of(Filter { since_ms: Some(base + 5), run: Some(first), ..all() }), [6, 5]);
    assert_eq!(of(Filter { text: Some("registry.EXAMPLE".into()), ..all() }), [5]);
    assert_eq!(of(Filter { text: Some("example:443/api".into()), limit: Some(3), ..all() }), [1, 6, 4]);
    assert_eq!(of(Filter { text: Some("nowhere".into()), limit: Some(3), ..all() }), [0; 0]);
    let text_and_rule = (Some("batch".into()), Some(RuleId::new("net.ipv4")));
    assert_eq!(of(Filter { text: text_and_rule.0, rule: text_and_rule.1, limit: Some(9), ..all() }), [4]);
    assert_eq!(of(Filter { text: Some("batch".into()), run: Some(first), limit: Some(2), ..all() }), [6, 4]);
}

#[test]
fn flows_are_listed_without_their_payload() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    write(&run.writer(), Outcome::Forwarded, |flow| {
        flow.fields = vec![CapturedField { path: "json:a".into(), value: "1".into() }].into();
    });
    finish(run);

    let flows = Reader::open(folder.path()).unwrap().flows(&Filter::default()).unwrap();

    assert!(flows[0].opening.fields.is_empty());
}

#[test]
fn a_full_disk_refuses_quickly_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let big = |id| {
        let mut opening = opening(id);
        opening.body = Some(noise(60_000));
        opening
    };
    run.queue().execute("PRAGMA max_page_count = 60");
    let mut refused = None;
    for _ in 0..20 {
        match wait(writer.open(big(writer.next_id()))) {
            Ok(flow) => flow.close(closing(Outcome::Forwarded)),
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused, Some(AuditError::DiskFull));
    // Fill what small gaps are left, so that what nobody waits for cannot be written either.
    run.queue().execute("PRAGMA max_page_count = 1");
    for _ in 0..500 {
        writer.open_unwaited(opening(writer.next_id())).close(closing(Outcome::Forwarded));
    }
    let start = Instant::now();
    let late = writer.next_id();
    assert!(matches!(wait(writer.open(big(late))), Err(AuditError::DiskFull)));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    run.queue().execute("PRAGMA max_page_count = 1000000");
    let id = writer.next_id();
    wait(writer.open(big(id))).unwrap().close(closing(Outcome::Forwarded));
    assert_eq!(writer.lost(), 0);
    finish(run);

    let reader = Reader::open(folder.path()).unwrap();
    assert!(reader.flow(id).unwrap().is_some());
    assert!(reader.flow(late).unwrap().is_none());
    let backlog = reader.flows(&Filter::default()).unwrap();
    let closed = backlog.iter().filter(|flow| flow.opening.id.number() > 20 && flow.closing.is_some());
    assert_eq!(closed.count(), 501);
    let chain = verify(folder.path(), &[]);
    assert!(chain.holds(), "{:?}", chain.faults);
}

#[test]
fn a_store_that_was_deleted_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    std::fs::remove_file(folder.path().join("audit.db")).unwrap();

    let error = wait(writer.open(opening(writer.next_id()))).unwrap_err();

    assert!(matches!(error, AuditError::Gone(_)), "{error}");
    assert!(run.finish(RunClosing { time_ms: 1, exit_code: None }).is_err());
}

#[test]
fn a_record_that_is_there_already_does_not_harm_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let (one, other) = (writer.next_id(), writer.next_id());

    let results = wait(async {
        let twice = writer.open(opening(one)).await.unwrap();
        twice.close(closing(Outcome::Forwarded));
        tokio::join!(writer.open(opening(other)), writer.open(opening(one)))
    });

    results.0.unwrap().close(closing(Outcome::Forwarded));
    assert!(matches!(results.1, Err(AuditError::Rejected(_))));
    finish(run);
    let flows = Reader::open(folder.path()).unwrap().flows(&Filter::default()).unwrap();
    assert!(flows.iter().all(|flow| flow.closing.as_ref().unwrap().outcome == Outcome::Forwarded));
    assert_eq!(flows.len(), 2);
    assert!(verify(folder.path(), &[]).holds());
}

#[test]
fn what_nobody_waits_for_is_kept_small() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = run.writer();
    let mut large = opening(writer.next_id());
    large.path = "/é".repeat(100_000).into();
    large.fields = vec![CapturedField { path: "json:a".into(), value: "1".into() }].into();
    let id = large.id;

    writer.open_unwaited(large).close(closing(Outcome::Forwarded));
    finish(run);

    let record = Reader::open(folder.path()).unwrap().flow(id).unwrap().unwrap();
    assert!((1000..=1024).contains(&record.opening.path.len()));
    assert_eq!(record.opening.fields_left_out, 1);
}

#[test]
fn several_writers_share_a_store() {
    let folder = tempfile::tempdir().unwrap();

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let run = begin(folder.path());
                let writer = run.writer();
                for _ in 0..50 {
                    write(&writer, Outcome::Forwarded, |_| {});
                }
                finish(run);
            });
        }
    });

    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.runs().unwrap().len(), 4);
    assert_eq!(reader.flows(&Filter::default()).unwrap().len(), 200);
    let chain = verify(folder.path(), &[]);
    assert!(chain.holds(), "{:?}", chain.faults);
    assert_eq!((chain.links, chain.flows, chain.runs), (4 * 2 + 200 * 2, 200, 4));
}

#[test]
fn waiting_openings_are_bounded_in_memory_and_all_get_through() {
    let folder = tempfile::tempdir().unwrap();
    let run = begin(folder.path());
    let writer = Arc::new(run.writer());

    let count = wait(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let writer = Arc::clone(&writer);
            tasks.spawn(async move {
                let mut opening = opening(writer.next_id());
                opening.body = Some(noise(5_000_000));
                writer.open(opening).await.unwrap().close(closing(Outcome::Forwarded));
            });
        }
        tasks.join_all().await.len()
    });
    finish(run);

    assert_eq!(count, 24);
    assert_eq!(Reader::open(folder.path()).unwrap().flows(&Filter::default()).unwrap().len(), 24);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    finish(begin(folder.path()));
    let database = folder.path().join("audit.db");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();

    let write = Store::open(folder.path(), Options { sync: Sync::Full }).unwrap_err();
    let read = Reader::open(folder.path()).unwrap_err();

    assert!(matches!(write, AuditError::NewerSchema { found: 99, .. }), "{write}");
    assert!(matches!(read, AuditError::NewerSchema { found: 99, .. }), "{read}");
}

#[test]
fn an_older_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    finish(begin(folder.path()));
    let database = folder.path().join("audit.db");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 2).unwrap();

    let write = Store::open(folder.path(), Options::default()).unwrap_err();
    let read = Reader::open(folder.path()).unwrap_err();

    assert!(matches!(write, AuditError::OlderSchema { found: 2, .. }), "{write}");
    assert!(matches!(read, AuditError::OlderSchema { found: 2, .. }), "{read}");
}

#[test]
fn a_folder_without_a_store_says_so() {
    let folder = tempfile::tempdir().unwrap();

    for path in [folder.path().to_owned(), folder.path().join("nowhere")] {
        assert!(matches!(Reader::open(&path), Err(AuditError::NoStore(_))));
    }
}

#[test]
fn something_that_is_no_database_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    finish(begin(folder.path()));
    std::fs::write(folder.path().join("audit.db"), "this is no database".repeat(100)).unwrap();

    let error = Store::open(folder.path(), Options::default()).unwrap_err();

    assert!(matches!(error, AuditError::Damaged(_)), "{error}");
}

// PITFALLS 31
#[cfg(unix)]
#[test]
fn everything_in_the_folder_is_private_while_it_is_in_use() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data");
    let run = begin(&folder);
    write(&run.writer(), Outcome::Forwarded, |_| {});

    let modes: Vec<(String, u32)> = std::fs::read_dir(&folder)
        .unwrap()
        .map(Result::unwrap)
        .map(|entry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.file_name().to_string_lossy().into_owned(), mode)
        })
        .collect();

    assert!(modes.iter().any(|(name, _)| name == "audit.db-wal"), "{modes:?}");
    assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
    finish(run);
}

/// The variable by which this test binary, started again, knows that it is the victim.
const VICTIM: &str = "PLAINSIGHT_TEST_AUDIT_VICTIM";

/// Writes flows to the folder in [`VICTIM`] and says which are committed, until it is killed.
#[test]
fn victim_of_a_kill() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let run = begin(Path::new(&folder));
    let writer = run.writer();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for _ in 0..16 {
        let writer = writer.clone();
        runtime.spawn(async move {
            loop {
                let id = writer.next_id();
                writer.open_unwaited(opening(writer.next_id())).close(closing(Outcome::Tunneled));
                let flow = writer.open(opening(id)).await.unwrap();
                let line = format!("committed {id}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                flow.close(closing(Outcome::Forwarded));
            }
        });
    }
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_kill_loses_nothing_that_was_committed() {
    let folder = tempfile::tempdir().unwrap();

    for round in 0..3 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::tests::victim_of_a_kill", "--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut committed: Vec<FlowId> = Vec::new();
        let mut read = |line: String| {
            if let Some(id) = line.split("committed ").nth(1) {
                committed.push(id.parse().unwrap());
            }
        };
        (0..200 + round * 333).for_each(|_| read(lines.next().unwrap().unwrap()));
        // SIGKILL, in the middle of whatever it is doing.
        victim.kill().unwrap();
        lines.map_while(Result::ok).filter(|line| line.contains('-')).for_each(&mut read);
        victim.wait().unwrap();

        let reader = Reader::open(folder.path()).unwrap();
        assert!(committed.len() > 150);
        for id in &committed {
            assert!(reader.flow(*id).unwrap().is_some(), "{id} was reported and is gone");
        }
        assert!(reader.runs().unwrap().iter().all(|run| run.closing.is_none()));
        let chain = verify(folder.path(), &[]);
        assert!(chain.holds(), "{:?}", chain.faults);
        assert!(chain.flows >= committed.len() as u64);
    }

    let run = begin(folder.path());
    assert_eq!(run.id().get(), 4);
    finish(run);
}
