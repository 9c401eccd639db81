//! Packets of a confined program: whatever it writes to its device, and whatever it asks a DNS server.

use plainsight::confine::{AddressPlan, Names, Router, Verdict, answer_dns};

/// A series of packets, each behind its length in two bytes, of which the top bit says whether a connection that is
/// asked about is let in. The last one is tried as a DNS question too.
pub fn packets(mut input: &[u8]) {
    let mut router = Router::new(5000, Some(6000), 16);
    let mut now_ms = 0;
    while let Some((head, rest)) = input.split_first_chunk::<2>() {
        let head = u16::from_be_bytes(*head);
        let (packet, behind) = rest.split_at(usize::from(head & 0x7fff).min(rest.len()));
        input = behind;
        now_ms += 1000;
        route(&mut router, &mut packet.to_vec(), head & 0x8000 != 0, now_ms);
        router.expire(now_ms);
        _ = answer_dns(packet, &mut Names::default(), true);
        assert!(router.connections() <= 16);
    }
}

fn route(router: &mut Router, bytes: &mut [u8], lets_in: bool, now_ms: u64) {
    match router.route(bytes, now_ms) {
        Verdict::Answer(answer) | Verdict::Refused { answer: Some(answer), .. } => check(&answer),
        Verdict::Ask { connection, .. } => {
            let packet = if lets_in { router.admit(connection) } else { router.refuse(connection) };
            let packet = packet.expect("what was asked about is held");
            check(&packet);
            if lets_in {
                check_inward(&packet);
            }
        }
        Verdict::Forward(length) => check_inward(&bytes[..length]),
        Verdict::Drop | Verdict::Refused { answer: None, .. } => {}
    }
}

/// What goes back is a packet whose length is true.
fn check(packet: &[u8]) {
    let length = match packet[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        6 => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        other => panic!("version {other}"),
    };
    assert_eq!(length, packet.len());
}

/// What is sent on goes into the namespace and nowhere else.
fn check_inward(packet: &[u8]) {
    if packet[0] >> 4 == 4 {
        assert_eq!(packet[16..20], AddressPlan::OWN_V4.octets());
    } else {
        assert_eq!(packet[24..40], AddressPlan::OWN_V6.octets());
    }
}
