//! What can be typed. Types only: no logic, no defaults that [`crate::config`] should decide.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::model::{Action, AuthorityPattern, ClientVersion, ConnectTo, FlowId, Outcome, RunId, Severity};

/// What your coding agent says about you, in plain sight.
///
/// A local proxy in front of Claude Code. It decrypts the telemetry and nothing else, decodes it, says which fields
/// are personal, and keeps a log that you can review.
#[derive(Debug, Parser)]
#[command(
    name = "plainsight",
    version,
    max_term_width = 100,
    after_help = "Start with `plainsight demo`: it needs no client and no account.\n\
        Then `plainsight run -- claude`, and afterwards `plainsight log` and `plainsight show ID`."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command; they stand before it or after it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Folder of the audit log and the stored CA [env: PLAINSIGHT_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [env: PLAINSIGHT_CONFIG]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Folder of rule files (*.toml) that add to the built-in ones, or replace those of the same pack name
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub rules: Option<PathBuf>,
    /// What may leave: observe, private, silent, locked, or a policy file; without one everything, and it is reported
    #[arg(long, global = true, value_name = "NAME|FILE", value_hint = ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
    /// PEM file of roots to trust upstream, besides the operating system's
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub upstream_ca: Option<PathBuf>,
    /// Connect to ADDR:PORT2 instead of HOST:PORT; as curl's, an empty HOST or PORT matches any (repeatable)
    #[arg(long, global = true, value_name = "HOST:PORT:ADDR:PORT2", value_parser = ConnectTo::parse)]
    pub connect_to: Vec<ConnectTo>,
    /// Decrypt this host too; globs such as `*.example.com` (repeatable)
    #[arg(long, global = true, value_name = "HOST[:PORT]", value_parser = AuthorityPattern::parse)]
    pub intercept: Vec<AuthorityPattern>,
    /// What the log keeps of payloads
    #[arg(long, global = true, value_enum, value_name = "HOW")]
    pub capture: Option<CaptureArg>,
    /// Colour: `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub color: ColorArg,
    /// Diagnostics on stderr: -v what happens, -vv in detail, -vvv everything (never payload text)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program behind the proxy, and say at the end who was told what
    Run(Run),
    /// See it work: recorded telemetry through the real engine, with no client, account or network
    Demo(Demo),
    /// The same proxy as a service in the foreground, on a fixed port with a stored CA
    Proxy(Proxy),
    /// List what was recorded
    Log(Log),
    /// Show one record: the decoded fields, with findings marked
    Show(Show),
    /// Hold what was promised against what was sent: verdicts with evidence
    Check(Check),
    /// Compare two runs: destinations, events, fields, categories that came or went
    Diff(Diff),
    /// Say what the client here is told, where a switch does not do what it looks like, and who would be seen
    Doctor(Doctor),
    /// The same decoders and rules over recordings and the client's own files, with no network
    Scan(Scan),
    /// Write down who received what, for a reviewer: one HTML file, Markdown or JSON
    Report(Report),
    /// List and explain the detection rules
    #[command(subcommand)]
    Rules(Rules),
    /// Print what a shell, a settings file or a container needs to use a running `proxy`
    Env(EnvCommand),
    /// Send audit records to where a team keeps its logs
    #[command(subcommand)]
    Export(Export),
    /// Run the proxy in the background, from login on
    #[command(subcommand)]
    Service(Service),
    /// How much of the plan is used up, from answers that passed by: one line for a status bar
    Usage(Usage),
    /// What may leave: list, show, check and explain policies
    #[command(subcommand)]
    Policy(Policy),
    /// The stored CA that `proxy` uses
    #[command(subcommand)]
    Ca(Ca),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff
    Man,
    /// What `run --confine` starts inside
    #[cfg(target_os = "linux")]
    #[command(name = "__confine", hide = true)]
    Launcher(Launcher),
}

/// Run a program behind the proxy, and say at the end who was told what.
///
/// The proxy listens on a free loopback port, with a CA made for this run whose key never leaves memory. The program
/// gets its terminal, its signals and its exit code as if it had been started without plainsight.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight run -- claude\n  plainsight run -- claude -p \"say hello\"\n  plainsight run --json run.json --intercept otel.example.com:4318 -- claude"
)]
pub struct Run {
    /// Print no screen at the end
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the summary to FILE as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
    /// Leave the program no other way out than plainsight, whatever it does with proxy variables (Linux)
    #[arg(long)]
    pub confine: bool,
    /// Let the confined program reach this port on the machine's loopback (repeatable)
    #[arg(long, value_name = "PORT", requires = "confine")]
    pub confine_loopback: Vec<u16>,
    /// Let the confined program reach this address by TCP without naming a host; globs such as `10.0.0.*:22`, and `*` for
    /// all (repeatable)
    #[arg(long, value_name = "ADDR[:PORT]", requires = "confine", value_parser = AuthorityPattern::parse)]
    pub confine_allow: Vec<AuthorityPattern>,
    /// Check at the end what was promised against what was sent; ends with that, if the program itself succeeded
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    pub options: CheckOptions,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM", value_hint = ValueHint::CommandWithArguments)]
    pub program: Vec<OsString>,
}

/// What `run --confine` starts inside.
#[cfg(target_os = "linux")]
#[derive(Args, Debug)]
pub struct Launcher {
    /// The private folder of the run
    pub folder: PathBuf,
    /// The proxy's port
    pub proxy_port: u16,
    /// Loopback ports, with commas between them; may be empty
    pub loopback_ports: String,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub program: Vec<OsString>,
}

/// See it work: recorded telemetry through the real engine, with no client, account or network.
///
/// Replays recordings of Claude Code (invented account) through CONNECT, TLS, HTTP/1.1 and HTTP/2 to a local origin,
/// and ends in the screen that `run` prints. Its records go into the same log, as a run of their own.
#[derive(Args, Debug)]
pub struct Demo {
    /// Write the summary to FILE as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
}

/// The same proxy as a service in the foreground, on a fixed port with a stored CA.
///
/// Prints `listening on http://ADDR:PORT` on stderr when it accepts. SIGINT and SIGTERM drain what is under way and
/// close the records; a second one ends at once.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight proxy\n  HTTPS_PROXY=http://127.0.0.1:8788 NODE_EXTRA_CA_CERTS=$(plainsight ca path) claude\n  plainsight proxy --otlp --otlp-endpoint https://collector.example:4318\n\nThe last one stands where a collector would: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318.\ndocs/OTLP.md has worked examples."
)]
pub struct Proxy {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8788]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Also listen as an OpenTelemetry collector does, and send on what passes inspection
    #[arg(long)]
    pub otlp: bool,
    /// Where what is received goes; KEY is one of `logs`, `metrics`, `traces`, `grpc`, `http`, and without one it is for
    /// everything (repeatable) [default: OTEL_EXPORTER_OTLP_*ENDPOINT]
    #[arg(long, value_name = "[KEY=]URL", requires = "otlp", value_hint = ValueHint::Url)]
    pub otlp_endpoint: Vec<String>,
    /// Address to receive OTLP over gRPC on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", requires = "otlp", default_value = "127.0.0.1:4317")]
    pub otlp_grpc: SocketAddr,
    /// Address to receive OTLP over HTTP on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", requires = "otlp", default_value = "127.0.0.1:4318")]
    pub otlp_http: SocketAddr,
    /// What the clients were told, for `check`: a switch (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub assume: Vec<String>,
    /// What the clients were told, for `check`: a settings file of theirs (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub assume_settings: Vec<PathBuf>,
}

/// Print what a shell, a settings file or a container needs to use a running `proxy`.
///
/// The same variables that `run` sets: the proxy in both cases, what stays on this machine, and for each runtime the
/// roots that it needs; what is set already is merged, not lost. The files that they name are written to the data folder.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  eval \"$(plainsight env)\"                       bash, zsh\n  plainsight env --format fish | source          fish\n  plainsight env --format settings               `env` for ~/.claude/settings.json: it also reaches background agents\n  plainsight env --format dockerfile >>Dockerfile  for `docker run --network host`"
)]
pub struct EnvCommand {
    /// What it is for
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: EnvFormat,
    /// Where the proxy listens [default: as for `proxy`]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Also send OpenTelemetry to the receiver of `proxy --otlp`
    #[arg(long)]
    pub otlp: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EnvFormat {
    /// `COPY` and `ENV` lines
    Dockerfile,
    /// fish
    Fish,
    /// One JSON object
    Json,
    /// PowerShell
    Powershell,
    /// A settings file of the client, with an `env` object
    Settings,
    /// bash, zsh and other POSIX shells
    #[default]
    Shell,
}

#[derive(Debug, Subcommand)]
pub enum Export {
    /// As OpenTelemetry logs, to any collector; continues where it stopped
    Otlp(ExportOtlp),
}

/// Send audit records as OpenTelemetry logs.
///
/// One log record a flow, with findings masked as they are stored; docs/EXPORT.md lists the attributes. The log remembers
/// how far each endpoint has come: what was accepted is not sent again, what was not is, also after Ctrl-C.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight export otlp --endpoint http://localhost:4318\n  plainsight export otlp --endpoint https://logs.example/insert/opentelemetry/v1/logs --header 'Authorization=Bearer …' --follow\n  plainsight export otlp --endpoint https://collector.example:4317 --protocol grpc"
)]
pub struct ExportOtlp {
    /// The collector; over HTTP `/v1/logs` is added unless the path ends so
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub endpoint: String,
    /// How it is sent
    #[arg(long, value_enum, value_name = "PROTOCOL", default_value_t)]
    pub protocol: ExportProtocol,
    /// A header field to send along, such as a credential (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub header: Vec<String>,
    /// Go on with what is recorded from now on
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportProtocol {
    /// gRPC
    Grpc,
    /// HTTP with JSON
    #[value(name = "http/json")]
    HttpJson,
    /// HTTP with protobuf
    #[default]
    #[value(name = "http/protobuf")]
    HttpProtobuf,
}

/// How much of the plan is used up: one line for a status bar.
///
/// Reads the answers of `GET /api/oauth/usage` that the client asked for and that passed by; makes no request of its own.
/// Exit code 1 while none has passed by.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight usage\n  set -g status-right '#(plainsight usage --style tmux)'    in ~/.tmux.conf\n  plainsight usage --format '{five_hour.percent}% until {five_hour.reset}, {age} old'\n\nTemplates: {WINDOW.percent}, {WINDOW.gauge}, {WINDOW.reset}, {WINDOW.colour}, {off}, {age};\nWINDOW is five_hour, seven_day, extra_usage or any other that the service names (see --json)."
)]
pub struct Usage {
    /// One JSON object
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// A template instead of the usual line
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// How colours are written: `auto` is ANSI where --color says so
    #[arg(long, value_enum, value_name = "STYLE", default_value_t)]
    pub style: UsageStyle,
    /// Yellow from this percentage on
    #[arg(long, value_name = "PERCENT", default_value_t = 70.0)]
    pub warn: f64,
    /// Red from this percentage on
    #[arg(long, value_name = "PERCENT", default_value_t = 90.0)]
    pub alert: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UsageStyle {
    /// Escape sequences of a terminal, where --color says so
    #[default]
    Auto,
    /// No colour
    Plain,
    /// `#[fg=…]`, as tmux writes colours in its status line
    Tmux,
}

/// Run the proxy in the background: a systemd user unit on Linux, a launch agent on macOS. It starts at login, on the
/// fixed port of `proxy` and with the stored CA, and is started again when it fails.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  plainsight service install --dry-run   print the unit and change nothing\n  plainsight service install\n  eval \"$(plainsight env)\"\n\nLogs: `journalctl --user -u plainsight` on Linux, ~/Library/Logs/plainsight.log on macOS."
)]
pub enum Service {
    /// Write the unit, start it now and at each login
    Install {
        /// Print the unit and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Address to listen on [default: 127.0.0.1:8788]
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<SocketAddr>,
        /// Also receive OpenTelemetry, and send it there (repeatable; as `proxy --otlp-endpoint`)
        #[arg(long, value_name = "[KEY=]URL")]
        otlp_endpoint: Vec<String>,
    },
    /// Say whether it is installed and running
    Status,
    /// Stop it and remove the unit; the log and the CA stay
    Remove,
}

/// List what was recorded, oldest first.
#[derive(Args, Debug, Default)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  plainsight log --since 1h\n  plainsight log --destination 'first-party-*' --json | jq .path\n  plainsight log --rule contact.email\n  plainsight log verify"
)]
pub struct Log {
    #[command(subcommand)]
    pub command: Option<LogCommand>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Write a HAR 1.2 file (`-`: to stdout); bodies are masked unless they were recorded with `--capture full`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "json")]
    pub har: Option<PathBuf>,
    /// Of this run
    #[arg(long, value_name = "N")]
    pub run: Option<RunId>,
    /// For this destination: an id of the catalogue
    #[arg(long, value_name = "ID")]
    pub destination: Option<String>,
    /// In which this rule found something
    #[arg(long, value_name = "ID")]
    pub rule: Option<String>,
    /// On which policy decided so
    #[arg(long, value_name = "ACTION")]
    pub action: Option<Action>,
    /// That ended so
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<Outcome>,
    /// Since then: `30m`, `2h`, `7d`, `2026-11-21`, `2026-11-21T08:00:00Z`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Of this session of the client: its own session id
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// With this text in host or path
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// At most so many, the newest; 0 means all [default: 50 as a table, otherwise all]
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Check that no record was changed, removed or moved
    Verify(Verify),
}

/// Check that no record was changed, removed or moved.
///
/// Each record is hashed together with the one before. What was rewritten as a whole, or cut off at the end, shows only
/// against a head that was noted elsewhere: each run prints its own at its end (`sealed: …`), and `--seal` writes the
/// present one. Exits with 0 if everything holds, 1 if not, 2 if it could not be told.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight log verify\n  plainsight log verify --seal head.txt\n  plainsight log verify --head head.txt"
)]
pub struct Verify {
    /// A head that was noted earlier: 64 hex digits, or a file that `--seal` wrote (repeatable)
    #[arg(long, value_name = "HEX|FILE")]
    pub head: Vec<String>,
    /// Write the present head to FILE, if everything holds
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub seal: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The same decoders and rules over recordings and the client's own files, with no network.
///
/// Reads HAR 1.2 (of browsers, mitmproxy, HTTP Toolkit), event batches that the client could not send
/// (`1p_failed_events.*.json`), its Statsig files and `stats-cache.json`, traces in the trace event format, the lines of
/// an OTLP file exporter, raw bodies (with `--as`), and folders with any of these, such as `~/.claude`. Nothing is stored.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight scan recording.har\n  plainsight scan ~/.claude\n  plainsight scan --json recording.har | jq '.findings[].path'\n  plainsight scan --as otlp-logs body.bin --fail-on high"
)]
pub struct Scan {
    /// One JSON object a request, as `log --json`, with `file`, `index` and spans
    #[arg(long)]
    pub json: bool,
    /// What the files are, if it cannot be told: `har`, `event-spool`, `otlp-lines`, `trace`, `otlp-logs`,
    /// `otlp-metrics`, `otlp-traces`, a destination such as `first-party-events`, or a format such as `json`
    #[arg(long = "as", value_name = "FORMAT")]
    pub format: Option<String>,
    /// Look for what this machine knows of its user too: names, accounts, secrets of the environment. For recordings that
    /// were made on it
    #[arg(long)]
    pub known: bool,
    /// Exit with 1 if anything of this severity or worse is found
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<Severity>,
    /// Write the requests of HAR files as the policy would have let them out; what it blocks is left out and counted
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub har_out: Option<PathBuf>,
    /// Files or folders; `-` reads standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
}

/// Hold what was promised against what was sent: verdicts with evidence.
///
/// Without a name the newest run is checked. `pass` takes a positive control in the same run: an answered request of the
/// conversation, an end of the client (or long enough a watch), and no connection that could not be read. Ends with 0 if
/// everything that was promised held, 1 if something was broken, 2 if it could not be told.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight check\n  plainsight check --run 12 --format markdown\n  plainsight check recording.har --assume DISABLE_TELEMETRY=1 --complete\n  plainsight check --expect silent --deny category:content --deny destination:datadog"
)]
pub struct Check {
    /// Recordings (HAR) instead of the log; `-` reads standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["run", "since"])]
    pub files: Vec<PathBuf>,
    /// This run
    #[arg(long, value_name = "N", conflicts_with = "since")]
    pub run: Option<RunId>,
    /// Every run since then: `30m`, `2h`, `7d`, `2026-11-21`, `2026-11-21T08:00:00Z`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// What the client was told, instead of what is recorded: a switch (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub assume: Vec<String>,
    /// What the client was told, instead of what is recorded: a settings file of its (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub assume_settings: Vec<PathBuf>,
    /// Short for `--format json`
    #[arg(long)]
    pub json: bool,
    /// The recording goes on until the client had ended by itself
    #[arg(long)]
    pub complete: bool,
    #[command(flatten)]
    pub options: CheckOptions,
}

/// What is checked, and how it is written.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Checks")]
pub struct CheckOptions {
    /// Require `silent` or `observed` of all telemetry, or `:DESTINATION` behind it (repeatable)
    #[arg(long, value_name = "WHAT")]
    pub expect: Vec<String>,
    /// Forbid `category:NAME`, `destination:ID` or `rule:ID` (repeatable)
    #[arg(long, value_name = "WHAT")]
    pub deny: Vec<String>,
    /// Only these controls, instead of all in force: an id of controls.toml, or a glob (repeatable)
    #[arg(long, value_name = "ID")]
    pub control: Vec<String>,
    /// Count refuted and untested claims, too
    #[arg(long)]
    pub claims: bool,
    /// Accepted failures: a TOML file with a reason and a last day for each
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub baseline: Option<PathBuf>,
    /// The client's version, if its requests do not say it
    #[arg(long, value_name = "VERSION")]
    pub client_version: Option<ClientVersion>,
    /// How the verdicts are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: CheckFormat,
    /// Write the verdicts to FILE
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people
    #[default]
    Table,
    /// One object
    Json,
    /// For CI servers
    Junit,
    /// For code scanning
    Sarif,
    /// For a pull request or a wiki
    Markdown,
}

/// Compare two runs: destinations, events, fields, categories that came or went.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  plainsight diff 12 15")]
pub struct Diff {
    /// The run before
    #[arg(value_name = "RUN-A")]
    pub first: RunId,
    /// The run after
    #[arg(value_name = "RUN-B")]
    pub second: RunId,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// End with 1 if anything came or went
    #[arg(long)]
    pub exit_code: bool,
}

/// Say what the client here is told, where a switch does not do what it looks like, and who would be seen.
///
/// Looks at this environment and at the settings files that a client started here would read. Then starts curl, Node,
/// Python and the client, as far as they are there, and lets each ask for something that only plainsight can answer:
/// through the proxy that is set, or as `plainsight run` would start them. Nobody outside is asked. Ends with 1 if
/// there is something to look at.
#[derive(Args, Debug)]
pub struct Doctor {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// Only look; start nothing
    #[arg(long)]
    pub no_probe: bool,
}

/// Show one record: the decoded fields, with findings marked.
#[derive(Args, Debug)]
pub struct Show {
    /// The record, as `plainsight log` lists it: `12-7`
    pub id: FlowId,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print the body as it was sent; only if it was recorded with `--capture full`
    #[arg(long, conflicts_with = "json")]
    pub reveal: bool,
}

/// Write down who received what, for a reviewer.
///
/// One file that needs no other: what was observed and for how long, who received what, every finding with its value
/// masked, what could not be seen and why. Without a choice it is about the newest run.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plainsight report\n  plainsight report --run 12 --out audit.html\n  plainsight report --since 7d --format markdown > audit.md\n  plainsight report recording.har --assume DISABLE_TELEMETRY=1 --complete"
)]
pub struct Report {
    /// About this recording (HAR) instead of the log; `-` reads standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["run", "since"])]
    pub file: Option<PathBuf>,
    /// About this run
    #[arg(long, value_name = "N")]
    pub run: Option<RunId>,
    /// About everything since then: `30m`, `2h`, `7d`, `2026-11-21`, `2026-11-21T08:00:00Z`
    #[arg(long, value_name = "WHEN", conflicts_with = "run")]
    pub since: Option<String>,
    /// What the client was told, instead of what is recorded: a switch (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub assume: Vec<String>,
    /// What the client was told, instead of what is recorded: a settings file of its (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub assume_settings: Vec<PathBuf>,
    /// The client's version, if its requests do not say it
    #[arg(long, value_name = "VERSION")]
    pub client_version: Option<ClientVersion>,
    /// The recording goes on until the client had ended by itself
    #[arg(long)]
    pub complete: bool,
    /// Accepted failures: a TOML file with a reason and a last day for each
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub baseline: Option<PathBuf>,
    /// As what
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: ReportFormat,
    /// Write to FILE; `-` is stdout [default: plainsight-report.html for HTML, otherwise stdout]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ReportFormat {
    /// One page, with everything in it
    #[default]
    Html,
    /// One object
    Json,
    /// For a ticket or a pull request
    Markdown,
}

#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Prove the rules: every sample, which rules see each other's samples, and what each costs
    ///
    /// A file that cannot be read as rules ends with 2. A sample that fails, or a rule over the budget, ends with 1.
    Check {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// The most that one rule's regex may look at, in bytes for each byte of the sample
        #[arg(long, value_name = "RATIO", default_value_t = 0.5)]
        budget: f64,
    },
    /// List the rules in force, by pack and category
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Explain one rule: what it names, why that matters, where it was seen, and how to silence it
    Explain {
        /// The rule's id, such as `contact.email`
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Check a policy, and say what it would have changed in what was recorded
    ///
    /// Names rows that no request reaches, and names of nothing, with 1. Then decides again about the stored log, or
    /// about a HAR file: how many requests to whom would have been allowed, redacted and blocked.
    Check {
        /// A profile or a policy file [default: the one in force]
        #[arg(value_name = "NAME|FILE")]
        policy: Option<PathBuf>,
        /// Decide about this recording instead of the log
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        har: Option<PathBuf>,
        /// Of this run
        #[arg(long, value_name = "N", conflicts_with = "har")]
        run: Option<RunId>,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say which row decided about a request, and why
    Explain {
        /// A record, as `plainsight log` lists it (`12-7`), or a HAR file
        #[arg(value_name = "REQUEST-ID|FILE", value_hint = ValueHint::FilePath)]
        what: OsString,
    },
    /// List the policies that ship with plainsight
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print a policy as it is written, to start one of your own from
    Show {
        /// A profile or a policy file [default: the one in force]
        #[arg(value_name = "NAME|FILE")]
        policy: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Show the stored CA: subject, validity, fingerprint, what it may sign
    Show,
    /// Print the path of its certificate; exit code 1 while there is none
    Path,
    /// Replace it by a new one
    Rotate,
    /// Remove it
    Remove,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CaptureArg {
    /// Findings only
    None,
    /// Decoded fields, with findings masked (the default)
    Masked,
    /// Also the body as it was sent
    Full,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
