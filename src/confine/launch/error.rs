use std::{fs, io};

/// The namespace could not be built. Nothing has been run then: there is no falling back to less.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The two halves did not find each other.
    #[error("--confine: {doing}: {source}")]
    Handover {
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The launcher says why it could not go on.
    #[error("--confine: {0}")]
    Launcher(String),
    /// The program itself cannot be run.
    #[error("{program} cannot be run: {reason}")]
    Program {
        /// The program.
        program: String,
        /// What the system says.
        reason: String,
    },
}

impl ConfineError {
    pub(super) fn handover(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Handover { doing, source }
    }
}

/// What to do when the kernel does not give a user namespace, by what it says and how it is set.
pub(super) fn advise_namespaces(error: &io::Error) -> String {
    let switch = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let advice = if switch("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        "user namespaces are switched off here; allow them with `sysctl user.max_user_namespaces=15000`"
    } else if switch("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        "user namespaces are for root only here; allow them with `sysctl kernel.unprivileged_userns_clone=1`"
    } else if switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        "AppArmor restricts user namespaces here; give plainsight a profile with `userns,`, or allow them with \
         `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    } else {
        "a container or its seccomp profile may forbid it; run plainsight outside of the container, or allow \
         `unshare` in it"
    };
    format!("the kernel refuses a user and network namespace ({error}): {advice}")
}

/// What to do when there is no TUN device.
pub(super) fn advise_tun(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => {
            "load the module with `modprobe tun`; in a container pass the device on with `--device /dev/net/tun`"
        }
        io::ErrorKind::PermissionDenied => "allow it with `chmod 666 /dev/net/tun`, as most systems have it",
        _ => "the kernel may lack CONFIG_TUN; `modprobe tun` says",
    };
    format!("no network device can be made from /dev/net/tun ({error}): {advice}")
}
