//! Inspection that can be exchanged while the proxy runs: what is under way keeps what it began with.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    inspect::Inspector,
    model::{Authority, CapturedRequest, Destination, FlowId, FlowOpening, NotInspected, RequestHead},
    proxy::services::{Inspected, Inspection},
};

/// The inspector in force.
#[derive(Debug)]
pub struct LiveInspector {
    current: RwLock<Arc<Inspector>>,
}

impl LiveInspector {
    /// Begins with `inspector`.
    pub fn new(inspector: Inspector) -> Self {
        Self { current: RwLock::new(Arc::new(inspector)) }
    }

    /// The one in force. Costs a lock that is only ever held for a pointer.
    pub fn current(&self) -> Arc<Inspector> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one in force, for every request that is looked at from now on.
    pub fn exchange(&self, inspector: Inspector) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(inspector);
    }
}

impl Inspection for LiveInspector {
    fn intercepts(&self, authority: &Authority) -> bool {
        self.current().intercepts(authority)
    }

    fn classify(&self, head: &RequestHead) -> Destination {
        self.current().classify(head)
    }

    fn inspect(&self, request: CapturedRequest, destination: Destination, time_ms: i64) -> Inspected {
        Inspection::inspect(&*self.current(), request, destination, time_ms)
    }

    fn uninspected(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        Inspection::uninspected(&*self.current(), id, head, destination, time_ms, reason)
    }

    fn fails_closed(&self, destination: &Destination) -> bool {
        Inspection::fails_closed(&*self.current(), destination)
    }

    fn failed(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> Inspected {
        Inspection::failed(&*self.current(), id, head, destination, time_ms, reason)
    }

    fn tunnel(
        &self,
        id: FlowId,
        authority: Option<&Authority>,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        Inspection::tunnel(&*self.current(), id, authority, time_ms, reason)
    }
}
