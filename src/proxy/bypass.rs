//! Records connections that went around the proxy.

use crate::{
    bypass::Sighting,
    model::{Authority, FlowKind, Host, NotInspected, Outcome},
    proxy::{flow::Start, listener::Entrance},
};

impl Entrance {
    /// Records a connection that went around the proxy.
    pub fn record_bypass(&self, sighting: &Sighting) {
        let start = Start::now();
        let services = &self.engine.services;
        let authority = Authority::new(Host::Ip(sighting.remote.ip()), sighting.remote.port());
        let id = services.audit.next_id();
        let mut opening = services.inspection.tunnel(
            id,
            Some(&authority),
            start.time_ms,
            Some(NotInspected::NotIntercepted),
        );
        opening.kind = FlowKind::Bypass;
        opening.method = sighting.transport.into();
        let program = format!("{} ({})", sighting.program, sighting.process);
        opening.user_agent = Some(program.as_str().into());
        let error = format!("{program} went around the proxy");
        self.engine.record(opening, start).finish(Outcome::Bypassed, Some(error));
    }
}
