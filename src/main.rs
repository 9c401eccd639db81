//! The binary: hands the command line to [`plainsight::cli`] and exits with what it says.

use std::process::ExitCode;

fn main() -> ExitCode {
    plainsight::cli::main()
}
