/// Longest target kept in a record, in bytes. Real ones stay under 1 KiB.
const TARGET_LIMIT: usize = 4096;

/// Parameters of a query whose value opens a door, compared without case.
const CREDENTIALS: &[&str] = &[
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "client_secret",
    "code",
    "dd-api-key",
    "k",
    "key",
    "password",
    "secret",
    "sentry_key",
    "sig",
    "signature",
    "token",
];

/// A request's target as it may be kept: the values of credentials in its query become `***`.
pub(super) fn masked_target(target: &str) -> Box<str> {
    let (path, query) = match target.split_once('?') {
        None => return super::walk::cut(target, TARGET_LIMIT).into(),
        Some(parts) => parts,
    };
    let mut masked = String::with_capacity(target.len());
    masked.push_str(path);
    masked.push('?');
    for (index, parameter) in query.split('&').enumerate() {
        if index > 0 {
            masked.push('&');
        }
        match parameter.split_once('=') {
            Some((name, value)) if is_credential(name) && !value.is_empty() => {
                masked.push_str(name);
                masked.push_str("=***");
            }
            _ => masked.push_str(parameter),
        }
    }
    super::walk::cut(&masked, TARGET_LIMIT).into()
}

fn is_credential(name: &str) -> bool {
    // A name may be written with percent signs; what cannot be read plainly counts as a credential.
    name.contains('%') || CREDENTIALS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_query_are_masked() {
        assert_eq!(&*masked_target("/v1/rgstr?k=client-abc&st=javascript"), "/v1/rgstr?k=***&st=javascript");
        assert_eq!(&*masked_target("/a?DD-API-KEY=x&b&Token=y="), "/a?DD-API-KEY=***&b&Token=***");
        assert_eq!(&*masked_target("/a?%6b=client-abc"), "/a?%6b=***");
        assert_eq!(&*masked_target("/a?beta=true"), "/a?beta=true");
        assert_eq!(&*masked_target("/a"), "/a");
    }

    #[test]
    fn a_long_target_is_cut_between_characters() {
        let target = format!("/{}", "é".repeat(5000));

        assert!(masked_target(&target).len() <= TARGET_LIMIT);
    }
}
