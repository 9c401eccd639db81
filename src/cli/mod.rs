//! The command line: reads arguments, calls one function per command, says how it ended. Commands put rooms
//! together; what a thing does is decided beneath.

mod args;
mod ca;
mod check;
mod demo;
mod diff;
mod doctor;
mod engine;
mod env;
mod exit;
mod export;
mod live;
mod log;
mod open_files;
mod output;
mod panic;
mod policy;
mod proxy;
mod receiver;
mod report;
mod rules;
mod run;
mod scan;
mod service;
mod show;
mod told;
mod usage;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    cli::{
        args::{CaptureArg, Cli, Command, Global},
        exit::{Exit, Failure},
        output::Terminal,
    },
    config::{Env, Overrides, Settings},
    inspect::Capture,
};

/// Runs plainsight with the arguments of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.global.verbose);
    panic::install_hook();
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("plainsight: {failure}");
            Exit::Failure.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let environment = Env::snapshot();
    let terminal = Terminal::new(cli.global.color, &environment);
    let settings = |global: &Global| settings(global, &environment);
    match cli.command {
        Command::Ca(command) => ca::execute(&command, &settings(&cli.global)?),
        Command::Check(command) => check::execute(&command, &settings(&cli.global)?, &terminal),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "plainsight", &mut std::io::stdout());
            Ok(Exit::Success)
        }
        Command::Demo(command) => {
            demo::execute(&command, settings(&cli.global)?, cli.global.data_dir.as_deref(), &terminal)
        }
        #[cfg(target_os = "linux")]
        // Before anything starts a thread: a process that has several cannot enter a user namespace.
        Command::Launcher(command) => Ok(Exit::Child(run::launch(command))),
        Command::Env(command) => env::execute(&command, &settings(&cli.global)?, &environment),
        Command::Export(command) => export::execute(&command, &settings(&cli.global)?, &environment),
        Command::Diff(command) => diff::execute(&command, &settings(&cli.global)?, &terminal),
        Command::Doctor(command) => doctor::execute(&command, settings(&cli.global), &environment, &terminal),
        Command::Log(command) => log::execute(&command, &settings(&cli.global)?, &terminal),
        Command::Man => {
            let page = clap_mangen::Man::new(Cli::command());
            page.render(&mut std::io::stdout())
                .map_err(|error| Failure::new("writing the manual page", error))?;
            Ok(Exit::Success)
        }
        Command::Policy(command) => policy::execute(&command, &settings(&cli.global)?),
        Command::Proxy(command) => proxy::execute(&command, settings(&cli.global)?, &environment),
        Command::Report(command) => report::execute(&command, &settings(&cli.global)?),
        Command::Rules(command) => rules::execute(&command, &settings(&cli.global)?, &terminal),
        Command::Run(command) => run::execute(&command, &settings(&cli.global)?, &environment, &terminal),
        Command::Service(command) => {
            service::execute(&command, &cli.global, &settings(&cli.global)?, &environment)
        }
        Command::Usage(command) => usage::execute(&command, &settings(&cli.global)?, &terminal),
        Command::Scan(command) => scan::execute(&command, &settings(&cli.global)?, &environment, &terminal),
        Command::Show(command) => show::execute(&command, &settings(&cli.global)?, &terminal),
    }
}

fn settings(global: &Global, environment: &Env) -> Result<Settings, Failure> {
    let global = global.clone();
    let overrides = Overrides {
        config: global.config,
        data_dir: global.data_dir,
        rules_dir: global.rules,
        policy: global.policy,
        upstream_ca: global.upstream_ca,
        connect_to: global.connect_to,
        intercept: global.intercept,
        capture: global.capture.map(|capture| match capture {
            CaptureArg::Full => Capture::Full,
            CaptureArg::Masked => Capture::Masked,
            CaptureArg::None => Capture::None,
        }),
        ..Overrides::default()
    };
    let settings = Settings::load(environment, overrides).map_err(|error| Failure(error.to_string()))?;
    for warning in &settings.warnings {
        eprintln!("plainsight: {warning}");
    }
    Ok(settings)
}

/// Sends diagnostics to stderr. They never hold payload text, at any level.
fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Libraries below us log header values and bytes at their lower levels; only our own rooms may speak there.
    let filter = tracing_subscriber::filter::Targets::new().with_target("plainsight", level);
    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(layer).init();
}
