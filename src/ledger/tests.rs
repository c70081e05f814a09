use std::time::UNIX_EPOCH;

use super::*;
use crate::clock::ManualClock;
use crate::config::Span;
use crate::config::audit::Size;

const LIFETIME: Duration = Duration::from_secs(3600);
/// What a key takes that has no outcome yet.
const KEY: u64 = 512;

fn clock() -> ManualClock {
    ManualClock::starting_at(UNIX_EPOCH + Duration::from_secs(1_700_000_000))
}

/// A ledger with room for so many keys.
async fn ledger(store: Store, clock: &ManualClock, keys: u64) -> Ledger {
    let config = IdempotencyConfig {
        lifetime: Span(LIFETIME),
        max_size: Size(keys * KEY),
        ..IdempotencyConfig::default()
    };
    let clock = Arc::new(clock.clone());
    Ledger::open(store, &config, None, clock, false)
        .await
        .unwrap()
}

async fn small(clock: &ManualClock, keys: u64) -> Ledger {
    ledger(Store::in_memory().unwrap(), clock, keys).await
}

fn once(ledger: &Ledger, caller: &str, key: &str, content: &str) -> Once {
    ledger.once(caller, None, "UpdateEnvironment", key, content.as_bytes())
}

async fn begin(ledger: &Ledger, caller: &str, key: &str) -> Result<Found> {
    once(ledger, caller, key, "content").begin(Vec::new()).await
}

/// Whose limit it is, and the time until there is room.
fn limit(refused: Result<Found>) -> (&'static str, Duration) {
    match *refused.unwrap_err().kind {
        ErrorKind::Throttled {
            limit, retry_after, ..
        } => (limit, retry_after),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_caller_has_a_quarter_of_the_room_and_others_go_on() {
    let clock = clock();
    let ledger = small(&clock, 16).await;
    for key in ["1", "2", "3", "4"] {
        assert_eq!(begin(&ledger, "ci", key).await, Ok(Found::Nothing));
        clock.advance(Duration::from_secs(60));
    }
    let (limit, wait) = limit(begin(&ledger, "ci", "5").await);
    assert_eq!(limit, "idempotency/caller");
    assert_eq!(wait, LIFETIME - Duration::from_secs(240));
    assert_eq!(begin(&ledger, "cd", "5").await, Ok(Found::Nothing));
    // What is known stays known.
    assert_eq!(
        begin(&ledger, "ci", "1").await,
        Ok(Found::Begun(Vec::new()))
    );
}

#[tokio::test]
async fn all_callers_have_no_more_than_the_room() {
    let ledger = small(&clock(), 8).await;
    for caller in ["a", "b", "c", "d"] {
        for key in ["1", "2"] {
            assert_eq!(begin(&ledger, caller, key).await, Ok(Found::Nothing));
        }
    }
    let (limit, _) = limit(begin(&ledger, "e", "1").await);
    assert_eq!(limit, "idempotency/total");
}

#[tokio::test]
async fn there_is_room_again_when_the_first_keys_are_over() {
    let clock = clock();
    let ledger = small(&clock, 16).await;
    for key in ["1", "2", "3", "4"] {
        begin(&ledger, "ci", key).await.unwrap();
    }
    let (_, wait) = limit(begin(&ledger, "ci", "5").await);
    clock.advance(wait);
    for key in ["5", "6", "7", "8"] {
        assert_eq!(begin(&ledger, "ci", key).await, Ok(Found::Nothing));
    }
    limit(begin(&ledger, "ci", "9").await);
}

#[tokio::test]
async fn outcomes_take_room_as_well() {
    let ledger = small(&clock(), 16).await;
    let first = once(&ledger, "ci", "1", "content");
    first.begin(Vec::new()).await.unwrap();
    first.end(vec![0; 4096]).await.unwrap();
    let (limit, _) = limit(begin(&ledger, "ci", "2").await);
    assert_eq!(limit, "idempotency/caller");
}

#[tokio::test]
async fn a_key_that_is_forgotten_takes_no_room() {
    let ledger = small(&clock(), 4).await;
    for _ in 0..10 {
        let once = once(&ledger, "ci", "1", "content");
        assert_eq!(once.begin(vec![1]).await, Ok(Found::Nothing));
        once.end(vec![2]).await.unwrap();
        once.forget().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let ledger = small(&clock(), 64).await;
    let first = once(&ledger, "ci", "k", "content");
    first.begin(vec![1]).await.unwrap();
    let other = once(&ledger, "ci", "k", "another content");
    let mismatch = Error::idempotency_mismatch();
    assert_eq!(other.look().await, Err(mismatch.clone()));
    assert_eq!(other.begin(Vec::new()).await, Err(mismatch.clone()));
    first.end(vec![2]).await.unwrap();
    assert_eq!(other.look().await, Err(mismatch));
    assert_eq!(first.look().await, Ok(Found::Ended(vec![2])));
}

#[tokio::test]
async fn keys_are_told_apart_by_caller_upstream_rpc_and_text() {
    let ledger = small(&clock(), 64).await;
    let scope = |caller, upstream, rpc, key| ledger.once(caller, upstream, rpc, key, b"").scope();
    let scopes = [
        scope("ci", None, "A", "k"),
        scope("cd", None, "A", "k"),
        scope("ci", Some(""), "A", "k"),
        scope("ci", Some("eu"), "A", "k"),
        scope("ci", None, "B", "k"),
        scope("ci", None, "A", "K"),
        // The same letters at other places.
        scope("c", None, "iA", "k"),
        scope("ci", None, "Ak", ""),
    ];
    let different: std::collections::HashSet<_> = scopes.iter().collect();
    assert_eq!(different.len(), scopes.len());
}

#[tokio::test]
async fn a_key_is_as_old_as_its_first_call() {
    let clock = clock();
    let ledger = small(&clock, 64).await;
    let once = once(&ledger, "ci", "k", "content");
    once.begin(Vec::new()).await.unwrap();
    clock.advance(LIFETIME / 2);
    once.end(vec![1]).await.unwrap();
    clock.advance(LIFETIME / 2);
    assert_eq!(once.look().await, Ok(Found::Nothing));
}

#[tokio::test]
async fn client_tokens_are_the_same_for_the_same_key_of_the_same_ledger_alone() {
    let clock = clock();
    let store = Store::in_memory().unwrap();
    let token = |ledger: &Ledger, caller| once(ledger, caller, "k", "content").client_token();
    let (one, same) = (
        ledger(store.clone(), &clock, 64).await,
        ledger(store, &clock, 64).await,
    );
    assert_eq!(token(&one, "ci"), token(&same, "ci"));
    assert_ne!(token(&one, "ci"), token(&one, "cd"));
    let other = small(&clock, 64).await;
    assert_ne!(token(&one, "ci"), token(&other, "ci"));
    assert_eq!(token(&one, "ci").len(), 43);
}

#[tokio::test]
async fn neither_key_nor_caller_nor_request_stand_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let ledger = ledger(store, &clock(), 64).await;
    let once = once(&ledger, "caller-in-clear", "key-in-clear", "spec-in-clear");
    let evidence = once.digest(b"record-in-clear");
    once.begin(evidence).await.unwrap();
    once.end(b"outcome-as-it-is".to_vec()).await.unwrap();
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        found.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let stands = |text: &str| found.windows(text.len()).any(|it| it == text.as_bytes());
    assert!(stands("outcome-as-it-is"), "the files were not read");
    for text in [
        "caller-in-clear",
        "key-in-clear",
        "spec-in-clear",
        "record-in-clear",
    ] {
        assert!(!stands(text), "{text}");
    }
}

#[tokio::test]
async fn keys_that_are_over_take_no_room_whoever_has_used_them_and_however_many_they_are() {
    let clock = clock();
    let ledger = small(&clock, 1200).await;
    for number in 0..290 {
        begin(&ledger, "others", &number.to_string()).await.unwrap();
    }
    let last = once(&ledger, "ci", "large", "content");
    last.begin(Vec::new()).await.unwrap();
    last.end(vec![0; 1200 * 512]).await.unwrap();
    let (limit_of, _) = limit(begin(&ledger, "ci", "next").await);
    assert_eq!(limit_of, "idempotency/caller");
    clock.advance(LIFETIME);
    assert_eq!(begin(&ledger, "ci", "next").await, Ok(Found::Nothing));
}

#[tokio::test]
async fn whoever_finds_the_room_of_all_used_up_is_told_when_the_first_key_is_over() {
    let clock = clock();
    let ledger = small(&clock, 4).await;
    for caller in ["a", "b", "c", "d"] {
        begin(&ledger, caller, "1").await.unwrap();
        clock.advance(Duration::from_secs(60));
    }
    let (limit_of, wait) = limit(begin(&ledger, "e", "1").await);
    assert_eq!(limit_of, "idempotency/total");
    assert_eq!(wait, LIFETIME - Duration::from_secs(240));
}
