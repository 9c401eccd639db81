//! Whom a request is for, by what it names itself, and how it is written on its way there.

use http::{Method, Request, Response, StatusCode, Uri, Version, header::HOST, request::Parts};
use hyper::upgrade::OnUpgrade;

use crate::{
    model::{Authority, Outcome, RequestHead, Scheme},
    proxy::{
        body::{RequestBody, ResponseBody},
        client::Scope,
        engine::Engine,
        flow::Start,
        headers, respond,
        upstream::{Offer, Protocol, Route, Wire},
    },
};

/// Whom a request is for.
pub(super) struct Address {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Not everything that names an authority names this one.
    pub(super) misdirected: Option<StatusCode>,
}

/// A request that names nobody.
pub(super) enum Disagreement {
    Malformed(String),
    NotASite,
}

impl Disagreement {
    pub(super) fn respond(self, scope: &Scope, start: Start) -> Response<ResponseBody> {
        let authority = scope.site.as_ref().map(|site| &site.authority);
        let (response, message) = match self {
            Self::NotASite => (respond::not_a_site(), "a request to the proxy itself".to_owned()),
            Self::Malformed(message) => (respond::text(StatusCode::BAD_REQUEST, &message), message),
        };
        scope.engine.record_failure(authority, start, None, Outcome::Refused, message);
        response
    }
}

/// Finds whom a request is for. The tunnel, the target and `Host` must agree, on every request.
pub(super) fn address(scope: &Scope, parts: &Parts) -> Result<Address, Disagreement> {
    let (scheme, expected) = match &scope.site {
        Some(site) => (site.scheme, Some(&site.authority)),
        None => match parts.uri.scheme_str() {
            Some("http") => (Scheme::Http, None),
            Some("https") => (Scheme::Https, None),
            Some(_) | None => return Err(Disagreement::NotASite),
        },
    };
    let parse = |text: &str| {
        Authority::parse(text, Some(scheme.default_port()))
            .map_err(|error| Disagreement::Malformed(format!("the request names nobody: {error}")))
    };
    let named = parts.uri.authority().map(|authority| parse(authority.as_str())).transpose()?;
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Disagreement::Malformed("more than one Host".to_owned()));
    }
    let host = match host {
        Some(host) => Some(parse(host.to_str().unwrap_or_default())?),
        None => None,
    };
    if named.is_none() && host.is_none() && parts.version != Version::HTTP_10
        || parts.version == Version::HTTP_11 && host.is_none()
    {
        return Err(Disagreement::Malformed("no Host".to_owned()));
    }
    let authority = match (expected, &named) {
        (Some(expected), _) => expected.clone(),
        (None, Some(named)) => named.clone(),
        (None, None) => return Err(Disagreement::NotASite),
    };
    let agrees = |other: &Option<Authority>| other.as_ref().is_none_or(|other| *other == authority);
    let misdirected = if !agrees(&named) || !agrees(&host) {
        Some(StatusCode::MISDIRECTED_REQUEST)
    } else if parts.method == Method::CONNECT {
        Some(StatusCode::METHOD_NOT_ALLOWED)
    } else {
        None
    };
    Ok(Address { scheme, authority, misdirected })
}

pub(super) fn target(uri: &Uri) -> String {
    uri.path_and_query().map_or("/", |target| target.as_str()).to_owned()
}

/// The route of a whole-URL request on the proxy's own port.
pub(super) fn plain_route(engine: &Engine, head: &RequestHead) -> Route {
    let wire = match head.scheme {
        Scheme::Http => engine.upstream.plain_wire(&head.authority),
        Scheme::Https => Wire::Tls,
    };
    Route { authority: head.authority.clone(), wire, protocol: Protocol::Http1, offer: Offer::Http1 }
}

/// The request as it leaves: as it came, but for what is hop-by-hop.
pub(super) fn outgoing(
    mut parts: Parts,
    route: &Route,
    upgrades: bool,
    body: RequestBody,
) -> Request<RequestBody> {
    parts.extensions.remove::<OnUpgrade>();
    headers::strip_request(&mut parts.headers, upgrades);
    if route.protocol == Protocol::Http2 {
        parts.uri = whole_uri(&parts.uri, route);
    } else if let Some(target) = parts.uri.path_and_query()
        && parts.uri.scheme().is_some()
    {
        parts.uri = Uri::from(target.clone());
    }
    Request::from_parts(parts, body)
}

/// HTTP/2 wants scheme and authority; a client that named its host by `Host` alone sent none.
fn whole_uri(uri: &Uri, route: &Route) -> Uri {
    if uri.authority().is_some() {
        return uri.clone();
    }
    let scheme = if route.wire == Wire::Tls { Scheme::Https } else { Scheme::Http };
    let authority = route.authority.to_string();
    let text = authority.strip_suffix(&format!(":{}", scheme.default_port())).unwrap_or(&authority);
    Uri::builder()
        .scheme(scheme.as_str())
        .authority(text)
        .path_and_query(target(uri))
        .build()
        .unwrap_or_else(|_| uri.clone())
}
