//! Confinement: a program whose only way out is plainsight. Holds the two halves that need no proxy: the pure walk of
//! one IP packet, and the launcher that builds the namespace. Opens no connection and writes no record itself.
//!
//! How it works (`docs/CONFINE.md` says it for people): the program runs in a network namespace of its own, in which
//! every route leads to a TUN device that plainsight holds. TCP is turned around there: a packet to any address goes
//! back into the namespace, to a listener whose other end is in our process, so that the kernel's own TCP does the
//! work (windows, half-close, resets) and an accepted connection is an ordinary socket. [`Router`] does the turning,
//! answers DNS, and refuses everything else. What is dialled, intercepted and recorded is the proxy's business.

mod dns;
#[cfg(target_os = "linux")]
mod launch;
mod names;
mod packet;
mod plan;
mod router;
#[cfg(test)]
mod testing;

pub use dns::answer as answer_dns;
#[cfg(target_os = "linux")]
pub use launch::{ConfineError, Devices, Handover, LauncherArguments, Namespace, launch};
pub use names::Names;
pub use plan::{AddressPlan, LARGEST_PACKET_BYTES};
pub use router::{Attempt, Router, Target, Transport, Verdict};
