//! The binary: hands the command line to [`plainsight::cli`] and exits with what it says.
fn main() {}
