//! `CONNECT host:port`: dials first, says 200 after, and then intercepts or tunnels.

use std::sync::Arc;

use http::{Response, StatusCode, Uri};
use tokio::net::TcpStream;

use crate::{
    model::{Authority, NotInspected, Outcome},
    proxy::{
        body::ResponseBody,
        client::{Link, Next},
        engine::Engine,
        error::UpstreamError,
        flow::{Flow, Start},
        intercept,
        io::{Prefixed, Stream},
        probe, respond, tunnel,
    },
};

/// What becomes of a connection after `CONNECT`.
pub(crate) enum Plan {
    /// It is intercepted. Nothing is dialled if a connection to that authority is at hand.
    Intercept { authority: Authority, dialled: Option<Stream>, start: Start },
    /// It is `doctor`'s: answered here.
    Probe,
    /// It is passed through unread.
    Tunnel { upstream: Stream, flow: Flow },
}

/// Answers `CONNECT`.
pub(crate) async fn connect(
    engine: &Engine,
    link: Option<&Link>,
    uri: &Uri,
    start: Start,
) -> Response<ResponseBody> {
    let Some(link) = link else {
        return respond::text(StatusCode::BAD_REQUEST, "CONNECT inside of HTTP/2 is not offered");
    };
    let response = match plan(engine, uri, start).await {
        Ok(plan) => {
            link.become_next(Next::Connect(plan));
            return Response::new(ResponseBody::empty());
        }
        Err(response) => response,
    };
    link.gate.reopen();
    response
}

async fn plan(engine: &Engine, uri: &Uri, start: Start) -> Result<Plan, Response<ResponseBody>> {
    let text = uri.authority().map_or("", |authority| authority.as_str());
    let authority = Authority::parse(text, None).map_err(|error| {
        let message = format!("CONNECT wants a host and a port: {error}");
        engine.record_failure(None, start, None, Outcome::Refused, message.clone());
        respond::text(StatusCode::BAD_REQUEST, &message)
    })?;
    if probe::is_probe(&authority) {
        return Ok(Plan::Probe);
    }
    if engine.keeps_in(&authority) {
        let mut flow = engine.record_tunnel(Some(&authority), start, Some(NotInspected::NotIntercepted));
        flow.status = Some(StatusCode::FORBIDDEN);
        flow.finish(Outcome::Refused, Some(respond::UNNAMED.to_owned()));
        return Err(respond::text(StatusCode::FORBIDDEN, respond::UNNAMED));
    }
    let intercepts = engine.services.inspection.intercepts(&authority);
    if intercepts && engine.upstream.has_live(&authority) {
        return Ok(Plan::Intercept { authority, dialled: None, start });
    }
    if !intercepts && let Err(row) = engine.lets_pass(&authority, start, NotInspected::NotIntercepted) {
        return Err(respond::kept_here(&row));
    }
    match engine.upstream.dial(&authority).await {
        Ok(dialled) if intercepts => Ok(Plan::Intercept { authority, dialled: Some(dialled), start }),
        Ok(upstream) => {
            let flow = engine.record_tunnel(Some(&authority), start, Some(NotInspected::NotIntercepted));
            Ok(Plan::Tunnel { upstream, flow })
        }
        Err(error) => {
            record_undialled(engine, &authority, start, &error);
            Err(respond::upstream_failed(&error))
        }
    }
}

/// Records a tunnel that could not be opened.
pub(crate) fn record_undialled(engine: &Engine, authority: &Authority, start: Start, error: &UpstreamError) {
    let mut flow = engine.record_tunnel(Some(authority), start, None);
    flow.status = Some(error.status());
    let outcome =
        if error.status() == StatusCode::FORBIDDEN { Outcome::Refused } else { Outcome::UpstreamFailed };
    flow.finish(outcome, Some(error.to_string()));
}

/// Goes on after the 200 is out.
pub(crate) async fn proceed(engine: Arc<Engine>, plan: Plan, client: Prefixed<TcpStream>) {
    match plan {
        Plan::Intercept { authority, dialled, start } => {
            intercept::intercept(engine, authority, dialled, start, client).await;
        }
        Plan::Probe => Box::pin(probe::answer(&engine, client)).await,
        Plan::Tunnel { upstream, mut flow } => {
            flow.status = Some(StatusCode::OK);
            Box::pin(tunnel::tunnel(&engine, client, upstream, flow)).await;
        }
    }
}
