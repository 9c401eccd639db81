//! What is handed to a thread. Unlike a channel it knows what is urgent: a thread that will look within milliseconds anyway is
//! not woken for the rest, because waking it costs both sides more than many a record.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc::RecvTimeoutError},
    time::Instant,
};

/// Both ends of a new inbox.
pub(super) fn inbox<T>() -> (Inlet<T>, Outlet<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State { items: VecDeque::new(), sleep: None, ended: false }),
        woken: Condvar::new(),
    });
    (Inlet(Arc::clone(&shared)), Outlet(shared))
}

/// Where things are handed in.
#[derive(Debug)]
pub(super) struct Inlet<T>(Arc<Shared<T>>);

/// Where they are taken out, by one thread.
#[derive(Debug)]
pub(super) struct Outlet<T>(Arc<Shared<T>>);

/// What wakes a thread that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// Everything.
    Light,
    /// What is urgent alone: the rest is found when the time is over.
    Sound,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    woken: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// How the thread sleeps, if it does.
    sleep: Option<Sleep>,
    /// Whether the other end is gone.
    ended: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inlet<T> {
    /// Hands something in, or gives it back if nobody is there to take it.
    pub(super) fn send(&self, item: T, is_urgent: bool) -> Result<(), T> {
        let mut state = self.0.state();
        if state.ended {
            return Err(item);
        }
        state.items.push_back(item);
        let wakes = match state.sleep {
            Some(Sleep::Light) => true,
            Some(Sleep::Sound) => is_urgent,
            None => false,
        };
        if wakes {
            // Once is enough, whatever else comes before it is awake.
            state.sleep = None;
        }
        drop(state);
        if wakes {
            self.0.woken.notify_one();
        }
        Ok(())
    }
}

impl<T> Drop for Inlet<T> {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.woken.notify_one();
    }
}

impl<T> Outlet<T> {
    /// Takes what came first; waits for it `until` then, or for as long as it takes.
    pub(super) fn receive(&self, until: Option<Instant>, sleep: Sleep) -> Result<T, RecvTimeoutError> {
        let mut state = self.0.state();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Ok(item);
            }
            if state.ended {
                return Err(RecvTimeoutError::Disconnected);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(RecvTimeoutError::Timeout);
            }
            state.sleep = Some(sleep);
            state = match left {
                Some(left) => {
                    self.0.woken.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.woken.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.sleep = None;
        }
    }

    /// Takes what is there, without waiting.
    pub(super) fn take(&self) -> Option<T> {
        self.0.state().items.pop_front()
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        // Whoever waits for one of them learns of the end by it. Not under the lock: it is their code that runs.
        let items = std::mem::take(&mut state.items);
        drop(state);
        drop(items);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(20);

    /// Receives once in a thread of its own; what came and how long it took.
    fn receiving(
        outlet: Outlet<u8>,
        within: Duration,
        sleep: Sleep,
    ) -> mpsc::Receiver<(Result<u8, RecvTimeoutError>, Duration)> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let begun = Instant::now();
            let received = outlet.receive(Some(begun + within), sleep);
            sender.send((received, begun.elapsed())).unwrap();
        });
        receiver
    }

    fn until_asleep(inlet: &Inlet<u8>) {
        while inlet.0.state().sleep.is_none() {
            thread::yield_now();
        }
    }

    #[test]
    fn things_come_out_as_they_went_in() {
        let (inlet, outlet) = inbox();

        (0..5).for_each(|item| inlet.send(item, item % 2 == 0).unwrap());

        let first = outlet.receive(None, Sleep::Light);
        let rest: Vec<u8> = std::iter::from_fn(|| outlet.take()).collect();
        assert_eq!((first, rest), (Ok(0), vec![1, 2, 3, 4]));
    }

    #[test]
    fn only_what_is_urgent_breaks_a_sound_sleep() {
        let (inlet, outlet) = inbox();
        let received = receiving(outlet, NEVER, Sleep::Sound);
        until_asleep(&inlet);

        inlet.send(1, false).unwrap();
        thread::sleep(SOON);
        let slept_on = received.try_recv().is_err();
        inlet.send(2, true).unwrap();

        let (first, after) = received.recv_timeout(NEVER).unwrap();
        assert!(slept_on && after < NEVER);
        assert_eq!(first, Ok(1));
    }

    #[test]
    fn what_is_not_urgent_is_there_when_the_time_is_over() {
        let (inlet, outlet) = inbox();
        let received = receiving(outlet, SOON, Sleep::Sound);
        until_asleep(&inlet);

        inlet.send(1, false).unwrap();

        let (first, after) = received.recv_timeout(NEVER).unwrap();
        assert_eq!(first, Ok(1));
        assert!(after >= SOON);
    }

    #[test]
    fn everything_breaks_a_light_sleep() {
        let (inlet, outlet) = inbox();
        let received = receiving(outlet, NEVER, Sleep::Light);
        until_asleep(&inlet);

        inlet.send(1, false).unwrap();

        assert_eq!(received.recv_timeout(NEVER).unwrap().0, Ok(1));
    }

    #[test]
    fn either_end_learns_that_the_other_is_gone() {
        let (inlet, outlet) = inbox();
        inlet.send(1, false).unwrap();
        drop(inlet);
        let taken = [outlet.receive(None, Sleep::Sound), outlet.receive(None, Sleep::Sound)];

        let (other_inlet, other_outlet) = inbox();
        let (reply, answer) = mpsc::channel::<()>();
        other_inlet.send(Some(reply), true).unwrap();
        drop(other_outlet);

        assert_eq!(taken, [Ok(1), Err(RecvTimeoutError::Disconnected)]);
        assert!(answer.recv().is_err());
        assert!(other_inlet.send(None, true).is_err());
    }

    #[test]
    fn an_end_is_heard_in_any_sleep() {
        let (inlet, outlet) = inbox();
        let received = receiving(outlet, NEVER, Sleep::Sound);
        until_asleep(&inlet);

        drop(inlet);

        assert_eq!(received.recv_timeout(NEVER).unwrap().0, Err(RecvTimeoutError::Disconnected));
    }
}
