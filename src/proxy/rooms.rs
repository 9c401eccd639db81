//! The rest of the house as the proxy's services: the rooms beneath, each behind the trait that it serves.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use rustls::sign::CertifiedKey;

use crate::{
    audit::{AuditWriter, OpenFlow},
    ca::LeafCache,
    inspect::{self, Inspector},
    model::{
        Authority, CapturedRequest, Destination, FlowClosing, FlowId, FlowOpening, Host, NotInspected,
        RequestHead,
    },
    proxy::services::{
        Audit, AuditUnavailable, Entry, Forward, Inspected, Inspection, LeafError, Leaves, Opened, Refusal,
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
        let inspection = Self::inspect(self, request, destination, time_ms);
        let forward = match inspection.forward {
            inspect::Forward::Original => Forward::Original,
            inspect::Forward::Refused => Forward::Refused(refusal()),
            inspect::Forward::Rewritten(body) => Forward::Rewritten(body),
        };
        Inspected { opening: inspection.opening, forward }
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

/// What a client gets when policy lets nothing out.
fn refusal() -> Refusal {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Refusal {
        status: StatusCode::FORBIDDEN,
        headers,
        body: Bytes::from_static(
            br#"{"error":{"type":"permission_error","message":"refused by local policy"}}"#,
        ),
        trailers: None,
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

impl Leaves for LeafCache {
    fn certificate(&self, host: &Host) -> Result<Arc<CertifiedKey>, LeafError> {
        self.get(host, SystemTime::now())
            .map_err(|error| LeafError { host: host.clone(), source: Box::new(error) })
    }
}
