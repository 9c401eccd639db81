//! Builds the namespace. Two processes take part: plainsight itself, which waits at a [`Handover`], and the launcher,
//! which is plainsight executed anew (a process with threads cannot move into a user namespace). The launcher unshares,
//! makes the devices and listeners, hands them over, and becomes the program: same process id, same terminal, same
//! place in the process group, so that signals and the exit code need nobody's help.

mod error;
mod handover;
mod inside;
mod mounts;
mod netlink;

pub use error::ConfineError;
pub use handover::{Devices, Handover, Namespace};
pub use inside::{LauncherArguments, launch};
