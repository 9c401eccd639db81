//! `--har-out`: the requests of recordings as the policy would have let them out.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        exit::Failure,
        scan::{name_of, request::LetOut},
    },
    har::Writer,
    report::sanitize,
};

/// A HAR file that is being written.
pub(super) struct HarOut {
    name: String,
    writer: Writer<BufWriter<File>>,
    blocked: u64,
    rewritten: u64,
    written: u64,
}

impl HarOut {
    /// Begins the file, which must be none of those that are read.
    pub(super) fn create(path: &Path, read: &[PathBuf]) -> Result<Self, Failure> {
        let name = name_of(path);
        let place = path.canonicalize().ok();
        if place.is_some() && read.iter().any(|other| other.canonicalize().ok() == place) {
            return Err(Failure(format!("--har-out {name}: this file is read; write to another one")));
        }
        let fails = |error: io::Error| Failure::new(&format!("--har-out {name}"), error);
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(fails)?;
        let writer = Writer::new(BufWriter::new(file), env!("CARGO_PKG_VERSION")).map_err(fails)?;
        Ok(Self { name, writer, blocked: 0, rewritten: 0, written: 0 })
    }

    /// Writes a request, or counts that it stays here.
    pub(super) fn add(&mut self, let_out: LetOut) -> Result<(), Failure> {
        match let_out {
            LetOut::Blocked => self.blocked += 1,
            LetOut::NotSent => {}
            LetOut::SentOn(sent) => {
                self.written += 1;
                self.rewritten += u64::from(sent.is_rewritten);
                let fails = |error| Failure::new(&format!("--har-out {}", self.name), error);
                self.writer.request(&sent).map_err(fails)?;
            }
        }
        Ok(())
    }

    /// Ends the file, and says what is in it.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Self { name, writer, blocked, rewritten, written } = self;
        writer.finish().map_err(|error| Failure::new(&format!("--har-out {name}"), error))?;
        let name = sanitize(&name);
        eprintln!(
            "plainsight: {name}: {written} sent on, {rewritten} of them changed; {blocked} blocked and left out"
        );
        Ok(())
    }
}
