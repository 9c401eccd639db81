use super::*;

/// Attempts of SDKs that try six times and give up when they are asked to wait for longer than they have.
fn attempts(patience_secs: f64, held: bool) -> Vec<u64> {
    let refused = Refused::default();
    let begun = Instant::now();
    let mut at = Duration::ZERO;
    let mut attempts = Vec::new();
    for _ in 0..6 {
        attempts.push(at.as_secs());
        let attempt = refused.attempt(&Bytes::from_static(b"batch"), &HeaderMap::new(), begun + at);
        if held {
            at += refused.holds(&attempt, begun + at).unwrap_or_default();
        }
        at += Duration::from_millis(20);
        let RetryIn(wait) = refused.refuse(&attempt, begun + at);
        if at.as_secs_f64() + wait as f64 > patience_secs {
            break;
        }
        at += Duration::from_secs(wait);
    }
    attempts
}

#[test]
fn the_last_try_is_just_before_the_client_gives_up() {
    assert_eq!(attempts(10.0, false), [0, 2, 9]);
    assert_eq!(attempts(30.0, false), [0, 2, 9, 29]);
    assert_eq!(attempts(60.0, false), [0, 2, 9, 29, 59]);
    assert_eq!(attempts(600.0, false), [0, 2, 9, 29, 59, 89]);
}

#[test]
fn being_held_takes_no_try_from_a_client() {
    assert_eq!(attempts(30.0, true), attempts(30.0, false));
    assert_eq!(attempts(60.0, true), attempts(60.0, false));
    assert_eq!(attempts(600.0, true), attempts(600.0, false));
}

#[test]
fn a_batch_is_held_in_what_may_be_its_last_try_and_not_before() {
    let refused = Refused::default();
    let begun = Instant::now();
    let at = |secs| {
        let arrived = begun + Duration::from_secs(secs);
        (refused.attempt(&Bytes::from_static(b"batch"), &HeaderMap::new(), arrived), arrived)
    };
    let held = |secs| {
        let (attempt, now) = at(secs);
        refused.holds(&attempt, now)
    };

    let unknown = held(9);
    let (first, now) = at(0);
    refused.refuse(&first, now);

    assert_eq!(unknown, None);
    assert_eq!((held(2), held(9)), (None, Some(HELD_UNTOLD)));
    let another = refused.attempt(&Bytes::from_static(b"another"), &HeaderMap::new(), now);
    assert_eq!(refused.holds(&another, now + Duration::from_secs(9)), None);
}

#[test]
fn a_client_of_grpc_is_answered_before_it_stops_waiting() {
    let refused = Refused::default();
    let now = Instant::now();
    let attempt = |timeout: &str| {
        let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), timeout.parse().unwrap())]);
        refused.attempt(&Bytes::from_static(b"batch"), &headers, now)
    };

    assert_eq!(refused.holds(&attempt("10S"), now), Some(Duration::from_secs(9)));
    assert_eq!(refused.holds(&attempt("1H"), now), Some(LONGEST_HELD));
    assert_eq!(refused.holds(&attempt("900m"), now), None);
    assert_eq!(refused.refuse(&attempt("5S"), now + Duration::from_secs(1)), RetryIn(1));
    assert_eq!(refused.refuse(&attempt("60S"), now + Duration::from_secs(3)), RetryIn(6));
    assert_eq!(refused.refuse(&attempt("9S"), now + Duration::from_secs(3)), RetryIn(5));
}

#[test]
fn what_is_no_timeout_is_none() {
    for text in ["", "S", "10", "10x", "123456789S", "-1S", "1é"] {
        assert_eq!(grpc_timeout(text), None, "{text:?}");
    }
    assert_eq!(grpc_timeout("99999999H"), Duration::from_secs(3600).checked_mul(99_999_999));
}

#[test]
fn no_more_is_remembered_than_was_said() {
    let refused = Refused::default();
    let now = Instant::now();

    for number in 0..MOST_BATCHES + 100 {
        let body = Bytes::from(number.to_string());
        refused.refuse(&refused.attempt(&body, &HeaderMap::new(), now), now);
    }

    let batches = refused.batches.lock().unwrap();
    assert_eq!((batches.first_arrival.len(), batches.order.len()), (MOST_BATCHES, MOST_BATCHES));
}

#[test]
fn a_batch_that_comes_back_after_long_begins_anew() {
    let refused = Refused::default();
    let begun = Instant::now();
    let attempt = |arrived| refused.attempt(&Bytes::from_static(b"batch"), &HeaderMap::new(), arrived);
    let late = begun + FORGOTTEN_AFTER + Duration::from_secs(1);

    let first = refused.refuse(&attempt(begun), begun);
    let again = refused.refuse(&attempt(late), late);

    assert_eq!((first, again), (RetryIn::FIRST, RetryIn::FIRST));
}

#[test]
fn a_batch_that_was_answered_is_known_no_more() {
    let refused = Refused::default();
    let begun = Instant::now();
    let attempt = refused.attempt(&Bytes::from_static(b"{}"), &HeaderMap::new(), begun);
    let later = begun + Duration::from_secs(9);

    refused.refuse(&attempt, begun);
    assert_eq!(refused.holds(&attempt, later), Some(HELD_UNTOLD));
    refused.answered(&attempt);

    assert_eq!(refused.holds(&attempt, later), None);
    assert!(refused.batches.lock().unwrap().order.is_empty());
}

/// A client that tries again has stopped waiting for the attempt before: the batch must not be sent twice.
#[tokio::test]
async fn of_two_attempts_that_are_held_the_older_one_ends() {
    let refused = Refused::default();
    let attempt = |body| refused.attempt(&Bytes::from_static(body), &HeaderMap::new(), Instant::now());
    let ends = async |held: &Held<'_>| {
        tokio::time::timeout(Duration::from_millis(20), held.superseded()).await.is_ok()
    };

    let (older, other) = (refused.held(&attempt(b"batch")), refused.held(&attempt(b"other")));
    let newer = refused.held(&attempt(b"batch"));

    assert_eq!((ends(&older).await, ends(&other).await, ends(&newer).await), (true, false, false));
    drop(older);
    let newest = refused.held(&attempt(b"batch"));
    assert!(ends(&newer).await);
    drop((newer, newest, other));
    assert!(refused.held.lock().unwrap().is_empty());
}
