use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::sign::CertifiedKey;

use crate::{
    ca::{CaError, CertificateAuthority, authority::Leaf},
    model::Host,
};

/// Leaves that were signed already, a bounded number of them; the least recently used goes first.
#[derive(Debug)]
pub struct LeafCache {
    ca: Arc<CertificateAuthority>,
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_host: HashMap<Host, Entry>,
    /// Counts uses: the clock of "recently".
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    /// Held while minting, so that others who want the same host wait instead of minting too.
    slot: Arc<Mutex<Option<Leaf>>>,
    last_used: u64,
}

impl LeafCache {
    /// Makes an empty cache that holds at most `capacity` leaves (at least one).
    ///
    /// A leaf takes about two kilobytes. Finding the one to drop is a scan, a matter of microseconds for
    /// thousands, next to the signature that causes it.
    pub fn new(ca: Arc<CertificateAuthority>, capacity: usize) -> Self {
        Self { ca, capacity: capacity.max(1), entries: Mutex::default() }
    }

    /// The CA that signs.
    pub const fn ca(&self) -> &Arc<CertificateAuthority> {
        &self.ca
    }

    /// The leaf for `host`, from the cache or freshly signed.
    ///
    /// # Errors
    /// As [`CertificateAuthority::leaf`]; a refused host takes no place in the cache.
    pub fn get(&self, host: &Host, now: SystemTime) -> Result<Arc<CertifiedKey>, CaError> {
        if !self.ca.scope().permits(host) {
            return Err(CaError::OutsideScope(host.to_string()));
        }
        let slot = self.slot(host);
        let mut leaf = lock(&slot);
        if let Some(leaf) = leaf.as_ref().filter(|leaf| self.is_fresh(leaf, now)) {
            return Ok(Arc::clone(&leaf.certified));
        }
        let minted = self.ca.mint(host, now)?;
        let certified = Arc::clone(&minted.certified);
        *leaf = Some(minted);
        Ok(certified)
    }

    fn slot(&self, host: &Host) -> Arc<Mutex<Option<Leaf>>> {
        let mut entries = lock(&self.entries);
        entries.uses += 1;
        let now = entries.uses;
        if let Some(entry) = entries.by_host.get_mut(host) {
            entry.last_used = now;
            return Arc::clone(&entry.slot);
        }
        if entries.by_host.len() >= self.capacity {
            let oldest = entries.by_host.iter().min_by_key(|(_, entry)| entry.last_used);
            if let Some(host) = oldest.map(|(host, _)| host.clone()) {
                entries.by_host.remove(&host);
            }
        }
        let slot = Arc::default();
        entries.by_host.insert(host.clone(), Entry { slot: Arc::clone(&slot), last_used: now });
        slot
    }

    /// Whether the leaf will outlive a connection made now. A leaf that ends with the CA is as good as any.
    fn is_fresh(&self, leaf: &Leaf, now: SystemTime) -> bool {
        let margin = if leaf.not_after < self.ca.not_after() { RENEWED_BEFORE_END } else { Duration::ZERO };
        leaf.not_before <= now && now + margin < leaf.not_after
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// What the locks guard stays whole even if a thread dies with one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A leaf is replaced a day before its end, so that a client whose clock runs ahead is served, too.
const RENEWED_BEFORE_END: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{ca::Scope, model::Authority};

    const DAY: Duration = Duration::from_hours(24);

    fn cache(capacity: usize, ca_lifetime: Duration) -> (LeafCache, SystemTime) {
        let now = SystemTime::now();
        let scope = Scope { names: vec!["example.com".into()], ..Scope::default() };
        let ca = CertificateAuthority::generate(scope, now, ca_lifetime).unwrap();
        (LeafCache::new(Arc::new(ca), capacity), now)
    }

    fn host(text: &str) -> Host {
        Authority::parse(text, Some(443)).unwrap().host().clone()
    }

    #[test]
    fn a_leaf_is_signed_once() {
        let (cache, now) = cache(8, 30 * DAY);

        let first = cache.get(&host("a.example.com"), now).unwrap();
        let again = cache.get(&host("a.example.com"), now + DAY).unwrap();
        let other = cache.get(&host("b.example.com"), now).unwrap();

        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn a_leaf_is_dropped_before_it_expires() {
        // PITFALLS 9
        let (cache, now) = cache(8, 30 * DAY);
        let first = cache.get(&host("a.example.com"), now).unwrap();

        let shortly_before_the_end = cache.get(&host("a.example.com"), now + 6 * DAY - DAY / 2).unwrap();

        assert!(!Arc::ptr_eq(&first, &shortly_before_the_end));
    }

    #[test]
    fn a_leaf_that_ends_with_the_ca_is_kept_and_then_refused() {
        let (cache, now) = cache(8, DAY / 2);

        let first = cache.get(&host("a.example.com"), now).unwrap();
        let again = cache.get(&host("a.example.com"), now + DAY / 4).unwrap();
        let after = cache.get(&host("a.example.com"), now + DAY);

        assert!(Arc::ptr_eq(&first, &again));
        assert!(matches!(after, Err(CaError::Expired)));
    }

    #[test]
    fn the_cache_is_bounded_and_drops_the_least_recently_used() {
        let (cache, now) = cache(2, 30 * DAY);
        let a = cache.get(&host("a.example.com"), now).unwrap();
        let b = cache.get(&host("b.example.com"), now).unwrap();
        cache.get(&host("a.example.com"), now).unwrap();

        cache.get(&host("c.example.com"), now).unwrap();

        assert_eq!(lock(&cache.entries).by_host.len(), 2);
        assert!(Arc::ptr_eq(&a, &cache.get(&host("a.example.com"), now).unwrap()));
        assert!(!Arc::ptr_eq(&b, &cache.get(&host("b.example.com"), now).unwrap()));
    }

    #[test]
    fn a_refused_host_takes_no_place() {
        let (cache, now) = cache(2, 30 * DAY);

        let refused = cache.get(&host("example.org"), now);

        assert!(matches!(refused, Err(CaError::OutsideScope(host)) if host == "example.org"));
        assert!(lock(&cache.entries).by_host.is_empty());
    }

    #[test]
    fn many_who_want_one_host_at_once_get_one_leaf() {
        let (cache, now) = cache(8, 30 * DAY);
        let start = std::sync::Barrier::new(8);

        let leaves: Vec<_> = thread::scope(|scope| {
            let get = || {
                start.wait();
                cache.get(&host("a.example.com"), now).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(get)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
    }
}
