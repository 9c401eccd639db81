//! The fuzzer: one program for all targets, of which `FUZZ_TARGET` names one. `tests/fuzz/run` builds and drives it.

#![no_main]

mod document;
mod packets;
mod request;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use targets::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
        match TARGETS.iter().find(|(name, _)| *name == wanted) {
            Some((_, target)) => _ = TARGET.set(*target),
            None => {
                for (name, _) in TARGETS {
                    println!("{name}");
                }
                std::process::exit(i32::from(wanted != "list"));
            }
        }
    },
    |input: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(input);
        }
    }
);
