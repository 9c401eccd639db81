use super::*;
use crate::confine::{
    packet::{ACK, SYN},
    testing::{checksums_are_right, datagram, packet, query, segment},
};

const CLIENT: &str = "198.18.0.2:40000";
const CLIENT_V6: &str = "[fd70:6c61:696e:7300::2]:40000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn router() -> Router {
    Router::new(5000, Some(6000), 100)
}

fn ends(bytes: &mut [u8]) -> (SocketAddr, SocketAddr) {
    let packet = Packet::read(bytes).unwrap();
    let tcp = packet.tcp().unwrap();
    (
        SocketAddr::new(packet.source(), tcp.source_port),
        SocketAddr::new(packet.destination(), tcp.destination_port),
    )
}

fn ask(router: &mut Router, from: &str, to: &str) -> (u16, Target) {
    match router.route(&mut segment(address(from), address(to), SYN, b""), 0) {
        Verdict::Ask { connection, target } => (connection, target),
        other => panic!("{other:?}"),
    }
}

fn address_of(router: &mut Router, name: &str, kind: u16) -> IpAddr {
    let mut bytes = datagram(address("198.18.0.2:999"), address("198.18.0.1:53"), &query(name, kind));
    let Verdict::Answer(mut answer) = router.route(&mut bytes, 0) else { panic!("no answer") };
    let packet = Packet::read(&mut answer).unwrap();
    let (from, to, answer) = packet.udp().unwrap();
    assert_eq!((packet.source(), from, to), (address("198.18.0.1:53").ip(), 53, 999));
    match kind {
        1 => <[u8; 4]>::try_from(&answer[answer.len() - 4..]).unwrap().into(),
        _ => <[u8; 16]>::try_from(&answer[answer.len() - 16..]).unwrap().into(),
    }
}

#[test]
fn a_connection_is_turned_around_to_the_listener_and_back() {
    for (client, server, listener) in [
        (CLIENT, "203.0.113.7:443", "198.18.0.2:5000"),
        (CLIENT_V6, "[2001:db8::7]:443", "[fd70:6c61:696e:7300::2]:6000"),
    ] {
        let mut router = router();
        let (number, target) = ask(&mut router, client, server);
        assert_eq!(target, Target::Host(Authority::parse(server, None).unwrap()));

        let mut opening = router.admit(number).unwrap();
        let (peer, to) = ends(&mut opening);
        let mut answer = segment(to, peer, SYN | ACK, b"");
        let Verdict::Forward(length) = router.route(&mut answer, 1) else { panic!() };

        assert_eq!(to, address(listener));
        assert_eq!(router.connection_of(peer), Some(number));
        assert!(checksums_are_right(&opening) && checksums_are_right(&answer));
        assert_eq!(length, answer.len());
        assert_eq!(ends(&mut answer), (address(server), address(client)));
        let mut more = segment(address(client), address(server), ACK, b"hello");
        assert_eq!(router.route(&mut more, 2), Verdict::Forward(more.len()));
        assert_eq!(ends(&mut more), (peer, to));
    }
}

#[test]
fn a_name_that_was_asked_for_is_whom_the_connection_is_for() {
    let mut router = router();
    let v4 = address_of(&mut router, "api.example", 1);
    let v6 = address_of(&mut router, "api.example", 28);

    let by_v4 = ask(&mut router, CLIENT, &SocketAddr::new(v4, 443).to_string()).1;
    let by_v6 = ask(&mut router, CLIENT_V6, &SocketAddr::new(v6, 443).to_string()).1;

    assert_eq!(by_v4, Target::Host(Authority::parse("api.example:443", None).unwrap()));
    assert_eq!(by_v6, by_v4);
}

#[test]
fn a_held_packet_that_comes_again_is_not_asked_about_again() {
    let mut router = router();
    ask(&mut router, CLIENT, "203.0.113.7:443");

    let again = router.route(&mut segment(address(CLIENT), address("203.0.113.7:443"), SYN, b""), 900);

    assert_eq!(again, Verdict::Drop);
    assert_eq!(router.connections(), 1);
}

#[test]
fn a_refused_connection_is_reset_and_forgotten() {
    let mut router = router();
    let (number, _) = ask(&mut router, CLIENT, "203.0.113.7:443");

    let mut reset = router.refuse(number).unwrap();

    assert_eq!(ends(&mut reset), (address("203.0.113.7:443"), address(CLIENT)));
    assert!(Packet::read(&mut reset).unwrap().tcp().unwrap().has(RST));
    assert_eq!(router.connections(), 0);
    assert_eq!(router.admit(number), None);
}

#[test]
fn dns_over_tcp_to_any_server_is_ours() {
    assert_eq!(ask(&mut router(), CLIENT, "9.9.9.9:53").1, Target::Dns(address("9.9.9.9:53")));
}

#[test]
fn a_question_to_another_dns_server_is_answered_here_and_is_an_attempt() {
    let mut bytes = datagram(address(CLIENT), address("8.8.8.8:53"), &query("api.example", 1));

    let verdict = router().route(&mut bytes, 0);

    let Verdict::Refused { attempt, answer: Some(mut answer) } = verdict else { panic!("{verdict:?}") };
    assert_eq!((attempt.transport, attempt.authority.to_string()), (Transport::Dns, "8.8.8.8:53".to_owned()));
    assert_eq!(Packet::read(&mut answer).unwrap().source(), address("8.8.8.8:53").ip());
    assert_eq!(Attempt::to_ask(address("198.18.0.1:53")), None);
}

#[test]
fn an_address_of_ours_that_nobody_was_given_is_nobody() {
    let target = ask(&mut router(), CLIENT, "198.18.9.9:80").1;

    assert_eq!(target, Target::Nobody(address("198.18.9.9:80")));
}

#[test]
fn quic_is_refused_at_once() {
    let mut router = router();
    let to = SocketAddr::new(address_of(&mut router, "api.example", 1), 443);

    let verdict = router.route(&mut datagram(address(CLIENT), to, &[0xc0; 1200]), 0);

    let Verdict::Refused { attempt, answer } = verdict else { panic!("{verdict:?}") };
    assert_eq!(attempt.transport, Transport::Udp);
    assert_eq!(attempt.authority.to_string(), "api.example:443");
    let answer = answer.unwrap();
    assert!(checksums_are_right(&answer));
    assert_eq!((answer[9], answer[20], answer[21]), (ICMP, 3, 3));
}

#[test]
fn other_protocols_are_refused_without_an_answer() {
    let (from, to) = (address(CLIENT).ip(), address("203.0.113.7:0").ip());
    for (protocol, transport) in [(ICMP, Transport::Icmp), (132, Transport::Other(132))] {
        let mut bytes = packet(from, to, protocol, vec![8, 0, 0, 0, 0, 0, 0, 0], 2);

        let verdict = router().route(&mut bytes, 0);

        let Verdict::Refused { attempt, answer: None } = verdict else { panic!("{verdict:?}") };
        assert_eq!(attempt.transport, transport);
        assert_eq!(attempt.authority.to_string(), "203.0.113.7:0");
    }
}

#[test]
fn a_fragment_is_refused() {
    let mut bytes = segment(address(CLIENT), address("203.0.113.7:443"), SYN, b"");
    bytes[6] = 0x20;

    let verdict = router().route(&mut bytes, 0);

    assert!(
        matches!(&verdict, Verdict::Refused { attempt, .. } if attempt.transport == Transport::Fragment),
        "{verdict:?}"
    );
}

#[test]
fn a_packet_of_no_connection_is_reset() {
    let mut router = router();
    let stray = |from, to| segment(address(from), address(to), ACK, b"x");

    let outward = router.route(&mut stray(CLIENT, "203.0.113.7:443"), 0);
    let inward = router.route(&mut stray("198.18.0.2:5000", "198.18.0.3:7"), 0);

    assert!(matches!(outward, Verdict::Answer(_)), "{outward:?}");
    assert!(matches!(inward, Verdict::Answer(_)), "{inward:?}");
    assert_eq!(router.connections(), 0);
}

#[test]
fn nobody_speaks_with_the_peer_address() {
    let mut router = router();

    let verdict = router.route(&mut segment(address(CLIENT), address("198.18.0.3:80"), SYN, b""), 0);

    assert!(matches!(verdict, Verdict::Refused { answer: Some(_), .. }), "{verdict:?}");
    assert_eq!(router.connection_of(address("198.18.0.3:80")), None);
}

#[test]
fn a_connection_that_ended_on_both_sides_is_forgotten_later() {
    let mut router = router();
    let server = address("203.0.113.7:443");
    let (number, _) = ask(&mut router, CLIENT, "203.0.113.7:443");
    let (peer, listener) = ends(&mut router.admit(number).unwrap());

    let _ = router.route(&mut segment(address(CLIENT), server, FIN | ACK, b""), 1000);
    router.expire(1_000_000);
    assert_eq!(router.connections(), 1, "half-closed is open");
    let _ = router.route(&mut segment(listener, peer, FIN | ACK, b""), 2000);
    let mut last = segment(address(CLIENT), server, ACK, b"");
    assert!(
        matches!(router.route(&mut last, 2001), Verdict::Forward(_)),
        "the last acknowledgement goes through"
    );

    router.expire(2001 + LINGER_MS);
    assert_eq!(router.connections(), 1);
    router.expire(2002 + LINGER_MS);
    assert_eq!(router.connections(), 0);
}

#[test]
fn a_port_that_is_taken_again_is_a_new_connection() {
    let mut router = router();
    let (first, _) = ask(&mut router, CLIENT, "203.0.113.7:443");
    router.admit(first).unwrap();
    let _ = router.route(&mut segment(address(CLIENT), address("203.0.113.7:443"), RST, b""), 1);

    let (second, _) = ask(&mut router, CLIENT, "203.0.113.7:443");

    assert_ne!(first, second);
    assert_eq!(router.connections(), 1);
}

#[test]
fn more_connections_than_allowed_are_refused_and_recorded() {
    let mut router = Router::new(5000, None, 2);
    for port in 1..=2 {
        ask(&mut router, CLIENT, &format!("203.0.113.7:{port}"));
    }

    let verdict = router.route(&mut segment(address(CLIENT), address("203.0.113.7:3"), SYN, b""), 0);

    let Verdict::Refused { attempt, answer: Some(_) } = verdict else { panic!("{verdict:?}") };
    assert_eq!((attempt.transport, attempt.authority.port()), (Transport::Tcp, 3));
    router.refuse(1);
    ask(&mut router, CLIENT, "203.0.113.7:4");
}

#[test]
fn a_connection_from_an_address_that_is_not_the_namespaces_is_refused() {
    for (from, to) in [("[fe80::1]:7", "[fe80::2]:80"), ("127.0.0.1:7", "203.0.113.7:80")] {
        let verdict = router().route(&mut segment(address(from), address(to), SYN, b""), 0);

        assert!(matches!(verdict, Verdict::Refused { answer: Some(_), .. }), "{verdict:?}");
    }
}

#[test]
fn the_kernels_own_housekeeping_is_no_attempt() {
    let (from, to) = ("fe80::1".parse().unwrap(), "ff02::2".parse().unwrap());
    let mut bytes = packet(from, to, ICMP_V6, vec![133, 0, 0, 0, 0, 0, 0, 0], 2);

    assert_eq!(router().route(&mut bytes, 0), Verdict::Drop);
}
