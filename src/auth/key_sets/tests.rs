use super::*;
use crate::auth::fixtures::{Shelf, Signer};
use serde_json::json;

const ES256: Algorithm = Algorithm::ES256;

async fn set(shelf: &Shelf) -> Arc<KeySet> {
    let set = Arc::new(KeySet::new("https://issuer.example", shelf.clone()));
    set.load().await.unwrap();
    set
}

/// What so many callers get who miss the same key at the same time.
async fn crowd(set: &Arc<KeySet>, id: &'static str) -> Vec<Option<Missing>> {
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let set = Arc::clone(set);
            tokio::spawn(async move { set.find(Some(id), ES256).await.err() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.unwrap());
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn after_a_rotation_a_hundred_callers_share_one_fetch_and_none_is_refused() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let shelf = Shelf::of(&[old.jwk()]);
    let set = set(&shelf).await;
    shelf.show(&[old.jwk(), new.jwk()]);
    let outcomes = crowd(&set, "new").await;
    assert!(outcomes.iter().all(Option::is_none), "{outcomes:?}");
    assert_eq!(shelf.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn rotations_in_a_row_refuse_nobody() {
    let signers: Vec<Signer> = (0..4).map(|n| Signer::new(&n.to_string())).collect();
    let shelf = Shelf::of(&[signers[0].jwk()]);
    let set = set(&shelf).await;
    for signer in &signers[1..] {
        shelf.show(&[signer.jwk()]);
        let id = signer.jwk()["kid"].as_str().unwrap().to_owned();
        assert!(set.find(Some(&id), ES256).await.is_ok(), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_issuer_is_down_the_last_keys_stay_and_a_missed_one_is_no_callers_fault() {
    let signer = Signer::new("a");
    let shelf = Shelf::of(&[signer.jwk()]);
    let set = set(&shelf).await;
    shelf.go_down();
    assert!(!set.reload().await);
    assert!(set.find(Some("a"), ES256).await.is_ok());
    let before = shelf.fetches();
    let outcomes = crowd(&set, "b").await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Some(Missing::Unavailable))
    );
    assert_eq!(shelf.fetches(), before + 1, "a failure is shared as well");
    shelf.show(&[signer.jwk(), Signer::new("b").jwk()]);
    assert!(set.find(Some("b"), ES256).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_not_there_is_not_looked_for_again_for_a_while() {
    let shelf = Shelf::of(&[Signer::new("a").jwk()]);
    let set = set(&shelf).await;
    for _ in 0..10 {
        assert_eq!(
            set.find(Some("b"), ES256).await.err(),
            Some(Missing::Unknown)
        );
    }
    assert_eq!(shelf.fetches(), 2);
    tokio::time::sleep(ABSENT).await;
    shelf.show(&[Signer::new("b").jwk()]);
    assert!(set.find(Some("b"), ES256).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_makes_up_keys_costs_the_issuer_a_few_fetches_and_no_caller_its_new_key() {
    let shelf = Shelf::of(&[Signer::new("a").jwk()]);
    let set = set(&shelf).await;
    let mut unknown = 0;
    for made_up in 0..1000 {
        match set.find(Some(&made_up.to_string()), ES256).await.err() {
            Some(Missing::Unknown) => unknown += 1,
            other => assert_eq!(other, Some(Missing::Unavailable), "{made_up}"),
        }
    }
    assert_eq!(
        unknown, FETCHES_A_MINUTE,
        "only a fetch says what is unknown"
    );
    assert_eq!(shelf.fetches(), 1 + FETCHES_A_MINUTE);
    assert!(set.find(Some("a"), ES256).await.is_ok());
    shelf.show(&[Signer::new("new").jwk()]);
    let early = set.find(Some("new"), ES256).await.err();
    assert_eq!(early, Some(Missing::Unavailable), "it may be sent again");
    tokio::time::sleep(SPARE).await;
    assert!(set.find(Some("new"), ES256).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn made_up_keys_without_end_cost_one_fetch_in_ten_seconds() {
    let shelf = Shelf::of(&[Signer::new("a").jwk()]);
    let set = set(&shelf).await;
    for made_up in 0..3000 {
        drop(set.find(Some(&made_up.to_string()), ES256).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let fetches = shelf.fetches();
    assert!((1 + 30..=1 + 6 + 31).contains(&fetches), "{fetches}");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_when_the_caller_who_began_it_goes_away() {
    let shelf = Shelf::of(&[Signer::new("a").jwk()]);
    let set = set(&shelf).await;
    shelf.show(&[Signer::new("b").jwk()]);
    let impatient = set.find(Some("b"), ES256);
    let left = tokio::time::timeout(Duration::from_millis(1), impatient).await;
    assert!(left.is_err());
    assert!(set.find(Some("b"), ES256).await.is_ok());
    assert_eq!(shelf.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_takes_over_new_keys_although_nobody_misses_them() {
    let shelf = Shelf::of(&[Signer::new("a").jwk()]);
    let set = set(&shelf).await;
    let refreshed = Arc::clone(&set);
    tokio::spawn(async move { refreshed.refresh(Duration::from_secs(600)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    shelf.show(&[Signer::new("b").jwk()]);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert!(set.known(Some("b"), ES256).is_some());
    assert!(
        set.known(Some("a"), ES256).is_none(),
        "a withdrawn key is gone"
    );
}

#[tokio::test]
async fn a_token_without_the_id_of_its_key_is_good_if_there_is_no_choice() {
    let (one, two) = (Signer::new("1"), Signer::new("2"));
    let alone = set(&Shelf::of(&[one.jwk()])).await;
    assert!(alone.known(None, ES256).is_some());
    let both = set(&Shelf::of(&[one.jwk(), two.jwk()])).await;
    assert!(both.known(None, ES256).is_none());
}

#[test]
fn keys_for_other_uses_and_shared_secrets_are_passed_over() {
    let good = Signer::new("a").jwk();
    let with = |name: &str, value: serde_json::Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let unusable = [
        json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}),
        json!({"kty": "RSA", "kid": "a", "e": "AQAB", "n": short}),
        json!({"kty": "new", "kid": "a"}),
        json!("no key"),
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("HS256")),
        with("alg", json!("ES384")),
        with("crv", json!("P-521")),
    ];
    for key in &unusable {
        assert!(usable(key.clone()).is_none(), "{key}");
    }
    let mixed = json!({ "keys": [&unusable[0], &good] }).to_string();
    let keys = read(mixed.as_bytes()).unwrap();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].fits(ES256) && !keys[0].fits(Algorithm::HS256));
}

#[test]
fn what_is_no_set_of_keys_is_refused_with_the_reason() {
    let key = Signer::new("a").jwk();
    let many = json!({ "keys": vec![key; MAX_KEYS + 1] }).to_string();
    for (bytes, problem) in [
        ("<html>", "no key set"),
        ("{\"keys\":[]}", "no key with which"),
        (&many, "more than 100"),
    ] {
        let error = read(bytes.as_bytes()).err().unwrap();
        assert!(error.contains(problem), "{error}");
    }
}
