//! Header fields on their way through: what is between two neighbours only goes, everything else stays where it is.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};

/// Takes what is hop-by-hop out of a request. `Trailer` stays: it describes the message, and hyper sends only the
/// trailer fields that it names.
pub(crate) fn strip_request(headers: &mut HeaderMap, upgrades: bool) {
    strip(headers, upgrades);
}

/// Takes what is hop-by-hop out of an answer, and a length that a transfer coding overrides.
pub(crate) fn strip_response(headers: &mut HeaderMap, status: StatusCode) {
    strip(headers, status == StatusCode::SWITCHING_PROTOCOLS);
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        rebuild(headers, |name, value| (*name != CONTENT_LENGTH).then(|| value.clone()));
    }
}

/// Whether a request asks for another protocol that we let through. `h2c` is between neighbours, and is left out.
pub(crate) fn asks_for_upgrade(version: Version, method: &Method, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && method != Method::CONNECT
        && headers.get(UPGRADE).is_some_and(|protocol| !has_token(protocol, "h2c"))
        && headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"))
}

/// Sets the length of a body that was rewritten, where the old one stood.
pub(crate) fn set_length(headers: &mut HeaderMap, length: usize) {
    if let Some(value) = headers.get_mut(CONTENT_LENGTH) {
        *value = HeaderValue::from(length);
    }
}

/// The same URI with another path and query; `None` if they are none.
pub(crate) fn with_target(uri: &Uri, target: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Whether the client waits for a `100 Continue`.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn strip(headers: &mut HeaderMap, upgrades: bool) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut connection_kept = false;
    rebuild(headers, |name, value| match *name {
        CONNECTION if upgrades && !connection_kept => {
            connection_kept = true;
            let alone = value.as_bytes().eq_ignore_ascii_case(b"upgrade");
            Some(if alone { value.clone() } else { HeaderValue::from_static("Upgrade") })
        }
        UPGRADE if upgrades => Some(value.clone()),
        TE if has_token(value, "trailers") => {
            let alone = value.as_bytes().eq_ignore_ascii_case(b"trailers");
            Some(if alone { value.clone() } else { HeaderValue::from_static("trailers") })
        }
        _ if is_hop_by_hop(name) => None,
        // What frames a message or says where it goes is nobody's to name away.
        CONTENT_LENGTH | HOST | TRANSFER_ENCODING => Some(value.clone()),
        _ => (!named.iter().any(|hop| hop == name.as_str())).then(|| value.clone()),
    });
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        CONNECTION | TE | UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "http2-settings") || name.as_str().starts_with("proxy-"),
    }
}

/// Builds the map anew with what `keep` returns. `HeaderMap::remove` would move the last field into the gap.
fn rebuild(headers: &mut HeaderMap, mut keep: impl FnMut(&HeaderName, &HeaderValue) -> Option<HeaderValue>) {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter() {
        if let Some(value) = keep(name, value) {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    // PITFALLS 21
    #[test]
    fn hop_by_hop_fields_go_and_the_order_of_the_rest_stays() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "keep-alive, X-Hop"),
            ("a", "1"),
            ("x-hop", "1"),
            ("proxy-authorization", "x"),
            ("keep-alive", "timeout=5"),
            ("b", "2"),
            ("te", "trailers, gzip"),
            ("upgrade", "h2c"),
            ("trailer", "x-sum"),
            ("c", "3"),
        ]);

        strip_request(&mut headers, false);

        assert_eq!(names(&headers), ["host", "a", "b", "te", "trailer", "c"]);
        assert_eq!(headers["te"], "trailers");
    }

    // PITFALLS 21
    #[test]
    fn connection_cannot_name_away_what_frames_the_message() {
        let mut headers =
            map(&[("connection", "content-length, host"), ("host", "a"), ("content-length", "3")]);

        strip_request(&mut headers, false);

        assert_eq!(names(&headers), ["host", "content-length"]);
    }

    // PITFALLS 20
    #[test]
    fn an_answer_with_two_framings_keeps_the_one_that_counts() {
        let mut headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);

        strip_response(&mut headers, StatusCode::OK);

        assert_eq!(names(&headers), ["transfer-encoding"]);
    }

    #[test]
    fn a_websocket_keeps_its_upgrade() {
        let mut headers =
            map(&[("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);

        let upgrades = asks_for_upgrade(Version::HTTP_11, &Method::GET, &headers);
        strip_request(&mut headers, upgrades);

        assert!(upgrades);
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["upgrade"], "websocket");
    }
}
