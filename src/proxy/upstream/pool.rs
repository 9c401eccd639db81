//! Upstream connections kept for the next request: bounded in number, per authority and in all, and in idle time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::client::conn::{http1, http2};

use crate::{
    model::Authority,
    proxy::{
        body::{Progress, RequestBody},
        config::Limits,
        upstream::{Protocol, Route, Wire},
    },
};

/// A connection that takes requests.
pub(crate) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// Many at once; clones share the connection.
    Http2(http2::SendRequest<RequestBody>),
}

/// Idle connections.
pub(crate) struct Pool {
    state: Mutex<State>,
    per_authority: usize,
    total: usize,
    time: Duration,
}

#[derive(Default)]
struct State {
    slots: HashMap<Key, Slot>,
    choices: HashMap<Authority, Protocol>,
    /// Connections in all slots.
    count: usize,
}

/// What makes connections interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    authority: Authority,
    wire: Wire,
    protocol: Protocol,
}

#[derive(Default)]
struct Slot {
    /// The most recently used is last.
    idle: Vec<Idle>,
    dialling: Arc<tokio::sync::Mutex<()>>,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            state: Mutex::default(),
            per_authority: limits.idle_per_authority,
            total: limits.idle_total,
            time: limits.idle_time,
        }
    }

    /// A live connection, if one is idle. Shared ones stay in the pool.
    pub(crate) async fn take(&self, route: &Route) -> Option<Sender> {
        loop {
            match self.pop(route)? {
                Sender::Http1(mut sender) => {
                    // It was given back as its answer ended; readiness may be an instant away.
                    if sender.is_ready() || sender.ready().await.is_ok() {
                        return Some(Sender::Http1(sender));
                    }
                }
                shared @ Sender::Http2(_) => return Some(shared),
            }
        }
    }

    fn pop(&self, route: &Route) -> Option<Sender> {
        let mut state = self.state();
        let State { slots, count, .. } = &mut *state;
        let slot = slots.get_mut(&key(route))?;
        while let Some(last) = slot.idle.last_mut() {
            match &mut last.sender {
                Sender::Http2(sender) if !sender.is_closed() => {
                    last.since = Instant::now();
                    return Some(Sender::Http2(sender.clone()));
                }
                sender => {
                    let closed = is_closed(sender);
                    let idle = slot.idle.pop()?;
                    *count -= 1;
                    if !closed {
                        return Some(idle.sender);
                    }
                }
            }
        }
        None
    }

    /// Keeps a connection; the oldest ones go when there are too many.
    pub(crate) fn put(&self, route: &Route, sender: Sender) {
        let mut state = self.state();
        let State { slots, count, .. } = &mut *state;
        let slot = slots.entry(key(route)).or_default();
        let most = if route.protocol == Protocol::Http2 { 1 } else { self.per_authority };
        if slot.idle.len() >= most {
            slot.idle.remove(0);
            *count -= 1;
        }
        slot.idle.push(Idle { sender, since: Instant::now() });
        *count += 1;
        if *count > self.total {
            drop_oldest(slots);
            *count -= 1;
        }
    }

    /// Drops shared connections that refused a request.
    pub(crate) fn forget(&self, route: &Route) {
        if route.protocol == Protocol::Http2 {
            let mut state = self.state();
            let State { slots, count, .. } = &mut *state;
            if let Some(slot) = slots.get_mut(&key(route)) {
                *count -= slot.idle.len();
                slot.idle.clear();
            }
        }
    }

    /// Held while someone opens a shared connection.
    pub(crate) fn dialling(&self, route: &Route) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.state().slots.entry(key(route)).or_default().dialling)
    }

    /// Whether there is a TLS connection to `authority`.
    pub(crate) fn has_live(&self, authority: &Authority) -> bool {
        self.has_live_for(authority, Protocol::Http1) || self.has_live_for(authority, Protocol::Http2)
    }

    /// Whether there is a TLS connection to `authority` that speaks `protocol`.
    pub(crate) fn has_live_for(&self, authority: &Authority, protocol: Protocol) -> bool {
        let key = Key { authority: authority.clone(), wire: Wire::Tls, protocol };
        let state = self.state();
        state.slots.get(&key).is_some_and(|slot| slot.idle.iter().any(|idle| !is_closed(&idle.sender)))
    }

    /// What `authority` chose when it could choose.
    pub(crate) fn choice(&self, authority: &Authority) -> Option<Protocol> {
        self.state().choices.get(authority).copied()
    }

    /// Notes what `authority` chose when it could choose.
    pub(crate) fn remember(&self, authority: &Authority, protocol: Protocol) {
        let mut state = self.state();
        if state.choices.len() >= MOST_CHOICES {
            state.choices.clear();
        }
        state.choices.insert(authority.clone(), protocol);
    }

    /// Drops what is closed or has been idle for too long.
    pub(crate) fn reap(&self) {
        self.retain(|idle, time| !is_closed(&idle.sender) && idle.since.elapsed() < time);
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.retain(|_, _| false);
    }

    fn retain(&self, keep: impl Fn(&Idle, Duration) -> bool) {
        let mut state = self.state();
        let State { slots, count, .. } = &mut *state;
        slots.retain(|_, slot| {
            slot.idle.retain(|idle| keep(idle, self.time));
            !slot.idle.is_empty() || Arc::strong_count(&slot.dialling) > 1
        });
        *count = slots.values().map(|slot| slot.idle.len()).sum();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection whose answer is still streaming, on its way back to the pool.
pub(crate) struct Return {
    sender: http1::SendRequest<RequestBody>,
    route: Arc<Route>,
    pool: Arc<Pool>,
    progress: Arc<Progress>,
}

impl Return {
    pub(crate) fn new(
        sender: http1::SendRequest<RequestBody>,
        route: &Arc<Route>,
        pool: &Arc<Pool>,
        progress: &Arc<Progress>,
    ) -> Self {
        Self { sender, route: Arc::clone(route), pool: Arc::clone(pool), progress: Arc::clone(progress) }
    }

    /// Gives the connection back once its answer is over. One whose request is not all sent is closed instead.
    pub(crate) fn give_back(self) {
        if self.progress.is_complete() && !self.sender.is_closed() {
            self.pool.put(&self.route, Sender::Http1(self.sender));
        }
    }
}

fn key(route: &Route) -> Key {
    Key { authority: route.authority.clone(), wire: route.wire, protocol: route.protocol }
}

fn is_closed(sender: &Sender) -> bool {
    match sender {
        Sender::Http1(sender) => sender.is_closed(),
        Sender::Http2(sender) => sender.is_closed(),
    }
}

/// A scan, but over as many as the pool may hold, and only when it is full.
fn drop_oldest(slots: &mut HashMap<Key, Slot>) {
    let oldest =
        slots.values_mut().filter(|slot| !slot.idle.is_empty()).min_by_key(|slot| slot.idle[0].since);
    if let Some(slot) = oldest {
        slot.idle.remove(0);
    }
}

/// Authorities whose choice of protocol is remembered. A client talks to a dozen or so.
const MOST_CHOICES: usize = 1024;
