use bytes::Bytes;
use http::HeaderValue;

use crate::{
    har::{RecordedBody, base64, read::RawRequest},
    model::NotInspected,
};

/// A body, and the content type it has if that is not what the request's header says.
pub(super) struct Recorded {
    pub(super) body: RecordedBody,
    pub(super) content_type: Option<HeaderValue>,
}

/// Works out what was sent from what the recorder wrote down. Three ways are in use:
///
/// - `postData.text`, as text or (`encoding: "base64"`, mitmproxy's and ours) encoded;
/// - `postData.params` without a text: a form, which is written again as a browser would send it;
/// - `_content`, where HTTP Toolkit puts bytes that are no text; `_requestBodyStatus` says that there are none.
pub(super) fn recorded(request: &RawRequest) -> Result<Recorded, String> {
    let complete = |bytes: Vec<u8>| Recorded { body: bytes_of(bytes), content_type: None };
    if let Some(content) =
        request.content.as_ref().and_then(|content| Some((content.text.as_ref()?, content)))
        && request.post_data.as_ref().is_none_or(|data| data.text.is_none())
    {
        let (text, content) = content;
        return decoded(&text.0, content.encoding.as_deref()).map(complete);
    }
    let Some(data) = &request.post_data else {
        let sent = request.body_status.is_some() || announces_a_body(request);
        let body = match sent {
            true => RecordedBody::Missing(NotInspected::NotRecorded),
            false => RecordedBody::Complete(Bytes::new()),
        };
        return Ok(Recorded { body, content_type: None });
    };
    if let Some(text) = data.text.as_ref().filter(|text| !text.0.is_empty() || data.params.is_empty()) {
        return decoded(&text.0, data.encoding.as_deref()).map(complete);
    }
    if data.params.is_empty() {
        return Ok(complete(Vec::new()));
    }
    if data.params.iter().any(|parameter| parameter.file_name.is_some() && parameter.value.is_none()) {
        return Ok(Recorded { body: RecordedBody::Missing(NotInspected::NotRecorded), content_type: None });
    }
    let mut form = String::new();
    for parameter in &data.params {
        if !form.is_empty() {
            form.push('&');
        }
        push_encoded(&mut form, &parameter.name);
        form.push('=');
        push_encoded(&mut form, parameter.value.as_deref().unwrap_or_default());
    }
    // Whatever the parts were sent as: this is what the bytes are now.
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    Ok(Recorded { body: bytes_of(form.into_bytes()), content_type: Some(content_type) })
}

fn bytes_of(bytes: Vec<u8>) -> RecordedBody {
    RecordedBody::Complete(bytes.into())
}

fn decoded(text: &[u8], encoding: Option<&str>) -> Result<Vec<u8>, String> {
    match encoding {
        None | Some("") => Ok(text.to_vec()),
        Some(word) if word.eq_ignore_ascii_case("base64") => {
            base64::decode(text).ok_or_else(|| "it is not the base64 that `encoding` says".to_owned())
        }
        Some(word) => Err(format!("encoding `{}` is not known", word.escape_debug())),
    }
}

/// Whether the request had a body by its own head. `bodySize` alone proves nothing: some recorders write there what
/// belongs to the answer.
fn announces_a_body(request: &RawRequest) -> bool {
    let header = |name: &str| {
        let mut named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.next().map(|header| header.value.trim())
    };
    if let Some(length) = header("content-length") {
        return length.parse::<u64>().is_ok_and(|length| length > 0);
    }
    let may_have_one = !matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "CONNECT");
    header("transfer-encoding").is_some() || (may_have_one && request.body_size > 0.0)
}

/// The `application/x-www-form-urlencoded` serialiser of the URL standard.
fn push_encoded(form: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b' ' => form.push('+'),
            b'*' | b'-' | b'.' | b'_' => form.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => form.push(char::from(byte)),
            byte => form.push_str(&format!("%{byte:02X}")),
        }
    }
}
