//! One request: who it is for, what is in it, a record, and then its way upstream and back.
//!
//! Known losses, all hyper's: interim answers (103 Early Hints) are dropped, HTTP/1 trailer fields that no `Trailer` names
//! or that no `TE: trailers` asked for are dropped, and fields of one name that stand apart are sent together.

mod address;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, PROXY_AUTHORIZATION, TRANSFER_ENCODING},
    request::Parts,
};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::{self, OnUpgrade},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    model::{
        Action, CapturedBody, CapturedRequest, Destination, DestinationKind, FlowId, NotInspected, Outcome,
        RequestHead, Secret,
    },
    proxy::{
        body::{Captured, Progress, RequestBody, ResponseBody, Tee, capture, drain},
        client::{Link, Next, Scope},
        connect::connect,
        engine::Engine,
        error::UpstreamError,
        flow::{Flow, Start},
        headers, probe,
        receiver::{ANSWER_TIME, Attempt, Collector, Dialect, Receiver},
        respond,
        services::{Answer, Forward, Inspected},
        survive::{Panicked, Surviving},
        upstream::{Return, Route},
        websocket::Upgrade,
    },
};

use address::{Address, address, outgoing, plain_route, target};

/// Takes a request to its answer. Never fails: what goes wrong becomes an answer and a record.
pub(crate) async fn exchange(
    scope: Arc<Scope>,
    link: Option<Arc<Link>>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, hyper::Error> {
    let start = Start::now();
    let (parts, mut body) = request.into_parts();
    let may_upgrade = parts.headers.contains_key(http::header::UPGRADE);
    let engine = &scope.engine;
    if let Some(receiver) = &scope.receiver {
        return Ok(receive(&scope, receiver, link, start, parts, body).await);
    }
    if scope.site.is_none() {
        if !is_authorised(engine.credential.as_ref(), &parts.headers) {
            let response = refuse(engine, &parts, &mut body, respond::unauthorised()).await;
            reopen(link.as_deref());
            return Ok(response);
        }
        if parts.method == Method::CONNECT {
            return Ok(Box::pin(connect(engine, link.as_deref(), &parts.uri, start)).await);
        }
        if probe::asks(&parts.uri) {
            let response = probe::status(engine);
            return Ok(refuse(engine, &parts, &mut body, response).await);
        }
        let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
        if let Some(receiver) = engine.receiver_at(authority) {
            return Ok(receive(&scope, &receiver, link, start, parts, body).await);
        }
    }
    let is_http2 = parts.version == Version::HTTP_2;
    let mut response = walk(&scope, link.clone(), start, parts, body, None).await;
    if is_http2 {
        // Says something in HTTP/1 only; HTTP/2 ends a stream by itself.
        response.headers_mut().remove(CONNECTION);
    }
    if may_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        reopen(link.as_deref());
    }
    Ok(response)
}

/// Takes what was sent to a collector to the collector.
async fn receive(
    scope: &Scope,
    receiver: &Arc<Receiver>,
    link: Option<Arc<Link>>,
    start: Start,
    mut parts: Parts,
    mut body: Incoming,
) -> Response<ResponseBody> {
    let engine = &scope.engine;
    let (dialect, is_http2) = (Dialect::of(&parts.headers), parts.version == Version::HTTP_2);
    let may_upgrade = parts.headers.contains_key(http::header::UPGRADE);
    let taken = match receiver.take(&mut parts) {
        Ok(collector) => receiver.turn().await.map(|turn| Export::new(receiver, collector, turn)),
        Err(error) => Err(error),
    };
    let mut response = match taken {
        Ok(export) => walk(scope, link.clone(), start, parts, body, Some(export)).await,
        Err(error) => {
            let message = error.to_string();
            let response = respond::text(error.status(), &message);
            engine.record_failure(None, start, None, Outcome::Refused, message);
            refuse(engine, &parts, &mut body, response).await
        }
    };
    if may_upgrade {
        reopen(link.as_deref());
    }
    if is_http2 {
        response.headers_mut().remove(CONNECTION);
    }
    dialect.translate(response)
}

/// Where a receiver sends a request, and its turn there.
struct Export {
    receiver: Arc<Receiver>,
    collector: Arc<Collector>,
    /// Once it is here whole.
    attempt: Option<Attempt>,
    _turn: OwnedSemaphorePermit,
}

fn reopen(link: Option<&Link>) {
    if let Some(link) = link {
        link.gate.reopen();
    }
}

async fn walk(
    scope: &Scope,
    link: Option<Arc<Link>>,
    start: Start,
    parts: Parts,
    mut body: Incoming,
    export: Option<Export>,
) -> Response<ResponseBody> {
    let engine = &scope.engine;
    let address = match export.as_ref().map_or_else(|| address(scope, &parts), |export| Ok(export.address()))
    {
        Ok(address) => address,
        Err(disagreement) => {
            let response = disagreement.respond(scope, start);
            return refuse(engine, &parts, &mut body, response).await;
        }
    };
    let head = RequestHead {
        scheme: address.scheme,
        authority: address.authority,
        method: parts.method.clone(),
        target: target(&parts.uri),
        version: parts.version,
        headers: parts.headers.clone(),
    };
    let destination = classify(engine, &head, export.is_some());
    let id = engine.services.audit.next_id();
    let step = Step { engine: Arc::clone(engine), link, start, id, destination, export };
    if let Some(status) = address.misdirected {
        let message = "the connection, Host and the request's own authority do not agree";
        return step
            .refuse(&head, &parts, &mut body, respond::text(status, message), message.to_owned())
            .await;
    }
    if scope.site.is_none() && step.export.is_none() && engine.keeps_in(&head.authority) {
        let response = respond::text(StatusCode::FORBIDDEN, respond::UNNAMED);
        return step.refuse(&head, &parts, &mut body, response, respond::UNNAMED.to_owned()).await;
    }
    if let Some(error) = scope.site.as_ref().and_then(|site| site.take_broken()) {
        step.record(&head, None, |flow| flow.status = Some(error.status()))
            .finish(Outcome::UpstreamFailed, Some(error.to_string()));
        return refuse(engine, &parts, &mut body, respond::upstream_failed(&error)).await;
    }
    let route = match (&step.export, &scope.site) {
        (Some(export), _) => Arc::new(export.collector.route(parts.version)),
        (None, Some(site)) => Arc::clone(&site.route),
        (None, None) => Arc::new(plain_route(engine, &head)),
    };
    if step.destination.inspected {
        step.inspected(head, route, parts, body).await
    } else {
        let inspection = &engine.services.inspection;
        let opening = inspection.uninspected(id, &head, &step.destination, start.time_ms, None);
        let kept_here = (opening.action == Action::Block).then(|| respond::kept_here(&opening.policy_row));
        let mut flow = engine.record(opening, start);
        if let Some(response) = kept_here {
            flow.status = Some(response.status());
            flow.finish(Outcome::Refused, None);
            return refuse(engine, &parts, &mut body, response).await;
        }
        let progress = Progress::new(Arc::clone(&flow.request_bytes));
        let body = RequestBody::streamed(body, Arc::clone(&progress));
        step.forward(flow, route, parts, body, progress).await
    }
}

/// A request that was captured, and everything it takes to send it.
struct Whole {
    head: RequestHead,
    route: Arc<Route>,
    parts: Parts,
    captured: CapturedBody,
    trailers: Option<HeaderMap>,
    /// What follows when the body is over the limit.
    rest: Option<Incoming>,
    /// Whether the client announced a body at all.
    announced: bool,
}

/// What the parts of one request's walk have in common.
struct Step {
    engine: Arc<Engine>,
    link: Option<Arc<Link>>,
    start: Start,
    id: FlowId,
    destination: Destination,
    /// Of a request that a receiver took.
    export: Option<Export>,
}

impl Step {
    /// Sends the request and waits for the head of the answer. Collectors get a while; the conversation takes its time.
    async fn send(
        &self,
        route: &Arc<Route>,
        request: Request<RequestBody>,
        progress: &Arc<Progress>,
    ) -> Result<(Response<Incoming>, Option<Return>), UpstreamError> {
        let Some(Export { receiver, collector, attempt, .. }) = &self.export else {
            return self.engine.upstream.send(route, request, progress).await;
        };
        if let Some(attempt) = attempt {
            let is_to_go = tokio::select! {
                is_to_go = receiver.hold(attempt, collector, route) => is_to_go,
                () = self.engine.stopped() => true,
            };
            if !is_to_go {
                return Err(UpstreamError::Timeout(route.authority.clone()));
            }
        }
        let answer = timeout(ANSWER_TIME, collector.upstream.send(route, request, progress)).await;
        let answer = answer.unwrap_or_else(|_| Err(UpstreamError::Timeout(route.authority.clone())));
        if let (Ok(_), Some(attempt)) = (&answer, attempt) {
            receiver.answered(attempt);
        }
        answer
    }

    /// The status that says `error` to the client; a collector's is always one to try again after.
    fn status_of(&self, error: &UpstreamError) -> StatusCode {
        if self.export.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { error.status() }
    }

    /// Says to the client that it is to keep what it sent, and for how long.
    fn kept_there(&self, status: StatusCode, message: &str) -> Response<ResponseBody> {
        let mut response = respond::text(status, message);
        if let Some(Export { receiver, attempt: Some(attempt), .. }) = &self.export {
            response.extensions_mut().insert(receiver.refuse(attempt));
        }
        response
    }

    /// Captures a request, then inspects and records it, and only then sends it.
    async fn inspected(
        self,
        head: RequestHead,
        route: Arc<Route>,
        parts: Parts,
        body: Incoming,
    ) -> Response<ResponseBody> {
        let announced = !body.is_end_stream();
        let (captured, trailers, rest) = match capture(body, self.engine.limits.body).await {
            Captured::Complete(bytes, trailers) => (CapturedBody::Complete(bytes), trailers, None),
            Captured::OverLimit(start, rest) => (CapturedBody::OverLimit(start), None, Some(rest)),
            Captured::Broken(error) => return self.broken_request(&head, &error),
        };
        // What has arrived whole is sent on even if the client hangs up while we look at it: without us it would have
        // been out already. Clients that end do not wait for their last batch to be answered.
        let whole = Whole { head, route, parts, captured, trailers, rest, announced };
        Surviving::new(self.send_whole(whole)).await.unwrap_or_else(|Panicked| {
            tracing::error!("an exchange failed on our side");
            respond::text(StatusCode::BAD_GATEWAY, "the exchange failed on our side")
        })
    }

    /// Inspects and records a captured request, and only then sends it.
    async fn send_whole(mut self, whole: Whole) -> Response<ResponseBody> {
        let Whole { head, route, mut parts, captured, trailers, rest, announced } = whole;
        let bytes = match &captured {
            CapturedBody::Complete(bytes) | CapturedBody::OverLimit(bytes) => bytes.clone(),
            CapturedBody::Streamed => Bytes::new(),
        };
        if let (Some(export), CapturedBody::Complete(bytes)) = (&mut self.export, &captured) {
            export.attempt = Some(export.receiver.attempt(bytes, &head.headers, self.start.instant));
        }
        let request =
            CapturedRequest { id: self.id, head: head.clone(), body: captured, trailers: trailers.clone() };
        let (mut flow, forward, error) = self.admit(&head, request, bytes.len()).await;
        let mut trailers = trailers;
        let bytes = match forward {
            Forward::Original => {
                flow.error = error;
                bytes
            }
            Forward::Refused(answer) => {
                flow.status = Some(answer.status);
                let response = match &error {
                    Some(error)
                        if self.export.is_some() && answer.status == StatusCode::SERVICE_UNAVAILABLE =>
                    {
                        self.kept_there(answer.status, error)
                    }
                    _ => respond::local(answer),
                };
                flow.finish(Outcome::Refused, error);
                return drained(&self.engine, rest, response).await;
            }
            Forward::Rewritten(rewritten) => {
                trailers = rewritten.trailers;
                parts.headers = rewritten.headers;
                let Some(uri) = headers::with_target(&parts.uri, &rewritten.target) else {
                    let message = "the redacted target is none that can be sent";
                    flow.status = Some(StatusCode::BAD_GATEWAY);
                    flow.finish(Outcome::Refused, Some(message.to_owned()));
                    return drained(&self.engine, rest, respond::text(StatusCode::BAD_GATEWAY, message))
                        .await;
                };
                parts.uri = uri;
                match rewritten.body {
                    Some(body) => {
                        headers::set_length(&mut parts.headers, body.len());
                        body
                    }
                    None => bytes,
                }
            }
        };
        let progress = Progress::new(Arc::clone(&flow.request_bytes));
        let body = match rest {
            Some(rest) => RequestBody::over_limit(bytes, rest, Arc::clone(&progress)),
            None => {
                let announced = announced && parts.headers.contains_key(TRANSFER_ENCODING);
                RequestBody::captured(bytes, trailers, announced, Arc::clone(&progress))
            }
        };
        self.forward(flow, route, parts, body, progress).await
    }

    /// Inspects and records; only what comes out of here may leave.
    ///
    /// When either fails on our side, telemetry stays here; what the client needs to work goes on, and says so in its
    /// record if there can be one.
    async fn admit(
        &self,
        head: &RequestHead,
        request: CapturedRequest,
        size: usize,
    ) -> (Flow, Forward, Option<String>) {
        let (inspected, mut error) = match self.inspect(request, size).await {
            Some(mut inspected) => {
                let error = inspected.error.take();
                (inspected, error)
            }
            None => {
                let error = "inspection failed on our side".to_owned();
                (self.fail(head, Some(NotInspected::InternalError)), Some(error))
            }
        };
        let Inspected { opening, forward, .. } = inspected;
        let not_inspected = opening.not_inspected;
        let closed = self.engine.services.inspection.fails_closed(&self.destination);
        let kept = (!closed).then(|| opening.clone());
        let unavailable = match self.engine.record_durably(opening, self.start).await {
            Ok(flow) => return (flow, forward, error),
            Err(unavailable) => unavailable,
        };
        error.get_or_insert(unavailable.to_string());
        if let Some(opening) = kept {
            return (self.engine.record(opening, self.start), forward, error);
        }
        let failed = self.fail(head, not_inspected);
        let forward = match forward {
            // It was to stay here anyway, and the client is told what it would have been told.
            decided @ Forward::Refused(_) => decided,
            // A collector that cannot store says so, and its client keeps what it has.
            Forward::Original | Forward::Rewritten(_) if self.export.is_some() => {
                Forward::Refused(respond::unavailable())
            }
            Forward::Original | Forward::Rewritten(_) => failed.forward,
        };
        (self.engine.record(failed.opening, self.start), forward, error)
    }

    fn fail(&self, head: &RequestHead, reason: Option<NotInspected>) -> Inspected {
        let inspection = &self.engine.services.inspection;
        inspection.failed(self.id, head, &self.destination, self.start.time_ms, reason)
    }

    /// Calls the inspector; `None` if it panicked. Large bodies leave the async workers.
    async fn inspect(&self, request: CapturedRequest, size: usize) -> Option<Inspected> {
        let (destination, time_ms) = (self.destination.clone(), self.start.time_ms);
        if size as u64 <= self.engine.limits.inline_body.get() {
            let inspection = &self.engine.services.inspection;
            return catch_unwind(AssertUnwindSafe(|| inspection.inspect(request, destination, time_ms))).ok();
        }
        let inspection = Arc::clone(&self.engine.services.inspection);
        tokio::task::spawn_blocking(move || inspection.inspect(request, destination, time_ms)).await.ok()
    }

    /// Sends the request and wraps the answer, so that its end closes the record.
    async fn forward(
        &self,
        mut flow: Flow,
        route: Arc<Route>,
        parts: Parts,
        body: RequestBody,
        progress: Arc<Progress>,
    ) -> Response<ResponseBody> {
        let is_http2 = parts.version == Version::HTTP_2;
        let upgrades = headers::asks_for_upgrade(parts.version, &parts.method, &parts.headers);
        let request = outgoing(parts, &route, upgrades, body);
        let (mut response, connection) = match self.send(&route, request, &progress).await {
            Ok(answered) => answered,
            Err(error) => return self.failed(flow, &progress, &error),
        };
        flow.status = Some(response.status());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switched(flow, response, upgrades);
        }
        let on_upgrade = response.extensions_mut().remove::<OnUpgrade>();
        drop(on_upgrade);
        let (mut head, incoming) = response.into_parts();
        if !is_http2 {
            headers::strip_response(&mut head.headers, head.status);
            head.version = Version::HTTP_11;
        }
        let announced = !is_http2 && head.headers.contains_key(CONTENT_LENGTH);
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let tee = self.tee(&head);
        let outlives_client = self.destination.inspected;
        let body = ResponseBody::relayed(incoming, flow, connection, announced, length, outlives_client, tee);
        Response::from_parts(head, body)
    }

    /// What copies the answer, if somebody learns from it.
    fn tee(&self, head: &http::response::Parts) -> Option<Tee> {
        let answers = self.engine.answers.as_ref()?;
        let destination = &self.destination.id;
        let wanted = head.status == StatusCode::OK && answers.wants(destination);
        wanted.then(|| {
            let answer = Answer {
                destination: destination.clone(),
                time_ms: self.start.time_ms,
                headers: head.headers.clone(),
                body: Bytes::new(),
            };
            Tee::new(answers, answer)
        })
    }

    /// The other side switched protocols: so do we, once the answer is out.
    fn switched(
        &self,
        flow: Flow,
        mut response: Response<Incoming>,
        upgrades: bool,
    ) -> Response<ResponseBody> {
        let Some(link) = self.link.as_ref().filter(|_| upgrades) else {
            flow.finish(Outcome::UpstreamFailed, Some("it switched protocols unasked".to_owned()));
            return respond::text(StatusCode::BAD_GATEWAY, "the other side switched protocols unasked");
        };
        link.become_next(Next::Upgrade(Upgrade::new(upgrade::on(&mut response), flow)));
        let (mut head, _) = response.into_parts();
        headers::strip_response(&mut head.headers, head.status);
        Response::from_parts(head, ResponseBody::empty())
    }

    /// No answer came: the other side failed, or the client sent what cannot be passed on.
    fn failed(&self, mut flow: Flow, progress: &Progress, error: &UpstreamError) -> Response<ResponseBody> {
        if let Some((violation, _)) = self.link.as_ref().and_then(|link| link.gate.violation()) {
            flow.status = Some(StatusCode::BAD_REQUEST);
            flow.finish(Outcome::Refused, Some(violation.to_string()));
            return respond::closing(respond::text(StatusCode::BAD_REQUEST, &violation.to_string()));
        }
        if progress.is_broken() {
            flow.finish(Outcome::ClientGone, Some("the request body broke off".to_owned()));
            return respond::closing(respond::text(StatusCode::BAD_REQUEST, "the request body broke off"));
        }
        let status = self.status_of(error);
        flow.status = Some(status);
        let outcome = match error {
            UpstreamError::Forbidden(..) => Outcome::Refused,
            _ => Outcome::UpstreamFailed,
        };
        flow.finish(outcome, Some(error.to_string()));
        self.kept_there(status, &error.to_string())
    }

    /// The client's body broke off, or was malformed; nothing was sent.
    fn broken_request(&self, head: &RequestHead, error: &hyper::Error) -> Response<ResponseBody> {
        let violation = self
            .link
            .as_ref()
            .and_then(|link| link.gate.violation())
            .map(|(violation, _)| violation.to_string());
        let outcome = if violation.is_some() { Outcome::Refused } else { Outcome::ClientGone };
        let message = violation.unwrap_or_else(|| format!("the request body broke off: {error}"));
        self.record(head, None, |flow| flow.status = Some(StatusCode::BAD_REQUEST))
            .finish(outcome, Some(message.clone()));
        respond::closing(respond::text(StatusCode::BAD_REQUEST, &message))
    }

    async fn refuse(
        &self,
        head: &RequestHead,
        parts: &Parts,
        body: &mut Incoming,
        response: Response<ResponseBody>,
        error: String,
    ) -> Response<ResponseBody> {
        self.record(head, None, |flow| flow.status = Some(response.status()))
            .finish(Outcome::Refused, Some(error));
        refuse(&self.engine, parts, body, response).await
    }

    /// Opens a record of a request whose body was not looked at.
    fn record(&self, head: &RequestHead, reason: Option<NotInspected>, note: impl FnOnce(&mut Flow)) -> Flow {
        let inspection = &self.engine.services.inspection;
        let opening = inspection.uninspected(self.id, head, &self.destination, self.start.time_ms, reason);
        let mut flow = self.engine.record(opening, self.start);
        note(&mut flow);
        flow
    }
}

/// Reads what the client is still sending, so that an early answer is not lost in a reset; a client that waits for
/// `100 Continue` is not asked to send.
async fn refuse(
    engine: &Engine,
    parts: &Parts,
    body: &mut Incoming,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    if body.is_end_stream() {
        return response;
    }
    let waits = headers::expects_continue(&parts.headers);
    let read = !waits && drain(body, engine.limits.drain, engine.limits.drain_time).await;
    if read || parts.version == Version::HTTP_2 { response } else { respond::closing(response) }
}

async fn drained(
    engine: &Engine,
    rest: Option<Incoming>,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let Some(mut rest) = rest else { return response };
    if drain(&mut rest, engine.limits.drain, engine.limits.drain_time).await {
        response
    } else {
        respond::closing(response)
    }
}

impl Export {
    fn new(receiver: &Arc<Receiver>, collector: Arc<Collector>, turn: OwnedSemaphorePermit) -> Self {
        Self { receiver: Arc::clone(receiver), collector, attempt: None, _turn: turn }
    }

    fn address(&self) -> Address {
        let authority = self.collector.authority().clone();
        Address { scheme: self.collector.scheme(), authority, misdirected: None }
    }
}

/// Says whom a request is for. What was posted to a receiver is OTLP, whatever the collector's path is called.
fn classify(engine: &Engine, head: &RequestHead, is_export: bool) -> Destination {
    let destination = engine.services.inspection.classify(head);
    if is_export && head.method == Method::POST && destination.kind != DestinationKind::Telemetry {
        let usual = RequestHead { target: USUAL_PATH.to_owned(), ..head.clone() };
        return engine.services.inspection.classify(&usual);
    }
    destination
}

/// A path of OTLP over HTTP.
const USUAL_PATH: &str = "/v1/traces";

/// Whether a client may use the proxy. Takes as long for a wrong credential as for the right one.
fn is_authorised(expected: Option<&Secret<String>>, headers: &HeaderMap) -> bool {
    let Some(expected) = expected else { return true };
    let presented =
        headers.get(PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((scheme, token)) = presented.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("basic")
        && verify_slices_are_equal(token.trim().as_bytes(), expected.expose().as_bytes()).is_ok()
}
