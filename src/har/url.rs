use crate::model::{Authority, Scheme};

/// The parts of an absolute URL that a request is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Path and query; begins with `/`.
    pub(super) target: String,
}

/// Why a URL names no request over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UrlError {
    /// A part of it is malformed.
    Malformed(String),
    /// Something that a browser keeps for itself, such as `data:` or `blob:`.
    NotHttp(String),
}

/// Reads a URL as recorders write it. User information and fragment are left out: they are not sent.
pub(super) fn parse(url: &str) -> Result<Url, UrlError> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.split_once(':') {
            Some((scheme, _)) if is_scheme(scheme) => Err(UrlError::NotHttp(scheme.to_ascii_lowercase())),
            _ => Err(UrlError::Malformed("it has no scheme".to_owned())),
        };
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Scheme::Http,
        "https" | "wss" => Scheme::Https,
        other if is_scheme(other) => return Err(UrlError::NotHttp(other.to_owned())),
        _ => return Err(UrlError::Malformed("its scheme is none".to_owned())),
    };
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let authority = Authority::parse(authority, Some(scheme.default_port()))
        .map_err(|error| UrlError::Malformed(error.to_string()))?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok(Url { scheme, authority, target })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= 32
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> Option<(String, String)> {
        parse(url).ok().map(|url| (url.authority.to_string(), url.target))
    }

    fn some(authority: &str, target: &str) -> Option<(String, String)> {
        Some((authority.to_owned(), target.to_owned()))
    }

    #[test]
    fn a_url_is_split_into_authority_and_target() {
        assert_eq!(parts("https://a.example/b/c?d=e/f#g"), some("a.example:443", "/b/c?d=e/f"));
        assert_eq!(parts("http://a.example"), some("a.example:80", "/"));
        assert_eq!(parts("https://a.example?x=1"), some("a.example:443", "/?x=1"));
        assert_eq!(parts("HTTPS://A.Example:4318/v1/logs"), some("a.example:4318", "/v1/logs"));
        assert_eq!(parts("http://[::1]:4317/x"), some("[::1]:4317", "/x"));
        assert_eq!(parts("wss://user:secret@a.example/x"), some("a.example:443", "/x"));
    }

    #[test]
    fn what_is_not_sent_over_http_is_told_from_what_is_broken() {
        assert_eq!(parse("data:text/plain,x"), Err(UrlError::NotHttp("data".to_owned())));
        assert_eq!(parse("chrome-extension://abc/x"), Err(UrlError::NotHttp("chrome-extension".to_owned())));
        for url in ["", "/v1/logs", "https://", "https://a b/", "https://a:99999/", "1://x"] {
            assert!(matches!(parse(url), Err(UrlError::Malformed(_))), "{url}");
        }
    }
}
