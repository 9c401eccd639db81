//! The rest of the house as the proxy's services: the rooms beneath, each behind the trait that it serves.

use std::{sync::Arc, time::SystemTime};

use http::header::CONTENT_ENCODING;
use rustls::sign::CertifiedKey;

use crate::{
    audit::{AuditWriter, Fact, OpenFlow, Store},
    ca::LeafCache,
    claude::PlanUsage,
    encoding,
    inspect::{self, Inspector},
    model::{
        Authority, CapturedRequest, Destination, DestinationId, FlowClosing, FlowId, FlowOpening, Host,
        NotInspected, RequestHead,
    },
    policy::Fail,
    proxy::services::{
        Answer, Answers, Audit, AuditUnavailable, Entry, Forward, Inspected, Inspection, LeafError, Leaves,
        Opened,
    },
};

impl Inspection for Inspector {
    fn intercepts(&self, authority: &Authority) -> bool {
        Self::intercepts(self, authority)
    }

    fn classify(&self, head: &RequestHead) -> Destination {
        Self::classify(self, head)
    }

    fn inspect(&self, request: CapturedRequest, destination: Destination, time_ms: i64) -> Inspected {
        Self::inspect(self, request, destination, time_ms).into()
    }

    fn uninspected(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        self.observe(id, head, destination, time_ms, reason)
    }

    fn fails_closed(&self, destination: &Destination) -> bool {
        self.policy().on_failure(destination.kind) == Fail::Closed
    }

    fn failed(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> Inspected {
        Self::fail(self, id, head, destination, time_ms, reason).into()
    }

    fn tunnel(
        &self,
        id: FlowId,
        authority: Option<&Authority>,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        Self::tunnel(self, id, authority, time_ms, reason)
    }
}

impl From<inspect::Inspection> for Inspected {
    fn from(inspection: inspect::Inspection) -> Self {
        let forward = match inspection.forward {
            inspect::Forward::Original => Forward::Original,
            inspect::Forward::Refused(answer) => Forward::Refused(answer),
            inspect::Forward::Rewritten(request) => Forward::Rewritten(request),
        };
        Self { opening: inspection.opening, forward, error: inspection.error }
    }
}

impl Audit for AuditWriter {
    fn next_id(&self) -> FlowId {
        Self::next_id(self)
    }

    fn open(&self, opening: FlowOpening) -> Opened {
        let writer = self.clone();
        Box::pin(async move {
            match Self::open(&writer, opening).await {
                Ok(flow) => Ok(Box::new(flow) as Box<dyn Entry>),
                Err(error) => Err(AuditUnavailable(error.to_string())),
            }
        })
    }

    fn open_unwaited(&self, opening: FlowOpening) -> Box<dyn Entry> {
        Box::new(Self::open_unwaited(self, opening))
    }
}

impl Entry for OpenFlow {
    fn close(self: Box<Self>, closing: FlowClosing) {
        Self::close(*self, closing);
    }
}

/// How much of the plan is used up, as the service tells the client, becomes a fact.
impl Answers for Store {
    fn wants(&self, destination: &DestinationId) -> bool {
        destination.as_str() == USAGE_DESTINATION
    }

    fn learn(&self, answer: Answer) {
        let store = self.clone();
        // The store is on a disk: whoever waits for the answer does not wait for that.
        tokio::task::spawn_blocking(move || {
            let Some(usage) = plan_usage(&answer) else { return };
            let Ok(value) = serde_json::to_string(&usage) else { return };
            if let Err(error) = store.keep_fact(PLAN_USAGE, &Fact { time_ms: answer.time_ms, value }) {
                tracing::debug!(%error, "how much of the plan is used could not be kept");
            }
        });
    }
}

fn plan_usage(answer: &Answer) -> Option<PlanUsage> {
    let values = answer.headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let codings = encoding::codings(values).ok()?;
    let body = encoding::decode(&codings, &answer.body, &encoding::Limits::default()).ok()?;
    PlanUsage::parse(&body)
}

/// The catalogue's id of the question how much of a plan is used up.
const USAGE_DESTINATION: &str = "oauth-usage";

/// The name of the fact that says how much of a plan is used up: [`PlanUsage`] in JSON.
pub const PLAN_USAGE: &str = "plan-usage";

impl Leaves for LeafCache {
    fn certificate(&self, host: &Host) -> Result<Arc<CertifiedKey>, LeafError> {
        self.get(host, SystemTime::now())
            .map_err(|error| LeafError { host: host.clone(), source: Box::new(error) })
    }
}
