//! What was acknowledged is there, whatever the end of the process was.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_and_every_deployment_ends() {
    const ENOUGH: usize = 200;
    let (_folder, state) = state();
    let mut first = Running::on(&state).await;
    let client = first.client().await;
    publish_template(&client).await;

    let next = Arc::new(AtomicUsize::new(0));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let enough = Arc::new(Notify::new());
    // The callers go on until the process is gone, so it dies in the middle of their calls.
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let mut client = client.clone();
            let (next, acknowledged) = (next.clone(), acknowledged.clone());
            let enough = enough.clone();
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if mutate(&mut client, number).await.is_err() {
                        return;
                    }
                    let mut acknowledged = acknowledged.lock().unwrap();
                    acknowledged.push(number);
                    if acknowledged.len() == ENOUGH {
                        enough.notify_one();
                    }
                }
            })
        })
        .collect();
    tokio::time::timeout(PATIENCE, enough.notified())
        .await
        .unwrap();
    first.kill();
    for caller in callers {
        caller.await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= ENOUGH, "{}", first.log());

    let second = Running::on(&state).await;
    let mut client = second.client().await;
    let mut lost = Vec::new();
    for number in &acknowledged {
        if !is_there(&mut client, *number).await {
            lost.push(*number);
        }
    }
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged mutations are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    let environments = acknowledged.iter().filter(|n| n.is_multiple_of(2)).count();
    let ended = eventually("all deployments have ended", || {
        let mut client = client.clone();
        async move {
            let found = deployments(&mut client).await;
            let ended = |status: &pb::DeploymentStatus| {
                matches!(
                    status,
                    pb::DeploymentStatus::Succeeded | pb::DeploymentStatus::Failed
                )
            };
            found
                .iter()
                .all(|(_, status)| ended(status))
                .then_some(found.len())
        }
    })
    .await;
    assert!(
        ended >= environments,
        "{ended} deployments of {environments} environments"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_answers_what_it_has_begun_and_ends_well() {
    let (_folder, state) = state();
    let mut running = Running::on(&state).await;
    let client = running.client().await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (mut client, acknowledged) = (client.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut number = caller * 1000 + 1;
                while mutate(&mut client, number).await.is_ok() {
                    acknowledged.lock().unwrap().push(number);
                    number += 2;
                }
            })
        })
        .collect();
    eventually("some calls are answered", || async {
        (acknowledged.lock().unwrap().len() >= 20).then_some(())
    })
    .await;
    running.terminate();
    let status = running.ended().await;
    assert_eq!(status.code(), Some(0), "{}", running.log());
    assert!(!running.files.path().join("ready.json").exists());
    for caller in callers {
        caller.await.unwrap();
    }

    let again = Running::on(&state).await;
    let mut client = again.client().await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    for number in acknowledged {
        assert!(is_there(&mut client, number).await, "n{number} is lost");
    }
}
