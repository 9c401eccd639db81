//! Looks for connections of the program that go around the proxy, as long as it runs.

use std::time::Duration;

use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use crate::{
    bypass::{Watcher, can_watch},
    model::Watch,
    proxy::Entrance,
};

/// Whether this system lets us look.
pub(super) fn possible() -> Watch {
    if can_watch() { Watch::Watched } else { Watch::Unwatched }
}

/// Looks again and again.
pub(super) struct Lookout {
    stop: oneshot::Sender<()>,
    looking: JoinHandle<()>,
}

impl Lookout {
    /// Watches a process and its descendants. `None` if it has ended already.
    pub(super) fn start(process: Option<u32>, entrance: Entrance) -> Option<Self> {
        let mut watcher = Watcher::new(process?);
        let (stop, mut stopped) = oneshot::channel();
        let looking = tokio::spawn(async move {
            loop {
                // Files of `/proc` are read without waiting, but by hundreds: not on a thread that serves streams.
                let looked = spawn_blocking(move || {
                    let seen = watcher.look();
                    (watcher, seen)
                });
                let Ok((returned, seen)) = looked.await else { return };
                watcher = returned;
                for sighting in seen {
                    entrance.record_bypass(&sighting);
                }
                tokio::select! {
                    _ = &mut stopped => return,
                    () = sleep(INTERVAL) => {}
                }
            }
        });
        Some(Self { stop, looking })
    }

    /// Stops, and waits until what was seen is recorded.
    pub(super) async fn finish(self) {
        let _ = self.stop.send(());
        // It can only have failed by a panic, which has been reported.
        let _ = self.looking.await;
    }
}

/// Between two looks. A look takes about a millisecond.
const INTERVAL: Duration = Duration::from_millis(100);
