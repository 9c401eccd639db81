//! Bodies on their way through: captured up to a limit, or streamed frame by frame, and counted.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{runtime::Handle, time::timeout};

use crate::{
    model::{ByteSize, Outcome},
    proxy::{
        flow::Flow,
        services::{Answer, Answers},
        upstream::Return,
    },
};

/// What came of capturing a request's body.
pub(crate) enum Captured {
    /// All of it.
    Complete(Bytes, Option<HeaderMap>),
    /// It is longer than the limit; `rest` is still to come.
    OverLimit(Bytes, Incoming),
    /// The client broke off.
    Broken(hyper::Error),
}

/// Reads a body up to `limit`. Takes no copy of a body that comes in one piece.
pub(crate) async fn capture(mut body: Incoming, limit: ByteSize) -> Captured {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut trailers = None;
    loop {
        let frame = match body.frame().await {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Captured::Broken(error),
        };
        match frame.into_data() {
            Ok(data) if first.is_empty() && whole.is_empty() => {
                first = data;
                if !body.is_end_stream() {
                    let announced = body.size_hint().exact().unwrap_or(0).min(limit.get()) as usize;
                    whole.reserve(announced.saturating_add(first.len()));
                    whole.extend_from_slice(&first);
                }
            }
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if whole.len().max(first.len()) as u64 > limit.get() {
            let start = if whole.is_empty() { first } else { whole.freeze() };
            return Captured::OverLimit(start, body);
        }
    }
    Captured::Complete(if whole.is_empty() { first } else { whole.freeze() }, trailers)
}

/// Reads what is left of a request that is refused. Says whether the end was reached.
pub(crate) async fn drain(body: &mut Incoming, limit: ByteSize, time: Duration) -> bool {
    let reading = async {
        let mut count = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            count += frame.data_ref().map_or(0, |data| data.len() as u64);
            if count > limit.get() {
                return false;
            }
        }
        true
    };
    timeout(time, reading).await.unwrap_or(false)
}

/// A request's body on its way upstream: what was captured of it, then what is still to come.
///
/// Its size is never announced: framing follows the header fields that the client sent, and nothing is added to them.
pub(crate) struct RequestBody {
    start: Option<Bytes>,
    rest: Option<Incoming>,
    trailers: Option<HeaderMap>,
    /// The head announces a body, though it may be empty.
    announced: bool,
    progress: Arc<Progress>,
}

/// How far a request's body got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bytes: Arc<AtomicU64>,
    complete: AtomicBool,
    broken: AtomicBool,
}

impl Progress {
    pub(crate) fn new(bytes: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { bytes, ..Self::default() })
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether the client broke off while it was sending.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

impl RequestBody {
    pub(crate) fn captured(
        bytes: Bytes,
        trailers: Option<HeaderMap>,
        announced: bool,
        progress: Arc<Progress>,
    ) -> Self {
        let start = (!bytes.is_empty()).then_some(bytes);
        Self { start, rest: None, trailers, announced, progress }.noted()
    }

    pub(crate) fn over_limit(start: Bytes, rest: Incoming, progress: Arc<Progress>) -> Self {
        Self { start: Some(start), rest: Some(rest), trailers: None, announced: true, progress }
    }

    pub(crate) fn streamed(body: Incoming, progress: Arc<Progress>) -> Self {
        let rest = (!body.is_end_stream()).then_some(body);
        Self { start: None, rest, trailers: None, announced: false, progress }.noted()
    }

    fn noted(self) -> Self {
        self.note_end();
        self
    }

    fn is_over(&self) -> bool {
        self.start.is_none() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn note_end(&self) {
        if self.is_over() {
            self.progress.complete.store(true, Ordering::Release);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = if let Some(start) = self.start.take() {
            Some(Ok(Frame::data(start)))
        } else if let Some(rest) = &mut self.rest {
            let frame = std::task::ready!(Pin::new(rest).poll_frame(cx));
            if frame.is_none() {
                self.rest = None;
            }
            frame
        } else {
            self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))
        };
        match &frame {
            Some(Ok(frame)) => {
                let count = frame.data_ref().map_or(0, Bytes::len);
                self.progress.bytes.fetch_add(count as u64, Ordering::Relaxed);
            }
            Some(Err(_)) => self.progress.broken.store(true, Ordering::Release),
            None => {}
        }
        self.note_end();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.announced && self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// An answer's body on its way to the client.
pub(crate) enum ResponseBody {
    /// Made here.
    Local { bytes: Option<Bytes>, trailers: Option<HeaderMap> },
    /// Streams from upstream, frame by frame.
    Upstream(Box<Relayed>),
}

/// An answer that streams from upstream; closes the flow's record when it ends, however it ends.
pub(crate) struct Relayed {
    incoming: Incoming,
    flow: Option<Flow>,
    connection: Option<Return>,
    tee: Option<Tee>,
    /// The head announces a length, and HTTP/1 writes it only if the body is not known to be empty.
    announced: bool,
    /// The length that the other side announced. A client may go once it has so much, whatever HTTP/2 says of the end.
    length: Option<u64>,
    /// Whether the answer is taken to its end when the client goes: it is small, and says that the request arrived.
    outlives_client: bool,
}

impl ResponseBody {
    pub(crate) fn local(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self::Local { bytes: (!bytes.is_empty()).then_some(bytes), trailers }
    }

    pub(crate) fn empty() -> Self {
        Self::Local { bytes: None, trailers: None }
    }

    pub(crate) fn relayed(
        incoming: Incoming,
        flow: Flow,
        connection: Option<Return>,
        announced: bool,
        length: Option<u64>,
        outlives_client: bool,
        tee: Option<Tee>,
    ) -> Self {
        let mut relayed =
            Relayed { incoming, flow: Some(flow), connection, tee, announced, length, outlives_client };
        if relayed.incoming.is_end_stream() {
            relayed.complete();
        }
        Self::Upstream(Box::new(relayed))
    }
}

impl ResponseBody {
    /// Takes an answer to its end, for nobody.
    async fn finish_alone(mut self) {
        let reading = async {
            let mut count = 0;
            while let Some(Ok(frame)) = self.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
                if count > LARGEST_ANSWER_BYTES {
                    return;
                }
            }
        };
        // What takes longer ends as it would have without: the client went away.
        let _ = timeout(ALONE_TIME, reading).await;
    }
}

/// A client that ends does not wait for the answer to its last batch; the record says all the same what became of it.
impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Self::Upstream(relayed) = self else { return };
        let Some(flow) = relayed.flow.as_mut().filter(|_| relayed.outlives_client) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        flow.error.get_or_insert_with(|| "the client did not wait for the answer".to_owned());
        relayed.outlives_client = false;
        runtime.spawn(mem::replace(self, Self::empty()).finish_alone());
    }
}

impl Relayed {
    fn complete(&mut self) {
        if let Some(flow) = self.flow.take() {
            flow.finish(Outcome::Forwarded, None);
        }
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
        if let Some(tee) = self.tee.take() {
            tee.finish();
        }
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        match frame {
            None => self.complete(),
            Some(Ok(frame)) => {
                if let (Some(data), Some(flow)) = (frame.data_ref(), &mut self.flow) {
                    flow.response_bytes += data.len() as u64;
                    self.tee = self.tee.take().and_then(|tee| tee.with(data));
                }
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.complete();
                } else if let Some(flow) =
                    self.flow.take_if(|flow| self.length.is_some_and(|length| flow.response_bytes >= length))
                {
                    flow.finish(Outcome::Forwarded, None);
                    if let Some(tee) = self.tee.take() {
                        tee.finish();
                    }
                }
            }
            Some(Err(error)) => {
                (self.connection, self.tee) = (None, None);
                if let Some(flow) = self.flow.take() {
                    flow.finish(Outcome::UpstreamFailed, Some(format!("the answer broke off: {error}")));
                }
            }
        }
    }
}

/// Copies a small answer for whoever learns from it, while it streams on.
pub(crate) struct Tee {
    answers: Arc<dyn Answers>,
    answer: Answer,
    body: BytesMut,
}

impl Tee {
    pub(crate) fn new(answers: &Arc<dyn Answers>, answer: Answer) -> Self {
        Self { answers: Arc::clone(answers), answer, body: BytesMut::new() }
    }

    /// With another piece; nothing once it is too long.
    fn with(mut self, data: &Bytes) -> Option<Self> {
        (self.body.len() + data.len() <= LARGEST_ANSWER_BYTES).then(|| {
            self.body.extend_from_slice(data);
            self
        })
    }

    fn finish(self) {
        self.answers.learn(Answer { body: self.body.freeze(), ..self.answer });
    }
}

/// How long an answer is read for nobody; shorter than the last records are waited for at the end.
const ALONE_TIME: Duration = Duration::from_millis(800);

/// Answers that are learnt from are of some hundred bytes, and so are those to telemetry.
const LARGEST_ANSWER_BYTES: usize = 64 * 1024;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Local { bytes, trailers } => Poll::Ready(match bytes.take() {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None => trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Self::Upstream(relayed) => {
                let frame = std::task::ready!(Pin::new(&mut relayed.incoming).poll_frame(cx));
                relayed.note(frame.as_ref());
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local { bytes, trailers } => bytes.is_none() && trailers.is_none(),
            Self::Upstream(relayed) => !relayed.announced && relayed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local { bytes, trailers: None } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Local { .. } | Self::Upstream(_) => SizeHint::default(),
        }
    }
}
