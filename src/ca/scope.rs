use std::{collections::BTreeSet, net::IpAddr};

use x509_parser::extensions::{GeneralName, NameConstraints};

use crate::{
    ca::CaError,
    model::{Authority, AuthorityPattern, Host, PatternReach},
};

/// What a CA signs for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// DNS names; each permits itself and everything below it, which is what an X.509 constraint means.
    pub names: Vec<Box<str>>,
    /// Addresses, each for itself.
    pub addresses: Vec<IpAddr>,
    /// Everything: the certificate carries no constraints, and nothing is refused.
    pub unconstrained: bool,
}

impl Scope {
    /// The smallest scope in which everything that matches one of `patterns` can be signed for.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a AuthorityPattern>) -> Self {
        let mut names: BTreeSet<Box<str>> = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        let mut unconstrained = false;
        for pattern in patterns {
            match pattern.reach() {
                PatternReach::Address(address) => drop(addresses.insert(address)),
                PatternReach::Names(name) => drop(names.insert(name.into())),
                PatternReach::Unbounded => unconstrained = true,
            }
        }
        let is_below_another =
            |name: &str| names.iter().any(|other| name != &**other && is_below(name, other));
        let names = names.iter().filter(|name| !is_below_another(name)).cloned().collect();
        Self { names, addresses: addresses.into_iter().collect(), unconstrained }
    }

    /// Whether `host` may be signed for.
    pub fn permits(&self, host: &Host) -> bool {
        self.unconstrained
            || match host {
                Host::Domain(name) => self.names.iter().any(|permitted| is_below(name, permitted)),
                Host::Ip(address) => self.addresses.contains(address),
            }
    }

    /// Whether everything in `other` may be signed for: false means that a stored CA is too narrow by now.
    pub fn covers(&self, other: &Self) -> bool {
        self.unconstrained
            || !other.unconstrained
                && other.names.iter().all(|name| self.names.iter().any(|permitted| is_below(name, permitted)))
                && other.addresses.iter().all(|address| self.addresses.contains(address))
    }

    /// The scope with names as a certificate has them.
    pub(super) fn normalised(mut self) -> Result<Self, CaError> {
        for name in &mut self.names {
            match Authority::parse(name, Some(0)).map(|authority| authority.host().clone()) {
                Ok(Host::Domain(normal)) => *name = normal,
                Ok(Host::Ip(_)) | Err(_) => return Err(CaError::ScopeName(name.escape_debug().to_string())),
            }
        }
        Ok(self)
    }

    /// The value of the nameConstraints extension, DER; `None` when there is nothing to constrain.
    ///
    /// A name type that no subtree mentions is not constrained at all, so each type is mentioned. What is to be
    /// wholly refused has one permitted name that cannot exist, rather than an empty excluded one: verifiers
    /// disagree on what the empty name matches, and some cannot parse it. Addresses are excluded as a whole per
    /// version, unless some of that version are permitted: an excluded subtree would win over them, and a
    /// permitted one refuses every other address anyway.
    pub(super) fn to_name_constraints(&self) -> Option<Vec<u8>> {
        if self.unconstrained {
            return None;
        }
        let mut permitted = vec![subtree(TAG_MAIL, NOTHING.as_bytes()), subtree(TAG_URI, NOTHING.as_bytes())];
        permitted.extend(self.names.iter().map(|name| subtree(TAG_DNS, name.as_bytes())));
        if self.names.is_empty() {
            permitted.push(subtree(TAG_DNS, NOTHING.as_bytes()));
        }
        permitted.extend(self.addresses.iter().map(|address| match address {
            IpAddr::V4(address) => subtree(TAG_ADDRESS, &[address.octets(), [0xff; 4]].concat()),
            IpAddr::V6(address) => subtree(TAG_ADDRESS, &[address.octets(), [0xff; 16]].concat()),
        }));
        let mut excluded = Vec::new();
        if !self.addresses.iter().any(IpAddr::is_ipv4) {
            excluded.push(subtree(TAG_ADDRESS, &[0; 8]));
        }
        if !self.addresses.iter().any(IpAddr::is_ipv6) {
            excluded.push(subtree(TAG_ADDRESS, &[0; 32]));
        }
        let mut value = der(0xa0, &permitted.concat());
        if !excluded.is_empty() {
            value.extend(der(0xa1, &excluded.concat()));
        }
        Some(der(DER_SEQUENCE, &value))
    }

    /// Reads the scope back from a certificate of ours.
    pub(super) fn from_name_constraints(constraints: Option<&NameConstraints<'_>>) -> Self {
        let Some(constraints) = constraints else {
            return Self { unconstrained: true, ..Self::default() };
        };
        let mut scope = Self::default();
        for subtree in constraints.permitted_subtrees.iter().flatten() {
            match subtree.base {
                GeneralName::DNSName(name) if name != NOTHING => scope.names.push(name.into()),
                GeneralName::IPAddress(bytes) => scope.addresses.extend(single_address(bytes)),
                _ => {}
            }
        }
        scope
    }
}

fn is_below(name: &str, permitted: &str) -> bool {
    name.strip_suffix(permitted).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The address of a subtree that holds only one.
fn single_address(bytes: &[u8]) -> Option<IpAddr> {
    let (address, mask) = bytes.split_at(bytes.len() / 2);
    if mask.iter().any(|byte| *byte != 0xff) {
        return None;
    }
    match address.len() {
        4 => <[u8; 4]>::try_from(address).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
        _ => None,
    }
}

fn subtree(tag: u8, base: &[u8]) -> Vec<u8> {
    der(DER_SEQUENCE, &der(tag, base))
}

/// One DER value: tag, length, content. rcgen has no URI subtrees, hence by hand.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut value = vec![tag];
    let length = content.len().to_be_bytes();
    if content.len() < 0x80 {
        value.push(length[length.len() - 1]);
    } else {
        let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
        value.push(0x80 | significant.len() as u8);
        value.extend_from_slice(significant);
    }
    value.extend_from_slice(content);
    value
}

/// A host that cannot exist (RFC 2606).
const NOTHING: &str = "nothing.invalid";
const DER_SEQUENCE: u8 = 0x30;
const TAG_MAIL: u8 = 0x81;
const TAG_DNS: u8 = 0x82;
const TAG_URI: u8 = 0x86;
const TAG_ADDRESS: u8 = 0x87;

#[cfg(test)]
mod tests {
    use x509_parser::{extensions::GeneralSubtree, prelude::FromDer};

    use super::*;

    fn scope(names: &[&str], addresses: &[&str]) -> Scope {
        Scope {
            names: names.iter().map(|name| (*name).into()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            unconstrained: false,
        }
    }

    fn host(text: &str) -> Host {
        Authority::parse(text, Some(443)).unwrap().host().clone()
    }

    #[test]
    fn a_name_permits_itself_and_what_is_below_it() {
        let scope = scope(&["api.example.com"], &["127.0.0.1"]);

        assert!(scope.permits(&host("api.example.com")));
        assert!(scope.permits(&host("a.b.api.example.com")));
        assert!(!scope.permits(&host("example.com")));
        assert!(!scope.permits(&host("evilapi.example.com")));
        assert!(scope.permits(&host("127.0.0.1")));
        assert!(!scope.permits(&host("127.0.0.2")));
        assert!(!scope.permits(&host("[::1]")));
    }

    #[test]
    fn every_kind_of_name_is_constrained() {
        // PITFALLS 12
        let der = scope(&["api.example.com"], &[]).to_name_constraints().unwrap();

        let (rest, constraints) = NameConstraints::from_der(&der).unwrap();

        let bases = |subtrees: Option<Vec<GeneralSubtree<'_>>>| {
            subtrees.unwrap().iter().map(|subtree| format!("{:?}", subtree.base)).collect::<Vec<_>>()
        };
        assert!(rest.is_empty());
        assert_eq!(
            bases(constraints.permitted_subtrees),
            [
                r#"RFC822Name("nothing.invalid")"#,
                r#"URI("nothing.invalid")"#,
                r#"DNSName("api.example.com")"#
            ]
        );
        assert_eq!(
            bases(constraints.excluded_subtrees),
            [format!("IPAddress({:?})", [0; 8]), format!("IPAddress({:?})", [0; 32])]
        );
    }

    #[test]
    fn a_scope_survives_the_certificate() {
        let many: Vec<String> = (0..40).map(|number| format!("host-{number}.example.com")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for scope in [
            scope(&["a.example", "b.example"], &["127.0.0.1", "::1"]),
            scope(&[], &["2001:db8::1"]),
            scope(&[], &[]),
            scope(&many, &[]),
        ] {
            let der = scope.to_name_constraints().unwrap();
            let (_, constraints) = NameConstraints::from_der(&der).unwrap();

            assert_eq!(Scope::from_name_constraints(Some(&constraints)), scope);
        }
    }

    #[test]
    fn patterns_make_the_smallest_scope_that_holds_them() {
        let patterns = ["*.sentry.io", "*.ingest.sentry.io", "api.example.com:443", "[::1]:4317"]
            .map(|text| AuthorityPattern::parse(text).unwrap());

        let made = Scope::from_patterns(&patterns);

        assert_eq!(made, scope(&["api.example.com", "sentry.io"], &["::1"]));
        assert!(Scope::from_patterns(&[AuthorityPattern::parse("*").unwrap()]).unconstrained);
    }

    #[test]
    fn a_wider_scope_covers_a_narrower_one_and_not_the_other_way() {
        let wide = scope(&["example.com"], &["127.0.0.1"]);
        let narrow = scope(&["api.example.com"], &[]);
        let all = Scope { unconstrained: true, ..Scope::default() };

        assert!(wide.covers(&narrow) && all.covers(&wide) && all.covers(&all));
        assert!(!narrow.covers(&wide) && !wide.covers(&all));
    }

    #[test]
    fn a_scope_name_that_is_none_is_refused() {
        for name in ["", "*.example.com", "a b", "127.0.0.1", "a..b"] {
            assert!(scope(&[name], &[]).normalised().is_err(), "{name}");
        }
        assert_eq!(&*scope(&["API.Example.com."], &[]).normalised().unwrap().names[0], "api.example.com");
    }
}
