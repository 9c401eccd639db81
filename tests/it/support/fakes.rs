use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use plainsight::{
    model::{
        Action, Authority, CapturedBody, CapturedRequest, Destination, DestinationId, DestinationKind,
        FlowClosing, FlowId, FlowKind, FlowOpening, LocalAnswer, NotInspected, RequestHead, RunId,
    },
    proxy::{Audit, AuditUnavailable, Entry, Forward, Inspected, Inspection, Opened},
};

/// Intercepts every host but those that end in `.tunnel` and link-local addresses; inspects paths that begin with `/telemetry`
/// or `/settings`.
#[derive(Default)]
pub struct FakeInspection {
    pub captured: Mutex<Vec<CapturedRequest>>,
    pub forward: Mutex<Option<Forward>>,
}

impl Inspection for FakeInspection {
    fn intercepts(&self, authority: &Authority) -> bool {
        let host = authority.host().to_string();
        !host.ends_with(".tunnel") && !host.starts_with("169.254.")
    }

    fn classify(&self, head: &RequestHead) -> Destination {
        let kind = match head.path() {
            path if path.starts_with("/telemetry") => DestinationKind::Telemetry,
            path if path.starts_with("/settings") => DestinationKind::Settings,
            _ => DestinationKind::Conversation,
        };
        let inspected = kind != DestinationKind::Conversation;
        Destination { id: DestinationId::new(kind.as_str()), kind, inspected }
    }

    fn inspect(&self, request: CapturedRequest, destination: Destination, time_ms: i64) -> Inspected {
        assert!(!request.head.path().ends_with("/panic"), "a rule failed");
        let reason = matches!(request.body, CapturedBody::OverLimit(_)).then_some(NotInspected::BodyTooLarge);
        let opening = self.uninspected(request.id, &request.head, &destination, time_ms, reason);
        let is_slow = request.head.path().ends_with("/slow");
        self.captured.lock().unwrap().push(request);
        if is_slow {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let forward = self.forward.lock().unwrap().clone().unwrap_or(Forward::Original);
        Inspected { opening, forward, error: None }
    }

    fn uninspected(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        FlowOpening {
            method: head.method.as_str().into(),
            scheme: head.scheme.as_str().into(),
            path: head.target.as_str().into(),
            kind: FlowKind::Request,
            destination: destination.id.clone(),
            destination_kind: destination.kind,
            ..self.tunnel(id, Some(&head.authority), time_ms, reason)
        }
    }

    fn fails_closed(&self, destination: &Destination) -> bool {
        destination.kind.fails_closed()
    }

    fn failed(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> Inspected {
        let opening = self.uninspected(id, head, destination, time_ms, reason);
        let answer = LocalAnswer {
            status: http::StatusCode::FORBIDDEN,
            headers: http::HeaderMap::new(),
            body: "failed".into(),
            trailers: None,
        };
        let closed = self.fails_closed(destination);
        let forward = if closed { Forward::Refused(answer) } else { Forward::Original };
        Inspected { opening, forward, error: None }
    }

    fn tunnel(
        &self,
        id: FlowId,
        authority: Option<&Authority>,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        FlowOpening {
            id,
            time_ms,
            kind: FlowKind::Tunnel,
            destination: DestinationId::new("third-party"),
            destination_kind: DestinationKind::ThirdParty,
            method: "CONNECT".into(),
            scheme: "".into(),
            authority: authority.map(ToString::to_string).unwrap_or_default().into(),
            path: "".into(),
            version: "HTTP/1.1".into(),
            user_agent: None,
            session: None,
            request_bytes: 0,
            action: Action::Allow,
            answered: None,
            policy_row: "default".into(),
            policy_hash: None,
            not_inspected: reason,
            format: None,
            credentials: Vec::new(),
            findings: Vec::new(),
            fields: Vec::new().into(),
            fields_left_out: 0,
            body: None,
            news: Vec::new(),
            rewriting: None,
        }
    }
}

/// A record, and how often it was closed.
#[derive(Clone, Debug)]
pub struct Record {
    pub opening: FlowOpening,
    pub closings: Vec<FlowClosing>,
    pub durable: bool,
}

impl Record {
    /// The one closing.
    pub fn closing(&self) -> &FlowClosing {
        assert_eq!(self.closings.len(), 1, "a record is closed exactly once: {self:?}");
        &self.closings[0]
    }
}

/// Keeps records in memory.
#[derive(Default)]
pub struct FakeAudit {
    records: Arc<Mutex<Vec<Record>>>,
    numbers: AtomicU32,
    pub unavailable: AtomicBool,
}

impl FakeAudit {
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// The records once there are `count` and all are closed.
    pub async fn closed(&self, count: usize) -> Vec<Record> {
        for _ in 0..2000 {
            let records = self.records();
            if records.len() >= count && records.iter().all(|record| !record.closings.is_empty()) {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("no {count} closed records: {:#?}", self.records());
    }

    fn add(&self, opening: FlowOpening, durable: bool) -> Box<dyn Entry> {
        let mut records = self.records.lock().unwrap();
        records.push(Record { opening, closings: Vec::new(), durable });
        Box::new(FakeEntry { records: Arc::clone(&self.records), index: records.len() - 1 })
    }
}

impl Audit for FakeAudit {
    fn next_id(&self) -> FlowId {
        FlowId::new(RunId::new(1).unwrap(), self.numbers.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn open(&self, opening: FlowOpening) -> Opened {
        if self.unavailable.load(Ordering::Relaxed) {
            return Box::pin(ready(Err(AuditUnavailable("the disk is full".to_owned()))));
        }
        Box::pin(ready(Ok(self.add(opening, true))))
    }

    fn open_unwaited(&self, opening: FlowOpening) -> Box<dyn Entry> {
        self.add(opening, false)
    }
}

struct FakeEntry {
    records: Arc<Mutex<Vec<Record>>>,
    index: usize,
}

impl Entry for FakeEntry {
    fn close(self: Box<Self>, closing: FlowClosing) {
        self.records.lock().unwrap()[self.index].closings.push(closing);
    }
}
