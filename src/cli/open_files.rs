//! How many files this process may have open. Each connection takes two, and many systems begin with 256 or 1024.

/// Raises the limit as far as the system lets a process do it by itself. What is started later inherits that, so `run`
/// starts its program first.
#[cfg(unix)]
pub(super) fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, ..limit };
    // macOS promises more than it gives to one process.
    let modest = Rlimit { current: Some(MODEST.max(limit.current.unwrap_or(0))), ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised).or_else(|_| setrlimit(Resource::Nofile, modest)) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// There is no such limit elsewhere.
#[cfg(not(unix))]
pub(super) fn raise_limit() {}

/// What macOS gives to a process at most, when it says that there is no limit.
#[cfg(unix)]
const MODEST: u64 = 10_240;
