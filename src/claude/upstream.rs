use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    claude::{ClaudeError, Environment, NoProxy, text},
    model::{Authority, Scheme, Secret},
};

/// The proxies that the user had before us, and whom they are not for. They become our upstream, for tunnels too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamProxies {
    for_http: Option<UpstreamProxy>,
    for_https: Option<UpstreamProxy>,
    no_proxy: NoProxy,
}

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamProxy {
    scheme: Scheme,
    authority: Authority,
    authorization: Option<Secret<String>>,
}

impl UpstreamProxies {
    /// Reads the variables.
    ///
    /// The first that is not empty counts. For TLS and for tunnels: `https_proxy`, `HTTPS_PROXY`, `all_proxy`,
    /// `ALL_PROXY`; for cleartext `http_proxy`, `HTTP_PROXY`, `all_proxy`, `ALL_PROXY`; then `no_proxy`,
    /// `NO_PROXY`. Lower case first, as curl and Go do.
    ///
    /// # Errors
    /// [`ClaudeError::UnsupportedProxy`] for a SOCKS proxy, [`ClaudeError::ProxyUrl`] for what is no URL.
    pub fn from_environment(environment: &Environment) -> Result<Self, ClaudeError> {
        let proxy = |names: [&'static str; 4]| {
            let found = names.into_iter().find_map(|name| Some((name, text(environment, name)?)));
            found.map(|(name, url)| UpstreamProxy::parse(name, url)).transpose()
        };
        let no_proxy = text(environment, "no_proxy").or_else(|| text(environment, "NO_PROXY"));
        Ok(Self {
            for_http: proxy(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?,
            for_https: proxy(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            no_proxy: NoProxy::parse(no_proxy.unwrap_or_default()),
        })
    }

    /// The proxy to ask for `authority`; `None` when it is to be dialled directly.
    pub fn choose(&self, scheme: Scheme, authority: &Authority) -> Option<&UpstreamProxy> {
        let proxy = match scheme {
            Scheme::Http => self.for_http.as_ref(),
            Scheme::Https => self.for_https.as_ref(),
        };
        proxy.filter(|_| !self.no_proxy.matches(authority))
    }

    /// Whether there is any proxy at all.
    pub const fn is_empty(&self) -> bool {
        self.for_http.is_none() && self.for_https.is_none()
    }
}

impl UpstreamProxy {
    fn parse(variable: &'static str, url: &str) -> Result<Self, ClaudeError> {
        let error = |why| ClaudeError::ProxyUrl { variable, why };
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".to_owned(), url),
        };
        let scheme = match scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => {
                return Err(ClaudeError::UnsupportedProxy {
                    variable,
                    scheme: scheme.escape_debug().to_string(),
                });
            }
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user_information, host) = match rest.rsplit_once('@') {
            Some((user_information, host)) => (Some(user_information), host),
            None => (None, rest),
        };
        let authority = Authority::parse(host, Some(scheme.default_port()))
            .map_err(|_| error("the host, or its port, cannot be read"))?;
        let authorization = user_information.map(|text| {
            let (user, password) = text.split_once(':').unwrap_or((text, ""));
            let credentials = [&*percent_decode(user), b":", &*percent_decode(password)].concat();
            Secret::new(format!("Basic {}", STANDARD.encode(credentials)))
        });
        Ok(Self { scheme, authority, authorization })
    }

    /// How the proxy itself is spoken to: `Https` means TLS to the proxy, before any CONNECT.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where the proxy is.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The value of `Proxy-Authorization`, if the user had credentials for it.
    pub const fn authorization(&self) -> Option<&Secret<String>> {
        self.authorization.as_ref()
    }
}

/// Decodes `%XX`; what is no such escape stays, since people forget to encode passwords.
fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn choose(variables: &[(&str, &str)], scheme: Scheme, authority: &str) -> Option<String> {
        let proxies = UpstreamProxies::from_environment(&environment(variables)).unwrap();
        let authority = Authority::parse(authority, None).unwrap();
        proxies.choose(scheme, &authority).map(|proxy| proxy.authority().to_string())
    }

    #[test]
    fn the_user_s_proxy_is_found_with_its_credentials() {
        // PITFALLS 17
        let password = "p%40ss%3Aword%2f".to_owned();
        let variables = [("HTTPS_PROXY", format!("http://corp%5Cjo:{password}@proxy.corp.example:3128/"))];
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();

        let proxies = UpstreamProxies::from_environment(&environment(&variables)).unwrap();

        let proxy = proxies.choose(Scheme::Https, &Authority::parse("a.example:443", None).unwrap()).unwrap();
        assert_eq!(proxy.authority().to_string(), "proxy.corp.example:3128");
        let expected = format!("Basic {}", STANDARD.encode("corp\\jo:p@ss:word/"));
        assert_eq!(proxy.authorization().unwrap().expose(), &expected);
        assert!(!format!("{proxies:?}").contains(&expected));
    }

    #[test]
    fn the_user_s_no_proxy_still_counts() {
        // PITFALLS 17
        let variables = [("https_proxy", "http://p:1"), ("NO_PROXY", "internal.example")];

        assert_eq!(choose(&variables, Scheme::Https, "a.example:443").as_deref(), Some("p:1"));
        assert_eq!(choose(&variables, Scheme::Https, "git.internal.example:443"), None);
    }

    #[test]
    fn lower_case_comes_first_and_all_proxy_last() {
        let both = [("HTTPS_PROXY", "upper:1"), ("https_proxy", "lower:1"), ("ALL_PROXY", "all:1")];
        let all = [("https_proxy", ""), ("ALL_PROXY", "all:1")];

        assert_eq!(choose(&both, Scheme::Https, "a.example:443").as_deref(), Some("lower:1"));
        assert_eq!(choose(&both, Scheme::Http, "a.example:80").as_deref(), Some("all:1"));
        assert_eq!(choose(&all, Scheme::Https, "a.example:443").as_deref(), Some("all:1"));
        assert_eq!(choose(&[], Scheme::Https, "a.example:443"), None);
    }

    #[test]
    fn a_url_may_leave_things_out() {
        let parse = |url| UpstreamProxy::parse("HTTPS_PROXY", url).unwrap();

        assert_eq!(parse("proxy").authority().to_string(), "proxy:80");
        assert_eq!(parse("HTTPS://proxy").authority().to_string(), "proxy:443");
        assert_eq!(parse("https://proxy").scheme(), Scheme::Https);
        assert_eq!(parse("http://[::1]:3128").authority().to_string(), "[::1]:3128");
        assert!(parse("http://proxy:1").authorization().is_none());
    }

    #[test]
    fn socks_is_refused_by_name_and_without_the_password() {
        let error =
            UpstreamProxies::from_environment(&environment(&[("ALL_PROXY", "socks5h://jo:geheim@p:1080")]))
                .unwrap_err();

        assert!(error.to_string().contains("`ALL_PROXY` names a `socks5h` proxy"), "{error}");
        assert!(!format!("{error} {error:?}").contains("geheim"));
    }

    #[test]
    fn a_broken_url_is_refused_without_the_password() {
        for url in
            ["http://", "http://jo:geheim@a b:1", "http://jo:geheim@host:99999", "http://jo:ge/heim@host:1"]
        {
            let error = UpstreamProxy::parse("HTTPS_PROXY", url).unwrap_err();

            assert!(!format!("{error} {error:?}").contains("heim"), "{error}");
        }
    }
}
