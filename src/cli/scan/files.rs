use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    claude,
    cli::{
        exit::Failure,
        scan::{
            Run,
            kind::{BodyKind, Kind},
            name_of,
            progress::Progress,
            request,
        },
    },
    destination::Catalogue,
    har::{self, Unreadable},
    model::ByteSize,
};

impl Run {
    /// Scans what the command line names: a file, a folder, or standard input.
    pub(super) fn path(&mut self, path: &Path, kind: Option<&Kind>) -> Result<(), Failure> {
        if path == Path::new("-") {
            return self.source("-", io::stdin().lock(), None, kind);
        }
        let name = name_of(path);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path, kind),
            Ok(metadata) => match File::open(path) {
                Ok(file) => self.source(&name, file, Some(metadata.len()), kind),
                Err(error) => {
                    self.fail(&name, error);
                    Ok(())
                }
            },
            Err(error) => {
                self.fail(&name, error);
                Ok(())
            }
        }
    }

    /// Scans everything below a folder that can be recognised, in order of names. Links are not followed.
    fn folder(&mut self, folder: &Path, kind: Option<&Kind>) -> Result<(), Failure> {
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let mut inner = Vec::new();
            for path in match entries(&folder) {
                Ok(paths) => paths,
                Err(error) => {
                    self.fail(&name_of(&folder), error);
                    continue;
                }
            } {
                if self.is_closed {
                    return Ok(());
                }
                match fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_dir() && depth < DEPTH => inner.push((path, depth + 1)),
                    Ok(metadata) if metadata.is_file() => self.found(&path, metadata.len(), kind)?,
                    _ => self.passed_over += 1,
                }
            }
            folders.extend(inner.into_iter().rev());
        }
        Ok(())
    }

    fn found(&mut self, path: &Path, len: u64, kind: Option<&Kind>) -> Result<(), Failure> {
        let name = name_of(path);
        let mut file = match File::open(path) {
            Ok(file) => BufReader::with_capacity(START_BYTES, file),
            Err(error) => {
                self.fail(&name, error);
                return Ok(());
            }
        };
        let recognised = match file.fill_buf() {
            Ok(start) => kind.cloned().or_else(|| recognise(path, start, self.inspector.catalogue())),
            Err(error) => {
                self.fail(&name, error);
                return Ok(());
            }
        };
        match recognised {
            Some(kind) => self.source(&name, file, Some(len), Some(&kind)),
            None => {
                self.passed_over += 1;
                Ok(())
            }
        }
    }

    fn source(
        &mut self,
        name: &str,
        source: impl Read,
        len: Option<u64>,
        kind: Option<&Kind>,
    ) -> Result<(), Failure> {
        let (mut progress, counted) = Progress::watch(source, len);
        let mut source = BufReader::with_capacity(START_BYTES, counted);
        let kind = match (kind, source.fill_buf()) {
            (Some(kind), Ok(_)) => kind.clone(),
            (None, Ok(start)) => match recognise(Path::new(name), start, self.inspector.catalogue()) {
                Some(kind) => kind,
                None if looks_like_json(start) => Kind::Body(BodyKind::local_json()),
                None => {
                    self.fail(name, "it cannot be told what this is; say so with --as FORMAT");
                    return Ok(());
                }
            },
            (_, Err(error)) => {
                self.fail(name, error);
                return Ok(());
            }
        };
        match kind {
            Kind::Body(kind) => match whole(source) {
                Ok(body) => self.body(name, 0, kind, body, 0),
                Err(error) => {
                    self.fail(name, error);
                    Ok(())
                }
            },
            Kind::EventSpool => match (whole(source), Kind::named(EVENTS, self.inspector.catalogue())?) {
                (Ok(file), Kind::Body(kind)) => {
                    let batch = claude::event_batch(&file);
                    self.body(name, 0, kind, batch.body, batch.before)
                }
                (Err(error), _) => {
                    self.fail(name, error);
                    Ok(())
                }
                _ => Ok(()),
            },
            Kind::Har => self.har(name, source, &mut progress),
            Kind::OtlpLines => self.lines(name, source, &mut progress),
        }
    }

    fn har(&mut self, name: &str, source: impl Read, progress: &mut Progress) -> Result<(), Failure> {
        let mut broken = None;
        let mut requests = 0;
        let read = har::read(source, |entry| {
            requests += 1;
            progress.tick(requests);
            match entry {
                Ok(entry) => {
                    let index = entry.index;
                    let scanned = request::entry(&self.inspector, entry);
                    // A line may be about to be written.
                    progress.clear();
                    if let Err(failure) = self.add(name, index, scanned) {
                        broken = Some(failure);
                        return ControlFlow::Break(());
                    }
                }
                Err(Unreadable::NotHttp { .. }) => self.passed_over += 1,
                Err(unreadable) => {
                    progress.clear();
                    self.fail(name, unreadable);
                }
            }
            if self.is_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Err(error) = read {
            progress.clear();
            self.fail(name, error);
        }
        broken.map_or(Ok(()), Err)
    }

    fn lines(
        &mut self,
        name: &str,
        mut source: impl BufRead,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        for index in 0.. {
            let mut line = Vec::new();
            // One more than a line may have, so that a longer one is noticed.
            let limit = LARGEST.get() + 1;
            match source.by_ref().take(limit).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(read) if read as u64 == limit => {
                    self.fail(name, format!("line {} is longer than {LARGEST}", index + 1));
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    self.fail(name, error);
                    break;
                }
            }
            progress.tick(index);
            if line.trim_ascii().is_empty() {
                continue;
            }
            progress.clear();
            self.body(name, index, BodyKind::otlp(), line.into(), 0)?;
            if self.is_closed {
                break;
            }
        }
        Ok(())
    }

    fn body(
        &mut self,
        name: &str,
        index: usize,
        kind: BodyKind,
        body: Bytes,
        before: usize,
    ) -> Result<(), Failure> {
        match request::body(&self.inspector, name, index, kind, body, before) {
            Ok(scanned) => self.add(name, index, scanned),
            Err(why) => {
                self.fail(name, why);
                Ok(())
            }
        }
    }
}

fn recognise(path: &Path, start: &[u8], catalogue: &Catalogue) -> Option<Kind> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    Kind::recognise(name, start, catalogue)
}

fn looks_like_json(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    matches!(start.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    Ok(paths)
}

fn whole(source: impl Read) -> io::Result<Bytes> {
    let mut body = Vec::new();
    // One more than a body may have, so that a larger one is noticed.
    source.take(LARGEST.get() + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LARGEST.get() {
        return Err(io::Error::other(format!("it is larger than {LARGEST}, which is the most for one body")));
    }
    Ok(body.into())
}

/// The destination of the client's own events.
const EVENTS: &str = "first-party-events";

/// How deep a folder is walked. The client's own is four deep.
const DEPTH: usize = 8;

/// What of a file is looked at to tell what it is; larger than the first event of any batch.
const START_BYTES: usize = 64 * 1024;

/// Largest single body: four times less than what offsets can count, and more than any trace that a browser opens.
const LARGEST: ByteSize = ByteSize::mebibytes(1024);
