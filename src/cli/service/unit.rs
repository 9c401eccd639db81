//! What a service manager is told, as text.

use std::fmt::Write as _;

/// A unit of systemd that runs `command` for a user. Every setting that a sandboxed proxy can live with is on.
pub(super) fn systemd(command: &[String]) -> String {
    let command: Vec<String> = command.iter().map(|word| systemd_quoted(word)).collect();
    format!(
        "[Unit]\n\
         Description=plainsight: a local proxy that audits telemetry\n\
         After=network.target\n\
         \n\
         [Service]\n\
         ExecStart={}\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         # SIGTERM drains what is under way and closes the records.\n\
         TimeoutStopSec=20\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        command.join(" ")
    )
}

/// A launch agent of macOS that runs `command` for a user and writes what it says to `log`.
pub(super) fn launchd(command: &[String], log: &str) -> String {
    let mut arguments = String::new();
    for word in command {
        let _ = writeln!(arguments, "    <string>{}</string>", xml_escaped(word));
    }
    let log = xml_escaped(log);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n\
         <dict>\n\
         \x20 <key>Label</key>\n\
         \x20 <string>{LABEL}</string>\n\
         \x20 <key>ProgramArguments</key>\n\
         \x20 <array>\n\
         {arguments}\
         \x20 </array>\n\
         \x20 <key>RunAtLoad</key>\n\
         \x20 <true/>\n\
         \x20 <key>KeepAlive</key>\n\
         \x20 <dict>\n\
         \x20   <key>SuccessfulExit</key>\n\
         \x20   <false/>\n\
         \x20 </dict>\n\
         \x20 <key>ThrottleInterval</key>\n\
         \x20 <integer>2</integer>\n\
         \x20 <key>Umask</key>\n\
         \x20 <integer>63</integer>\n\
         \x20 <key>StandardOutPath</key>\n\
         \x20 <string>{log}</string>\n\
         \x20 <key>StandardErrorPath</key>\n\
         \x20 <string>{log}</string>\n\
         </dict>\n\
         </plist>\n"
    )
}

/// What launchd calls it.
pub(super) const LABEL: &str = "plainsight.proxy";

/// One word of `ExecStart`: quotes, and nothing of it is a specifier or a variable.
fn systemd_quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@[]*".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '\\' | '"' => quoted.extend(['\\', character]),
            '%' | '$' => quoted.extend([character, character]),
            '\n' => quoted.push_str("\\n"),
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn xml_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_systemd_unit_starts_at_login_and_again_after_a_failure() {
        let unit = systemd(&command(&["/usr/bin/plainsight", "proxy", "--listen", "127.0.0.1:8788"]));

        for line in [
            "ExecStart=/usr/bin/plainsight proxy --listen 127.0.0.1:8788",
            "Restart=on-failure",
            "WantedBy=default.target",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line} is not in {unit}");
        }
    }

    #[test]
    fn words_of_a_command_stay_words() {
        let unit = systemd(&command(&["/opt/my tools/plainsight", "--data-dir", "/d/100%/\"$HOME\"\\", ""]));

        let line = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(line, r#"ExecStart="/opt/my tools/plainsight" --data-dir "/d/100%%/\"$$HOME\"\\" """#);
    }

    #[test]
    fn the_launch_agent_is_started_again_after_a_failure_and_its_words_are_escaped() {
        let agent = launchd(&command(&["/bin/plainsight", "a<b&c"]), "/Users/jo/Library/Logs/plainsight.log");

        assert!(
            agent.contains("    <string>/bin/plainsight</string>\n    <string>a&lt;b&amp;c</string>\n"),
            "{agent}"
        );
        assert!(agent.contains("<key>SuccessfulExit</key>\n    <false/>"), "{agent}");
        assert!(agent.contains("<string>/Users/jo/Library/Logs/plainsight.log</string>"), "{agent}");
        assert!(!agent.lines().any(|line| line.starts_with("   ") && !line.starts_with("    ")), "{agent}");
    }
}
