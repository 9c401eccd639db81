//! Work that goes on when whoever waits for it goes away.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A future that is polled by whoever waits for it, and by a task of its own once nobody does any more. A task from the start would
/// be woken, and wake in turn, once more for each request.
pub(crate) struct Surviving<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
}

/// The work panicked. What it said is not repeated, for it may quote the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

impl<F: Future<Output: Send> + Send + 'static> Surviving<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(Box::pin(future)) }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Surviving<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Ready(Err(Panicked)) };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(_) => Err(Panicked),
        };
        self.future = None;
        Poll::Ready(ended)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Surviving<F> {
    fn drop(&mut self) {
        // Without a runtime there is nobody who could go on.
        if let (Some(future), Ok(runtime)) = (self.future.take(), Handle::try_current()) {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{
        sync::Notify,
        time::{sleep, timeout},
    };

    use super::*;

    #[tokio::test]
    async fn it_says_what_the_work_came_to() {
        let work = Surviving::new(async {
            sleep(Duration::from_millis(1)).await;
            7
        });

        assert_eq!(work.await, Ok(7));
    }

    #[tokio::test]
    async fn the_work_goes_on_when_nobody_waits_any_more() {
        let (begun, may_end, ended) =
            (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = {
            let (begun, may_end, ended) = (Arc::clone(&begun), Arc::clone(&may_end), Arc::clone(&ended));
            Surviving::new(async move {
                begun.notify_one();
                may_end.notified().await;
                ended.notify_one();
            })
        };

        let waited = timeout(Duration::from_millis(10), work).await;
        begun.notified().await;
        may_end.notify_one();

        assert!(waited.is_err());
        timeout(Duration::from_secs(5), ended.notified()).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let work = Surviving::new(async { panic!("as planned") });

        assert_eq!(work.await, Err::<(), _>(Panicked));
    }
}
