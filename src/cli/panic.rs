use std::panic::PanicHookInfo;

/// Says where a panic happened and not what it said: a message such as that of a slice out of bounds quotes the text, which
/// may be a payload.
pub(super) fn install_hook() {
    std::panic::set_hook(Box::new(|info| eprintln!("plainsight: {}", line(info))));
}

fn line(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    format!("a bug at {place} (thread `{}`); please report this line", thread.name().unwrap_or("unnamed"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The variable by which this test binary, started again, knows that it is to panic, with its value in the message.
    const VICTIM: &str = "PLAINSIGHT_TEST_PANIC_VICTIM";

    /// How the victim panics: as code of our own would, as a slice of a payload does, in a task that is joined.
    #[test]
    fn victim_of_a_panic() {
        let Ok(text) = std::env::var(VICTIM) else { return };
        let (how, value) = text.split_once(' ').unwrap();
        if how == "plain" {
            drop(std::panic::take_hook());
        } else {
            install_hook();
        }
        let inside = value.find('é').unwrap() + 1;
        let slice = std::panic::catch_unwind(|| value[inside..].len());
        assert!(slice.is_err());
        std::panic::panic_any(value.to_owned());
    }

    fn stderr_of(how: &str, value: &str) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::panic::tests::victim_of_a_panic", "--nocapture"])
            .env(VICTIM, format!("{how} {value}"))
            .env("RUST_BACKTRACE", "full")
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    // PITFALLS 33
    #[test]
    fn a_panic_names_its_place_and_quotes_nothing() {
        let value = "canary-é-value";
        // The probe sees it where nobody holds it back.
        assert!(stderr_of("plain", value).contains(value));

        let text = stderr_of("hooked", value);

        assert_eq!(text.matches("a bug at src/cli/panic.rs:").count(), 2, "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}
