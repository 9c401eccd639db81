//! The bodies that every tool gets, by the makers of tests/benches-core.

use std::{fs, io, path::Path};

use crate::shapes;

pub struct Body {
    pub name: &'static str,
    /// Where plainsight takes it to be on its way.
    pub destination: &'static str,
    pub path: &'static str,
    pub text: String,
    make: fn(u64) -> String,
}

impl Body {
    fn new(
        name: &'static str,
        destination: &'static str,
        path: &'static str,
        make: fn(u64) -> String,
    ) -> Self {
        Self { name, destination, path, text: make(1), make }
    }

    /// For a scanner that is a program and reads files: so many that its start is a small part, each from another seed,
    /// because it passes over equal ones.
    pub fn write_copies(&self, folder: &Path, least_bytes: usize) -> io::Result<usize> {
        fs::create_dir_all(folder)?;
        let (mut bytes, mut seed) = (0, 1);
        while bytes < least_bytes {
            let text = (self.make)(seed);
            fs::write(folder.join(format!("{seed}.json")), &text)?;
            bytes += text.len();
            seed += 1;
        }
        Ok(bytes)
    }
}

pub fn all() -> Vec<Body> {
    vec![
        Body::new("otlp 64 KiB, clean", "otlp", "/v1/logs", |seed| shapes::otlp(64 << 10, false, seed)),
        Body::new("otlp 1 MiB, clean", "otlp", "/v1/logs", |seed| shapes::otlp(1 << 20, false, seed)),
        Body::new("otlp 1 MiB, as recorded", "otlp", "/v1/logs", |seed| shapes::otlp(1 << 20, true, seed)),
        Body::new("events 349 KB", "first-party-events", "/api/event_logging/v2/batch", |seed| {
            shapes::events(349_000, seed)
        }),
        Body::new("prose 256 KiB", "first-party-events", "/x", |seed| shapes::prose(256 << 10, seed)),
    ]
}
