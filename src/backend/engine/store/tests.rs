use std::ops::ControlFlow;

use super::*;
use crate::error::Error;

#[derive(Clone, PartialEq, prost::Message)]
struct Note {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    shelf: String,
}

impl Record for Note {
    const KIND: &'static str = "note";

    fn key(&self) -> String {
        self.name.clone()
    }

    fn indexes(&self) -> Vec<(String, String)> {
        vec![(format!("shelf/{}", self.shelf), self.name.clone())]
    }
}

fn note(name: &str, shelf: &str) -> Note {
    Note {
        name: name.into(),
        shelf: shelf.into(),
    }
}

async fn stores() -> (tempfile::TempDir, [Store; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = Store::open(directory.path()).unwrap();
    (directory, [on_disk, Store::in_memory().unwrap()])
}

#[tokio::test]
async fn a_record_is_found_by_its_key_and_by_its_indexes() {
    let (_directory, stores) = stores().await;
    for store in stores {
        store
            .write(|tx| {
                tx.put(&note("a", "left"))?;
                tx.put(&note("b", "left"))?;
                tx.put(&note("b", "right"))
            })
            .await
            .unwrap();
        let (got, left, right) = store
            .read(|tx| {
                Ok((
                    tx.get::<Note>("b")?,
                    tx.list_index::<Note>("shelf/left")?,
                    tx.list_index::<Note>("shelf/right")?,
                ))
            })
            .await
            .unwrap();
        assert_eq!(got, Some(note("b", "right")));
        assert_eq!(left, [note("a", "left")]);
        assert_eq!(right, [note("b", "right")]);
    }
}

#[tokio::test]
async fn a_scan_visits_a_prefix_in_order_after_a_key_and_stops_when_told() {
    let (_directory, stores) = stores().await;
    for store in stores {
        let seen = store
            .write(|tx| {
                for name in ["x/1", "x/2", "x/3", "x/4", "y/1"] {
                    tx.put(&note(name, ""))?;
                }
                let mut seen = Vec::new();
                tx.scan::<Note>("x/", Some("x/1"), |note| {
                    seen.push(note.name);
                    Ok(if seen.len() == 2 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    })
                })?;
                Ok(seen)
            })
            .await
            .unwrap();
        assert_eq!(seen, ["x/2", "x/3"]);
    }
}

#[tokio::test]
async fn a_mutation_that_fails_or_panics_leaves_nothing_and_takes_nothing_from_its_neighbours() {
    let (_directory, stores) = stores().await;
    for store in stores {
        let failing = store.write(|tx| {
            tx.put(&note("failing", ""))?;
            Err::<(), _>(Error::invalid("no"))
        });
        let panicking = store.write(|tx| {
            tx.put(&note("panicking", ""))?;
            panic!("a defect");
            #[allow(unreachable_code)]
            Ok(())
        });
        let working = store.write(|tx| tx.put(&note("working", "")));
        let (failed, panicked, worked) = tokio::join!(failing, panicking, working);
        assert_eq!(failed, Err(Error::invalid("no")));
        assert!(panicked.is_err());
        assert_eq!(worked, Ok(()));
        let left = store.read(|tx| tx.list::<Note>("")).await.unwrap();
        assert_eq!(left, [note("working", "")]);
    }
}

#[tokio::test]
async fn what_was_written_is_there_when_the_directory_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.write(|tx| tx.put(&note("a", ""))).await.unwrap();
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    let found = store.read(|tx| tx.get::<Note>("a")).await.unwrap();
    assert_eq!(found, Some(note("a", "")));
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Store::open(directory.path()).unwrap();
    let second = Store::open(directory.path()).err().unwrap();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
}

#[test]
fn a_directory_with_foreign_files_or_a_foreign_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("holiday.jpg"), "…").unwrap();
    let refused = Store::open(directory.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("proton.db"), "not a database, at all").unwrap();
    let refused = Store::open(directory.path()).err().unwrap();
    assert!(
        refused
            .to_string()
            .contains("not a database of this program"),
        "{refused}"
    );
    let kept = std::fs::read_to_string(directory.path().join("proton.db")).unwrap();
    assert_eq!(kept, "not a database, at all");
}

#[test]
fn a_path_that_cannot_be_a_directory_is_refused_with_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = Store::open(&file.path().join("state")).err().unwrap();
    assert!(refused.to_string().contains("state"), "{refused}");
}

#[tokio::test]
async fn a_database_that_is_deleted_or_replaced_is_noticed() {
    let (directory, [on_disk, in_memory]) = stores().await;
    assert_eq!(on_disk.missing().await, None);
    assert_eq!(in_memory.missing().await, None);
    let file = directory.path().join("proton.db");
    let away = directory.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    assert_eq!(on_disk.missing().await, Some("proton.db"));
    std::fs::copy(&away, &file).unwrap();
    assert_eq!(on_disk.missing().await, Some("proton.db"));
    std::fs::rename(&away, &file).unwrap();
    assert_eq!(on_disk.missing().await, None);
}

#[tokio::test]
async fn a_log_that_is_deleted_is_noticed_and_an_orderly_end_keeps_what_it_held() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.write(|tx| tx.put(&note("a", ""))).await.unwrap();
    assert_eq!(store.missing().await, None);
    std::fs::remove_file(directory.path().join("proton.db-wal")).unwrap();
    assert_eq!(store.missing().await, Some("proton.db-wal"));
    let refused = store.write(|tx| tx.put(&note("b", ""))).await.unwrap_err();
    assert!(refused.to_string().contains("proton.db-wal"), "{refused}");
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    let kept = store.read(|tx| tx.list::<Note>("")).await.unwrap();
    assert_eq!(kept, [note("a", "")]);
}

#[tokio::test]
async fn whoever_has_lost_the_lock_stores_nothing_beside_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open(directory.path()).unwrap();
    std::fs::remove_file(directory.path().join("lock")).unwrap();
    assert_eq!(first.missing().await, Some("lock"));
    let second = Store::open(directory.path()).unwrap();
    assert_eq!(first.missing().await, Some("lock"));
    let refused = first.write(|tx| tx.put(&note("a", ""))).await.unwrap_err();
    assert!(refused.to_string().contains("the file lock"), "{refused}");
    assert_eq!(second.missing().await, None);
    second.write(|tx| tx.put(&note("b", ""))).await.unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_end_comes_after_what_waits_and_leaves_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let other = store.clone();
    let waiting = store.write(|tx| tx.put(&note("a", "")));
    let (written, closed) = tokio::join!(biased; waiting, other.close());
    assert_eq!(written, Ok(()));
    assert!(closed);
    assert_eq!(names(directory.path()), ["lock", "proton.db"]);
    assert!(store.write(|tx| tx.put(&note("b", ""))).await.is_err());
    assert!(store.read(|tx| tx.list::<Note>("")).await.is_err());
    // The directory is still held.
    assert!(Store::open(directory.path()).is_err());
    drop((store, other));
    let store = Store::open(directory.path()).unwrap();
    let kept = store.read(|tx| tx.list::<Note>("")).await.unwrap();
    assert_eq!(kept, [note("a", "")]);
    drop(store);
    assert_eq!(names(directory.path()), ["lock", "proton.db"]);
}

#[tokio::test]
async fn a_store_is_for_its_owner_alone_whatever_its_directory_is() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let set = |name: &str, mode| {
        let path = directory.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(directory.path().join("buckets")).unwrap();
    set("", 0o755);
    for _ in 0..2 {
        let store = Store::open(directory.path()).unwrap();
        store.write(|tx| tx.put(&note("a", ""))).await.unwrap();
        for name in directory::DATABASE_FILES {
            let about = std::fs::metadata(directory.path().join(name)).unwrap();
            assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
        }
        drop(store);
        // As an earlier version has made it.
        set("proton.db", 0o644);
    }
}

#[test]
fn a_log_whose_database_is_empty_or_gone_is_not_written_over() {
    for empty in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("proton.db-wal");
        std::fs::write(&log, "all there is").unwrap();
        if empty {
            std::fs::write(directory.path().join("proton.db"), "").unwrap();
        }
        let refused = Store::open(directory.path()).err().unwrap();
        assert!(matches!(refused, OpenError::Orphaned(_)), "{refused}");
        let refused = Vacancy::of(directory.path()).err().unwrap();
        assert!(matches!(refused, OpenError::Orphaned(_)), "{refused}");
        assert!(Snapshot::of(directory.path()).is_err());
        assert_eq!(std::fs::read_to_string(log).unwrap(), "all there is");
    }
}

#[tokio::test]
async fn a_full_disk_is_no_defect_and_what_fits_is_still_stored() {
    let (_directory, stores) = stores().await;
    for store in stores {
        store
            .write(|tx| {
                let connection = tx.connection();
                connection
                    .query_row("PRAGMA max_page_count = 40", [], |_| Ok(()))
                    .map_err(|error| transaction::fault(&error))
            })
            .await
            .unwrap();
        let large = note("large", &"x".repeat(1 << 20));
        let error = store.write(move |tx| tx.put(&large)).await.unwrap_err();
        assert!(error.retry_after().is_some(), "{error:?}");
        store.write(|tx| tx.put(&note("small", ""))).await.unwrap();
        let left = store.read(|tx| tx.list::<Note>("")).await.unwrap();
        assert_eq!(left, [note("small", "")]);
    }
}

#[tokio::test]
async fn a_snapshot_is_read_beside_an_open_store_and_sees_what_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let put = store.write(|tx| tx.put(&note("a", "x")));
    put.await.unwrap();
    let snapshot = Snapshot::of(directory.path()).unwrap();
    let count = |snapshot: &Snapshot| snapshot.read(|tx| tx.count::<Note>("")).unwrap();
    assert_eq!(count(&snapshot), 1);
    let seen = snapshot.read(|tx| {
        let before = tx.count::<Note>("")?;
        let written = std::thread::scope(|scope| {
            let write = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(store.write(|tx| tx.put(&note("b", "x"))))
            };
            scope.spawn(write).join().unwrap()
        });
        assert_eq!(written, Ok(()));
        Ok((before, tx.count::<Note>("")?))
    });
    assert_eq!(seen, Ok((1, 1)));
    assert_eq!(count(&snapshot), 2);
}

#[tokio::test]
async fn a_store_is_empty_until_something_is_put_into_it() {
    let store = Store::in_memory().unwrap();
    let empty = || store.read(|tx| tx.is_empty());
    assert_eq!(empty().await, Ok(true));
    store.write(|tx| tx.put(&note("a", "x"))).await.unwrap();
    assert_eq!(empty().await, Ok(false));
}

#[tokio::test]
async fn it_is_counted_how_often_the_log_has_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let metrics = Metrics::new().unwrap();
    store.measured_by(&metrics);
    let counted = || {
        let read = metrics.read(&["proton_gateway_store_wal_begun_anew".to_owned()]);
        read[0].samples[0].value
    };
    assert_eq!(counted(), 0.0);
    // Each fills more than the thousand pages after which the log is copied.
    for number in 0..4 {
        let long = note(&number.to_string(), &"x".repeat(5 << 20));
        store.write(move |tx| tx.put(&long)).await.unwrap();
    }
    assert_eq!(counted(), 3.0);
    // It is the same file all the while.
    assert_eq!(store.missing().await, None);
}
