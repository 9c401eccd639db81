//! How many files plainsight may have open, and the program that it runs. Read from `/proc`.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::support::product::{Product, text};

const FEW: &str = "64";

/// Starts the program with few open files, which it could raise by itself.
fn with_few_files(product: &Product, arguments: &[&str]) -> Command {
    let whole = product.command(arguments);
    let mut command = Command::new("sh");
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", product.path("")).stdin(Stdio::null());
    command.arg("-c").arg(format!("ulimit -Sn {FEW}; exec \"$@\"")).arg("sh");
    command.arg(whole.get_program()).args(whole.get_args());
    command
}

/// The soft and the hard limit, as a line of `/proc/PID/limits` has them.
fn limits(line: &str) -> (&str, &str) {
    let mut words = line.strip_prefix("Max open files").unwrap().split_whitespace();
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn a_proxy_may_open_as_many_files_as_the_system_lets_it() {
    let product = Product::new();
    let mut proxy = with_few_files(&product, &["proxy", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(proxy.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listens = said.any(|line| line.starts_with("listening on"));
    let all = fs::read_to_string(format!("/proc/{}/limits", proxy.id())).unwrap_or_default();
    proxy.kill().unwrap();
    proxy.wait().unwrap();

    assert!(listens);
    let (soft, hard) = limits(all.lines().find(|line| line.starts_with("Max open files")).unwrap());
    assert_eq!(soft, hard);
    assert_ne!(soft, FEW, "the machine allows no more than that at all");
}

#[test]
fn a_program_that_is_run_has_the_limit_that_it_would_have_had() {
    let product = Product::new();
    // Ours is raised once the program is started, which is seen a moment later at most.
    let script = "ulimit -Sn; for i in 1 2 3 4 5 6 7 8 9 10; do \
        line=$(grep 'Max open files' /proc/$PPID/limits); case $line in *' 64 '*) sleep 0.2;; *) break;; esac; done; \
        echo \"$line\"";

    let output = with_few_files(&product, &["run", "--quiet", "--", "sh", "-c", script]).output().unwrap();

    let stdout = text(&output.stdout);
    let (own, of_plainsight) = stdout.split_once('\n').unwrap_or_else(|| panic!("{}", text(&output.stderr)));
    assert_eq!(own, FEW);
    let (soft, hard) = limits(of_plainsight);
    assert_eq!(soft, hard);
}
