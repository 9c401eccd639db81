//! Every method at every place of a request's head: path, query, header and trailer fields.

use super::*;

/// A place in a request: how a value is put there, and what is read there afterwards.
struct HeadPlace {
    name: &'static str,
    put: fn(&mut CapturedRequest, &str),
    read: fn(&RewrittenRequest) -> Option<String>,
    /// Whether it is a name's value rather than a part of some text.
    is_whole: bool,
}

const PLACES: [HeadPlace; 7] = [
    HeadPlace {
        name: "path",
        // Segments have no names of their own.
        put: |request, value| request.head.target = format!("/x/by-{value}-it/k?k=1"),
        read: |sent| sent.target.strip_prefix("/x/")?.strip_suffix("/k?k=1").map(str::to_owned),
        is_whole: false,
    },
    HeadPlace {
        name: "query",
        put: |request, value| request.head.target = format!("/x?k=a+b&planted={value}&z=%7e"),
        read: |sent| {
            assert!(
                sent.target.starts_with("/x?k=a+b&") && sent.target.ends_with("z=%7e"),
                "{}",
                sent.target
            );
            sent.target.split('&').find_map(|pair| pair.strip_prefix("planted=")).map(str::to_owned)
        },
        is_whole: true,
    },
    HeadPlace {
        name: "text in the query",
        put: |request, value| request.head.target = format!("/x?note=by+{value}%20it&z=1"),
        read: |sent| sent.target.strip_prefix("/x?note=")?.strip_suffix("&z=1").map(str::to_owned),
        is_whole: false,
    },
    HeadPlace {
        name: "header",
        put: |request, value| _ = request.head.headers.insert("planted", value.parse().unwrap()),
        read: |sent| sent.headers.get("planted").map(|value| value.to_str().unwrap().to_owned()),
        is_whole: true,
    },
    HeadPlace {
        name: "text in a header",
        put: |request, value| {
            request.head.headers.insert("x-note", format!("by {value} it").parse().unwrap());
        },
        read: |sent| sent.headers.get("x-note").map(|value| value.to_str().unwrap().to_owned()),
        is_whole: false,
    },
    HeadPlace {
        name: "trailer",
        put: |request, value| trailer(request).insert("planted", value.parse().unwrap()).map_or((), drop),
        read: |sent| {
            let value = sent.trailers.as_ref()?.get("planted")?;
            Some(value.to_str().unwrap().to_owned())
        },
        is_whole: true,
    },
    HeadPlace {
        name: "text in a trailer",
        put: |request, value| {
            _ = trailer(request).insert("x-note", format!("by {value} it").parse().unwrap())
        },
        read: |sent| {
            let value = sent.trailers.as_ref()?.get("x-note")?;
            Some(value.to_str().unwrap().to_owned())
        },
        is_whole: false,
    },
];

fn trailer(request: &mut CapturedRequest) -> &mut HeaderMap {
    request.trailers.get_or_insert_default()
}

/// A request in which nothing is planted.
fn request() -> CapturedRequest {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-kept", HeaderValue::from_static("kept"));
    CapturedRequest {
        id: FlowId::new(RunId::new(1).unwrap(), 1),
        head: RequestHead {
            scheme: Scheme::Https,
            authority: Authority::parse(bodies::OTHER, Some(443)).unwrap(),
            method: Method::POST,
            target: "/x".to_owned(),
            version: Version::HTTP_11,
            headers,
        },
        body: CapturedBody::Complete(Bytes::from_static(b"{\"k\":1.0}")),
        trailers: Some([("x-last".parse().unwrap(), HeaderValue::from_static("kept"))].into_iter().collect()),
    }
}

#[test]
fn every_method_changes_what_is_named_in_a_head_and_nothing_else() {
    let mut cells = 0;
    for method in METHODS {
        let redacting = redacting(method);
        for place in &PLACES {
            let about = format!("{}, {method}", place.name);
            let planted = Planted::new(method.contains("ip-prefix"), &mut Random::new(3));
            let mut request = request();
            (place.put)(&mut request, if place.is_whole { &planted.field } else { &planted.value });
            // PITFALLS 33: it is there.
            let whole = format!("{} {:?} {:?}", request.head.target, request.head.headers, request.trailers);
            assert!(planted.stands_in(whole.as_bytes()), "{about}");

            let inspection = inspect(&redacting, request.clone());

            let Forward::Rewritten(sent) = &inspection.forward else {
                panic!("{about}: {:?} because of {:?}", inspection.forward, inspection.error)
            };
            let whole = format!("{} {:?} {:?}", sent.target, sent.headers, sent.trailers);
            assert!(!planted.stands_in(whole.as_bytes()), "{about}: {whole}");
            assert_eq!(sent.body, None, "{about}");
            assert_eq!(sent.headers["x-kept"], "kept", "{about}");
            assert_eq!(sent.headers["content-type"], "application/json", "{about}");
            assert_eq!(sent.trailers.as_ref().unwrap()["x-last"], "kept", "{about}");
            let left = (place.read)(sent);
            let goes = method.contains("null") || method.contains("remove");
            let fits = match &left {
                // A segment or a line cannot be left out, or not be empty.
                None => goes,
                Some(left) if goes => left.is_empty() || left == "REDACTED",
                Some(left) if place.is_whole => planted.is_result(method, left.as_bytes()),
                Some(left) => left.starts_with("by") && left.ends_with("it") && left.len() > 6,
            };
            assert!(fits, "{about}: {left:?}");
            let mut again = request;
            again.head.target.clone_from(&sent.target);
            again.head.headers.clone_from(&sent.headers);
            again.trailers.clone_from(&sent.trailers);
            let again = inspect(&redacting, again);
            assert_eq!((&again.forward, again.error.as_deref()), (&Forward::Original, None), "{about}");
            cells += 1;
        }
    }

    assert_eq!(cells, 11 * 7);
}
