use super::lifetimes::Seconds;
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const HOST: &str = "mcp-policy-operator.mcp-policy-system.svc";
const START: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

fn usual() -> Lifetimes {
    Lifetimes::default()
}

fn lives(leaf: i64, ca: i64) -> Lifetimes {
    Lifetimes::new(Seconds(leaf), Seconds(ca)).unwrap()
}

#[test]
fn fresh_certificates_need_no_renewal() {
    let fresh = Certificates::issue(HOST, usual(), START).unwrap();
    assert_eq!(fresh.renewed(HOST, usual(), START + 1).unwrap(), None);
    assert_eq!(fresh.bundle().matches("BEGIN CERTIFICATE").count(), 1);
}

#[test]
fn the_leaf_is_renewed_at_two_thirds_of_its_life_under_the_same_ca() {
    let fresh = Certificates::issue(HOST, usual(), START).unwrap();
    assert_eq!(fresh.renewed(HOST, usual(), START + 20 * DAY - 1).unwrap(), None);
    let renewed = fresh.renewed(HOST, usual(), START + 20 * DAY).unwrap().unwrap();
    assert_ne!(renewed.leaf, fresh.leaf);
    assert_eq!(renewed.bundle(), fresh.bundle());
}

#[test]
fn the_ca_is_published_then_used_then_dropped() {
    let mut now = START + usual().ca() / 3 * 2;
    let mut old = Certificates::issue(HOST, usual(), START).unwrap();
    // The leaf is in the middle of its life throughout.
    old.leaf = old.authority.sign(HOST, usual(), now).unwrap();
    let published = old.renewed(HOST, usual(), now).unwrap().unwrap();
    assert_eq!(published.leaf, old.leaf);
    assert!(published.bundle().starts_with(&old.bundle()) && published.bundle().len() > old.bundle().len());
    assert_eq!(published.renewed(HOST, usual(), now + usual().overlap() - 1).unwrap(), None);

    now += usual().overlap();
    let switched = published.renewed(HOST, usual(), now).unwrap().unwrap();
    assert_ne!(switched.leaf, old.leaf);
    assert!(switched.bundle().contains(&old.bundle()));
    assert_eq!(switched.renewed(HOST, usual(), now + usual().overlap() - 1).unwrap(), None);

    let dropped = switched.renewed(HOST, usual(), now + usual().overlap()).unwrap().unwrap();
    assert_eq!(dropped.leaf, switched.leaf);
    assert!(!dropped.bundle().contains(&old.bundle()));
    assert_eq!(dropped.renewed(HOST, usual(), now + usual().overlap()).unwrap(), None);
}

#[test]
fn expired_certificates_are_made_anew() {
    let old = Certificates::issue(HOST, usual(), START).unwrap();
    let anew = old.renewed(HOST, usual(), START + usual().ca()).unwrap().unwrap();
    assert_ne!(anew.authority, old.authority);
}

#[test]
fn the_stored_form_is_read_back() {
    let fresh = Certificates::issue(HOST, usual(), START).unwrap();
    let stored = serde_json::to_string(&fresh).unwrap();
    assert_eq!(serde_json::from_str::<Certificates>(&stored).unwrap(), fresh);
}

#[test]
fn a_shorter_life_also_holds_for_what_was_issued_before() {
    let old = Certificates::issue(HOST, usual(), START).unwrap();
    let short = lives(3600, 3 * 3600);
    assert_eq!(old.renewed(HOST, short, START + 2399).unwrap(), None);
    let renewed = old.renewed(HOST, short, START + 2400).unwrap().unwrap();
    assert_eq!(renewed.leaf.expires, START + 2400 + 3600);
    let published = renewed.renewed(HOST, short, START + 2 * 3600).unwrap();
    // One step at a time: the leaf is due as well.
    let published = published.unwrap().renewed(HOST, short, START + 2 * 3600).unwrap().unwrap();
    assert_eq!(published.next.unwrap().expires, START + 5 * 3600);
}

/// Lives from minutes to years, and the longest time between two looks that such lives allow.
fn lifetimes() -> impl Strategy<Value = (Lifetimes, i64)> {
    let ca = prop_oneof![12 * 60..3600_i64, 3600..DAY, DAY..400 * DAY];
    ca.prop_flat_map(|ca| (300..=ca).prop_map(move |leaf| (lives(leaf, ca), (leaf / 6).min(ca / 16))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Through several rotations, looked at in irregular steps; a client learns of each bundle up to the overlap later.
    #[test]
    fn there_is_always_a_valid_leaf_that_a_late_client_trusts(
        (lifetimes, longest) in lifetimes(),
        steps in prop::collection::vec(0.0..1.0_f64, 200..300),
        late in 0.0..1.0_f64,
    ) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "parts of lengths that are far below 2^53")]
        let part = |of: i64, part: f64| (of as f64 * part) as i64;
        let lag = part(lifetimes.overlap(), late);
        let mut certificates = Certificates::issue(HOST, lifetimes, START).unwrap();
        let mut bundles = VecDeque::from([(START, certificates.bundle())]);
        let (mut now, mut rotations) = (START, 0);
        for step in steps {
            now += 1 + part(longest - 1, step);
            if let Some(renewed) = certificates.renewed(HOST, lifetimes, now).unwrap() {
                rotations += i64::from(renewed.authority != certificates.authority);
                certificates = renewed;
                bundles.push_back((now, certificates.bundle()));
            }
            let known = bundles.iter().rev().find(|(since, _)| since + lag <= now).map_or(&bundles[0].1, |(_, bundle)| bundle);
            prop_assert!(known.contains(&certificates.authority.certificate), "a late client does not know the CA");
            prop_assert!(certificates.leaf.issued <= now && now < certificates.leaf.expires, "the leaf has expired");
            prop_assert!(certificates.leaf.expires <= certificates.authority.expires);
        }
        prop_assert!(rotations >= (now - START) / lifetimes.ca());
    }
}
