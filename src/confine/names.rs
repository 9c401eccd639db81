//! The names that were asked for, and the addresses that were handed out for them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{confine::plan::AddressPlan, model::Host};

/// The names that were asked for, and the addresses that were handed out for them. Nothing is resolved here: the name
/// itself is what the proxy is asked to dial, and a question about a name leaves the machine only then.
#[derive(Debug, Default)]
pub struct Names {
    slots: Vec<Box<str>>,
    by_name: HashMap<Box<str>, u32>,
    /// Who goes when there is no room.
    next: usize,
}

impl Names {
    /// The addresses for `name` (lower case, without the root dot): the same ones as before, or new ones.
    pub(super) fn addresses(&mut self, name: &str) -> (Ipv4Addr, Ipv6Addr) {
        if let Some(slot) = self.by_name.get(name) {
            return AddressPlan::of_slot(*slot);
        }
        let name: Box<str> = name.into();
        let slot = if self.slots.len() < MOST_NAMES {
            self.slots.push(name.clone());
            self.slots.len() - 1
        } else {
            let slot = self.next;
            self.next = (slot + 1) % MOST_NAMES;
            let gone = std::mem::replace(&mut self.slots[slot], name.clone());
            self.by_name.remove(&gone);
            slot
        };
        let slot = slot as u32;
        self.by_name.insert(name, slot);
        AddressPlan::of_slot(slot)
    }

    /// Whom an address stands for: the name that it was handed out for, or itself. `None` for an address of our own
    /// plan that nobody was given.
    pub(super) fn host(&self, address: IpAddr) -> Option<Host> {
        let address = address.to_canonical();
        if !AddressPlan::contains(address) {
            return Some(Host::Ip(address));
        }
        let slot = usize::try_from(AddressPlan::slot_of(address)?).ok()?;
        self.slots.get(slot).map(|name| Host::Domain(name.clone()))
    }

    /// How many names are known.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nobody has asked for a name yet.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// Names remembered at once; a session asks for a few dozen. The oldest goes first, long after its answer has expired
/// unless somebody floods; at 253 bytes each and twice they take 16 MiB.
const MOST_NAMES: usize = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address() {
        let mut names = Names::default();

        let first = names.addresses("api.example");
        let other = names.addresses("other.example");

        assert_eq!(names.addresses("api.example"), first);
        assert_ne!(first, other);
        assert_eq!(names.host(first.0.into()), Some(Host::Domain("api.example".into())));
        assert_eq!(names.host(other.1.into()), Some(Host::Domain("other.example".into())));
    }

    #[test]
    fn literals_stand_for_themselves_and_unknown_addresses_of_ours_for_nobody() {
        let names = Names::default();

        assert_eq!(names.host("8.8.8.8".parse().unwrap()), Some(Host::Ip("8.8.8.8".parse().unwrap())));
        assert_eq!(names.host("198.18.7.7".parse().unwrap()), None);
        assert_eq!(names.host("::ffff:198.18.7.7".parse().unwrap()), None);
    }

    #[test]
    fn a_flood_of_names_takes_bounded_memory() {
        let mut names = Names::default();

        for number in 0..MOST_NAMES + 10 {
            names.addresses(&format!("{number}.example"));
        }

        assert_eq!(names.len(), MOST_NAMES);
        assert_eq!(names.by_name.len(), MOST_NAMES);
        let (last, _) = names.addresses(&format!("{}.example", MOST_NAMES + 9));
        assert_eq!(names.host(last.into()), Some(Host::Domain(format!("{}.example", MOST_NAMES + 9).into())));
    }
}
