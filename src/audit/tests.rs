use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tower::ServiceExt;

use super::*;
use crate::api::{Request, Response, pb};
use crate::auth::Principal;
use crate::clock::ManualClock;
use crate::error::Origin;
use crate::gateway::Pipeline;

const SECRET: &str = "hunter2";

/// An audit into a file of its own.
struct Book {
    folder: tempfile::TempDir,
    audit: Audit,
    metrics: Metrics,
}

impl Book {
    fn open(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config: AuditConfig = toml::from_str(settings).unwrap();
        config.file = Some(folder.path().join("audit.log"));
        let metrics = Metrics::new().unwrap();
        // 2023-11-14T22:13:20Z
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock = Arc::new(ManualClock::starting_at(at));
        let audit = Audit::open(&config, clock, metrics.clone()).unwrap();
        Self {
            folder,
            audit,
            metrics,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    async fn records(&self) -> Vec<Value> {
        self.audit.flush().await;
        let mut records = read(&self.path());
        let mut denials = self.path().into_os_string();
        denials.push(".denials");
        if Path::new(&denials).is_file() {
            records.extend(read(Path::new(&denials)));
        }
        records
    }

    fn lost(&self, count: u32) -> bool {
        let page = self.metrics.page().unwrap();
        page.contains(&format!("proton_gateway_audit_lost_total {count}"))
    }

    /// A pipeline that is audited, over a backend that answers so.
    fn over<F>(&self, backend: impl Fn(Call) -> F + Clone + Send + Sync + 'static) -> Pipeline
    where
        F: Future<Output = Result<Reply>> + Send + 'static,
    {
        let layer = crate::pipeline::audit::AuditLayer::new(self.audit.clone());
        let stack = tower::Layer::layer(&layer, tower::service_fn(backend));
        Pipeline::new(stack)
    }
}

fn read(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn call(request: Request) -> Call {
    let peer = Peer {
        address: Some(([127, 0, 0, 1], 4711).into()),
        ..Peer::default()
    };
    let principal = Principal {
        id: "jwt:ci".to_owned(),
        method: Method::Jwt,
        ..(*Principal::anonymous()).clone()
    };
    Call {
        operation: request.operation(),
        request,
        door: Door::Grpc,
        principal: Arc::new(principal),
        upstream: None,
        demand: Default::default(),
        key: Default::default(),
        once: None,
        held: None,
        expected: Default::default(),
        identity: None,
        decision: Default::default(),
        trace: Default::default(),
        attempt: 1,
        peer: Arc::new(peer),
        request_id: "build-7".to_owned(),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

fn update() -> Call {
    call(Request::UpdateServiceInstance(
        pb::UpdateServiceInstanceRequest {
            service_name: "shop".to_owned(),
            name: "blue".to_owned(),
            spec: Some(format!("password: {SECRET}")),
            ..pb::UpdateServiceInstanceRequest::default()
        },
    ))
}

fn look() -> Call {
    call(Request::GetService(pb::GetServiceRequest {
        name: "shop".to_owned(),
    }))
}

async fn updated(_: Call) -> Result<Reply> {
    Ok(Reply {
        upstream_request_id: Some("aws-1".to_owned()),
        ..Reply::new(Response::UpdateServiceInstance(
            pb::UpdateServiceInstanceResponse::default(),
        ))
    })
}

async fn denied(_: Call) -> Result<Reply> {
    let kind = ErrorKind::AccessDenied {
        origin: Origin::Gateway,
    };
    Err(Error::new(kind, "no"))
}

#[tokio::test]
async fn a_mutation_is_put_down_with_who_what_and_how_it_ended_but_no_secret() {
    let book = Book::open("");
    book.over(updated).oneshot(update()).await.unwrap();
    let mut records = book.records().await;
    let text = std::fs::read_to_string(book.path()).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    let mut record = records.remove(0);
    assert!(records.is_empty());
    let fields = record.as_object_mut().unwrap();
    assert!(fields.remove("micros").unwrap().is_u64());
    let request = fields.remove("request").unwrap();
    assert_eq!(request["name"], "blue");
    assert_eq!(
        record,
        serde_json::json!({
            "time": "2023-11-14T22:13:20.000Z",
            "kind": "mutation",
            "phase": "ended",
            "request_id": "build-7",
            "upstream_request_id": "aws-1",
            "principal": "jwt:ci",
            "method": "jwt",
            "peer": "127.0.0.1:4711",
            "door": "grpc",
            "rpc": "UpdateServiceInstance",
            "resource": {
                "kind": "service-instance",
                "names": {"serviceName": "shop", "name": "blue"},
            },
            "outcome": "OK",
        })
    );
}

#[tokio::test]
async fn a_read_is_put_down_only_if_it_was_denied() {
    let book = Book::open("");
    let missing = |_| async { Err(Error::not_found("service", "shop")) };
    drop(book.over(missing).oneshot(look()).await);
    drop(book.over(denied).oneshot(look()).await);
    let mut poll = look();
    poll.principal = Principal::gateway();
    drop(book.over(denied).oneshot(poll).await);
    drop(book.over(denied).oneshot(update()).await);
    let records = book.records().await;
    let told: Vec<_> = records
        .iter()
        .map(|record| (record["kind"].as_str(), record["rpc"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("denial"), Some("GetService")),
            (Some("denial"), Some("UpdateServiceInstance")),
        ]
    );
    assert_eq!(records[0]["outcome"], "DENIED_BY_GATEWAY");
}

#[tokio::test]
async fn a_mutation_whose_caller_goes_away_is_put_down_as_abandoned() {
    let book = Book::open("");
    let never = |_| std::future::pending::<Result<Reply>>();
    let call = book.over(never).oneshot(update());
    assert!(tokio::time::timeout(Duration::ZERO, call).await.is_err());
    let [record] = &book.records().await[..] else {
        panic!("one record")
    };
    assert_eq!(record["outcome"], "ABANDONED");
}

#[tokio::test]
async fn where_it_blocks_the_beginning_is_on_disk_before_the_backend_is_asked() {
    let book = Book::open("blocking = true");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (path, notes) = (book.path(), Arc::clone(&seen));
    let backend = move |call| {
        notes.lock().unwrap().extend(read(&path));
        updated(call)
    };
    book.over(backend).oneshot(update()).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["phase"], "begun");
    assert_eq!(seen[0]["outcome"], Value::Null);
    let records = book.records().await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["phase"], "ended");
}

#[tokio::test]
async fn where_it_blocks_nothing_is_changed_that_cannot_be_put_down() {
    let book = Book::open("blocking = true");
    std::fs::remove_dir_all(book.folder.path()).unwrap();
    let backend = |call: Call| async move {
        assert_eq!(call.operation.name(), "GetService", "a mutation was made");
        Err(Error::not_found("service", "shop"))
    };
    let error = book.over(backend).oneshot(update()).await.unwrap_err();
    assert!(
        matches!(*error.kind, ErrorKind::Unavailable { .. }),
        "{error}"
    );
    assert!(error.message.contains("audit"), "{error}");
    let read = book.over(backend).oneshot(look()).await.unwrap_err();
    assert!(read.is_not_found(), "reads go on");
}

#[tokio::test]
async fn where_it_does_not_block_calls_go_on_and_the_next_record_says_how_many_are_lost() {
    let book = Book::open("");
    std::fs::remove_dir_all(book.folder.path()).unwrap();
    for _ in 0..2 {
        book.over(updated).oneshot(update()).await.unwrap();
    }
    book.audit.flush().await;
    assert!(book.lost(2));
    std::fs::create_dir(book.folder.path()).unwrap();
    for _ in 0..2 {
        book.over(updated).oneshot(update()).await.unwrap();
    }
    let records = book.records().await;
    assert_eq!(records[0]["lost"], 2);
    assert_eq!(records[1]["lost"], Value::Null);
}

#[tokio::test]
async fn a_full_queue_loses_records_and_counts_them_but_holds_up_nobody() {
    let book = Book::open("queue = 2");
    let room = Arc::clone(&book.audit.0.room);
    let stuck = room.try_acquire_many_owned(2).unwrap();
    book.over(updated).oneshot(update()).await.unwrap();
    assert!(book.lost(1));
    drop(stuck);
    book.over(updated).oneshot(update()).await.unwrap();
    let records = book.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["lost"], 1);
}

#[tokio::test]
async fn a_full_disk_is_a_loss_and_a_file_that_cannot_be_opened_stops_the_start() {
    let open = |path: &str| {
        let config = AuditConfig {
            file: Some(path.into()),
            blocking: true,
            ..AuditConfig::default()
        };
        let clock = Arc::new(crate::clock::SystemClock);
        Audit::open(&config, clock, Metrics::new().unwrap())
    };
    let full = open("/dev/full").unwrap();
    assert!(full.begin(&update()).await.is_err());
    let problem = open("/nowhere/audit.log").map(drop).unwrap_err();
    assert!(problem.contains("/nowhere/audit.log"), "{problem}");
}

#[tokio::test]
async fn events_and_strangers_are_put_down_too() {
    let book = Book::open("max-size = \"1KiB\"\nkeep = 3");
    let details = serde_json::json!({ "policies": 3 });
    book.audit.event("policies-reloaded", details);
    let peer = Peer::default();
    book.audit
        .unauthenticated(Door::Aws, &peer, "id-1", Some("GetService"));
    let large = serde_json::json!({ "text": "x".repeat(20_000) });
    book.audit.event("configuration-loaded", large);
    let records = book.records().await;
    assert_eq!(records[0]["event"], "policies-reloaded");
    assert_eq!(records[0]["details"]["policies"], 3);
    assert!(records[1]["details"]["omittedBytes"].is_u64());
    assert_eq!(records[2]["outcome"], "UNAUTHENTICATED");
    assert_eq!(records[2]["door"], "aws");
}

#[tokio::test]
async fn denials_push_no_other_record_out_of_its_file() {
    let book = Book::open("max-size = \"1KiB\"\nkeep = 1");
    book.audit
        .event("policies-reloaded", serde_json::Value::Null);
    for _ in 0..100 {
        let peer = Peer::default();
        book.audit.unauthenticated(Door::Aws, &peer, "id", None);
    }
    book.audit.flush().await;
    let kept = read(&book.path());
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["event"], "policies-reloaded");
}

#[tokio::test]
async fn a_denied_stream_is_put_down_by_its_own_name_and_other_errors_are_not() {
    let book = Book::open("");
    let wait = Rpc::of("WaitServiceCreated").unwrap();
    let error = denied(look()).await.unwrap_err();
    book.audit.denied(wait, &look(), &error);
    let missing = Error::not_found("service", "shop");
    book.audit.denied(wait, &look(), &missing);
    let [record] = &book.records().await[..] else {
        panic!("one record")
    };
    assert_eq!(record["rpc"], "WaitServiceCreated");
    assert_eq!(record["resource"]["names"]["name"], "shop");
}

#[tokio::test]
async fn what_an_arn_names_is_put_down_as_what_it_is() {
    let book = Book::open("");
    let request = pb::NotifyResourceDeploymentStatusChangeRequest {
        resource_arn: "arn:aws:proton:us-east-1:123456789012:environment/prod".to_owned(),
        ..Default::default()
    };
    let report = call(Request::NotifyResourceDeploymentStatusChange(request));
    drop(book.over(denied).oneshot(report).await);
    let records = book.records().await;
    assert_eq!(records[0]["resource"]["kind"], "environment");
}
