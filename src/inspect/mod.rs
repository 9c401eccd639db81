//! The pure walk: a captured request in, what to forward and what to record out. No socket, no clock, no disk, so
//! that it is tested, fuzzed and measured as a function. `scan` and the proxy call the same one.
//!
//! Each step consumes the last: `Classified` becomes `Decoded`, then `Scanned`, then `Decided`.

mod answer;
mod capture;
mod credential;
mod head;
mod names;
mod news;
mod proof;
mod rewrite;
mod stream;
mod walk;

use std::sync::Arc;

use crate::{
    destination::{Catalogue, Events},
    encoding,
    model::{
        Action, Answer, Authority, AuthorityPattern, CapturedRequest, Decision, Destination, DestinationKind,
        FingerprintKey, FlowId, FlowKind, FlowOpening, LocalAnswer, NotInspected, RequestHead,
        RewrittenRequest,
    },
    payload,
    policy::{Fail, Policy, Question},
    redaction::Redactor,
    rules::RuleSet,
};

pub use capture::Capture;
pub use news::Known;
pub use proof::prove_redaction;
use walk::Classified;

/// What to send on.
#[allow(clippy::large_enum_variant, reason = "there is one a request, and it is moved once")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what was decided must be carried out"]
pub enum Forward {
    /// The client's own bytes.
    Original,
    /// Nothing: the request is answered here, with this.
    Refused(LocalAnswer),
    /// This instead of what the client sent.
    Rewritten(RewrittenRequest),
}

/// What an inspection came to.
#[derive(Debug)]
pub struct Inspection {
    /// The record, to be made durable before anything is sent on.
    pub opening: FlowOpening,
    /// What to send on then.
    pub forward: Forward,
    /// What went wrong on our side, for people; never payload text.
    pub error: Option<String>,
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
    catalogue: Arc<Catalogue>,
    intercepted: Arc<[AuthorityPattern]>,
    rules: Arc<RuleSet>,
    policy: Policy,
    key: FingerprintKey,
    options: Options,
    known: Arc<Known>,
    redactor: Redactor,
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
        let known = Arc::new(Known::new(Events::embedded(), []));
        let redactor = Redactor::new(&key);
        let (catalogue, intercepted) = (Arc::new(catalogue), intercepted.into());
        Self { catalogue, intercepted, rules: Arc::new(rules), policy, key, options, known, redactor }
    }

    /// Says what is no news, instead of the built-in names alone.
    #[must_use]
    pub fn with_known(self, known: Known) -> Self {
        Self { known: Arc::new(known), ..self }
    }

    /// The same with another policy, and other rules if there are any.
    #[must_use]
    pub fn changed(&self, policy: Policy, rules: Option<RuleSet>) -> Self {
        Self {
            policy,
            rules: rules.map_or_else(|| Arc::clone(&self.rules), Arc::new),
            catalogue: Arc::clone(&self.catalogue),
            intercepted: Arc::clone(&self.intercepted),
            key: self.key.clone(),
            options: self.options.clone(),
            known: Arc::clone(&self.known),
            redactor: self.redactor.clone(),
        }
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

    /// What becomes of a request when its inspection broke (for `reason`), or when it cannot be recorded.
    pub fn fail(
        &self,
        id: FlowId,
        head: &RequestHead,
        destination: &Destination,
        time_ms: i64,
        reason: Option<NotInspected>,
    ) -> Inspection {
        let opening = self.observe(id, head, destination, time_ms, reason);
        let policy_row = format!("fail.{}", destination.kind).into();
        match self.policy.on_failure(destination.kind) {
            Fail::Open => {
                let opening = FlowOpening { policy_row, ..opening };
                Inspection { opening, forward: Forward::Original, error: None }
            }
            Fail::Closed => {
                let (given, answer) =
                    answer::answer(self.policy.failure_answer(), destination, head, None, answer::BY_FAILURE);
                let answered = Some(given);
                Inspection {
                    opening: FlowOpening { action: Action::Block, policy_row, answered, ..opening },
                    forward: Forward::Refused(answer),
                    error: None,
                }
            }
        }
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
        let passes = reason.map(|reason| self.passes(destination, &head.authority, head.path(), reason));
        let seen = head::Head::target_of(self, &destination.id, head);
        let opening = walk::opening(id, head, &seen, destination, time_ms, reason);
        let news = self.known.in_request(head, destination, None, &[]);
        let opening = FlowOpening { news, policy_hash: self.policy.hash_shared(), ..opening };
        decided(opening, passes.flatten())
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
        let passes = reason.and_then(|reason| self.passes(&destination, authority, "", reason));
        let opening = FlowOpening {
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
            policy_hash: self.policy.hash_shared(),
            not_inspected: reason,
            news,
            ..walk::blank_opening(id)
        };
        decided(opening, passes)
    }

    /// What policy says of bytes that are about to pass through unread; `None` if that is not for it to say.
    fn passes(
        &self,
        destination: &Destination,
        authority: &Authority,
        path: &str,
        reason: NotInspected,
    ) -> Option<Decision> {
        if !matches!(reason, NotInspected::NotIntercepted | NotInspected::UnknownProtocol) {
            return None;
        }
        let not_inspected = Some(reason);
        let asked =
            Question { destination, authority, path, findings: &[], not_inspected, unknown_fields: false };
        Some(self.policy.decide(asked))
    }
}

/// The record of something that passes unread, or does not: it cannot be answered as a service would.
fn decided(opening: FlowOpening, decision: Option<Decision>) -> FlowOpening {
    let Some(decision) = decision else { return opening };
    let policy_row = decision.row.into();
    match decision.action {
        Action::Allow | Action::Redact => FlowOpening { policy_row, ..opening },
        Action::Block => {
            FlowOpening { action: Action::Block, answered: Some(Answer::Reject), policy_row, ..opening }
        }
    }
}

#[cfg(test)]
mod head_tests;
#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod tests;
