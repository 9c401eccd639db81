//! The pure walk: a captured request in, what to forward and what to record out. No socket, no clock, no disk, so
//! that it is tested, fuzzed and measured as a function. `scan` and the proxy call the same one.
//!
//! Each step consumes the last: `Classified` becomes `Decoded`, then `Scanned`, then `Decided`.

mod capture;
mod credential;
mod head;
mod names;
mod news;
mod stream;
mod walk;

use bytes::Bytes;

use crate::{
    destination::{Catalogue, Events},
    encoding,
    model::{
        Authority, AuthorityPattern, CapturedRequest, Destination, DestinationKind, FingerprintKey, FlowId,
        FlowKind, FlowOpening, NotInspected, RequestHead,
    },
    payload,
    policy::Policy,
    rules::RuleSet,
};

pub use capture::Capture;
pub use news::Known;
use walk::Classified;

/// What to send on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what was decided must be carried out"]
pub enum Forward {
    /// The client's own bytes.
    Original,
    /// Nothing: the request is answered here.
    Refused,
    /// These bytes instead of the client's body.
    Rewritten(Bytes),
}

/// What an inspection came to.
#[derive(Debug)]
pub struct Inspection {
    /// The record, to be made durable before anything is sent on.
    pub opening: FlowOpening,
    /// What to send on then.
    pub forward: Forward,
}

/// What bounds an inspection and what it keeps.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How much of a payload the record keeps.
    pub capture: Capture,
    /// Bounds of the decoded size.
    pub decoding: encoding::Limits,
    /// Bounds of nesting.
    pub budget: payload::Budget,
}

/// Everything that an inspection needs to know: catalogue, rules, policy and a key for fingerprints.
#[derive(Debug)]
pub struct Inspector {
    catalogue: Catalogue,
    intercepted: Vec<AuthorityPattern>,
    rules: RuleSet,
    policy: Policy,
    key: FingerprintKey,
    options: Options,
    known: Known,
}

impl Inspector {
    /// Puts the parts together. `intercepted` adds to the hosts that the catalogue decrypts by itself.
    pub fn new(
        catalogue: Catalogue,
        intercepted: Vec<AuthorityPattern>,
        rules: RuleSet,
        policy: Policy,
        key: FingerprintKey,
        options: Options,
    ) -> Self {
        let known = Known::new(Events::embedded(), []);
        Self { catalogue, intercepted, rules, policy, key, options, known }
    }

    /// Says what is no news, instead of the built-in names alone.
    #[must_use]
    pub fn with_known(self, known: Known) -> Self {
        Self { known, ..self }
    }

    /// What is no news.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The rules in force.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The destinations that are known.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Whether connections to `authority` are decrypted.
    pub fn intercepts(&self, authority: &Authority) -> bool {
        self.intercepted.iter().any(|pattern| pattern.matches(authority))
            || self.catalogue.intercepts(authority)
    }

    /// Says whom a request is for.
    ///
    /// Cleartext to a third party that nobody asked to look at is none of our business, though it could be read.
    pub fn classify(&self, head: &RequestHead) -> Destination {
        let mut destination = self.catalogue.classify(head);
        if destination.kind == DestinationKind::ThirdParty {
            destination.inspected = self.intercepts(&head.authority);
        }
        destination
    }

    /// Walks one request from bytes to decision. `time_ms` is when its head arrived, since 1970.
    pub fn inspect(&self, request: CapturedRequest, destination: Destination, time_ms: i64) -> Inspection {
        Classified::new(self, request, destination, time_ms).decode().scan().decide().finish()
    }

    /// The record of a request whose body is not looked at: the conversation, or (with a reason) what was refused or
    /// broke before it could be.
    pub fn observe(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        let reason = reason.or(match destination.kind {
            _ if destination.inspected => None,
            DestinationKind::Conversation => Some(NotInspected::Conversation),
            _ => Some(NotInspected::NotIntercepted),
        });
        let seen = head::Head::target_of(self, &destination.id, head);
        let opening = walk::opening(id, head, &seen, destination, time_ms, reason);
        FlowOpening { news: self.known.in_request(head, destination, None, &[]), ..opening }
    }

    /// The record of a tunnel, or of a connection on which no request could be read. There is no authority when the
    /// client named none.
    pub fn tunnel(
        &self,
        id: FlowId,
        authority: Option<&Authority>,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> FlowOpening {
        let Some(authority) = authority else {
            let blank = walk::blank_opening(id);
            return FlowOpening { time_ms, kind: FlowKind::Tunnel, not_inspected: reason, ..blank };
        };
        let destination = self.catalogue.classify_host(authority);
        let news = self.known.in_tunnel(authority, &destination);
        FlowOpening {
            id,
            time_ms,
            kind: FlowKind::Tunnel,
            destination: destination.id,
            destination_kind: destination.kind,
            method: "CONNECT".into(),
            scheme: "".into(),
            authority: authority.to_string().into(),
            path: "".into(),
            version: "".into(),
            not_inspected: reason,
            news,
            ..walk::blank_opening(id)
        }
    }
}

#[cfg(test)]
mod head_tests;
#[cfg(test)]
mod tests;
