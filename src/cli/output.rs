use std::io::{self, IsTerminal as _, Write};

use crate::{
    cli::{args::ColorArg, exit::Failure},
    config::Env,
    report::View,
};

/// What is known of the terminal that a person reads.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Columns of stdout; 80 when it is no terminal.
    pub width: usize,
    /// Whether stdout gets colours.
    pub colour: bool,
    /// Whether stderr gets colours.
    pub colour_stderr: bool,
}

/// Columns of what is not written to a terminal, and the narrowest that tables are made for.
const DEFAULT_WIDTH: usize = 80;

impl Terminal {
    /// Looks at stdout and stderr.
    pub fn new(color: ColorArg, environment: &Env) -> Self {
        let no_color = environment.has("NO_COLOR");
        let coloured = |is_terminal: bool| match color {
            ColorArg::Always => true,
            ColorArg::Auto => is_terminal && !no_color,
            ColorArg::Never => false,
        };
        let width =
            terminal_size::terminal_size_of(io::stdout()).map_or(DEFAULT_WIDTH, |(width, _)| width.0.into());
        Self {
            width,
            colour: coloured(io::stdout().is_terminal()),
            colour_stderr: coloured(io::stderr().is_terminal()),
        }
    }

    /// How reports on stdout are laid out.
    pub fn view(&self) -> View {
        View::new(self.width, self.colour)
    }

    /// How reports on stderr are laid out.
    pub fn view_of_stderr(&self) -> View {
        View::new(self.width, self.colour_stderr)
    }
}

/// Writes to stdout. A reader that has gone away (`plainsight log | head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new("writing to stdout", error))
        }
        _ => Ok(()),
    }
}

/// Now, in milliseconds since 1970 (UTC).
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
