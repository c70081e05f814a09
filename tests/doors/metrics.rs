//! Metrics as they are shown: what has to be counted is counted before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use proton_gateway::api::own::GetMetricsRequest;
use proton_gateway::api::own::gateway_service_client::GatewayServiceClient;
use proton_gateway::edge::health::Health;
use proton_gateway::edge::{admin, grpc_door};
use proton_gateway::telemetry::Metrics;
use tower::ServiceExt;

use super::{environment, gateway_with, waits};

#[tokio::test(start_paused = true)]
async fn what_is_counted_is_counted_before_it_is_shown() {
    let (metrics, counts) = (Metrics::new().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counting = Arc::clone(&counts);
    tokio::spawn(metrics.counted(move || {
        counting.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    }));
    let counted = async || {
        let before = counts.load(Ordering::Relaxed);
        // Shorter than it is counted without being asked for.
        tokio::time::sleep(Duration::from_secs(2)).await;
        before
    };
    let gateway = gateway_with(Ok(environment())).measured_by(metrics.clone());
    let waits = waits(gateway.clone());
    let door = grpc_door::routes(gateway, waits, Health::default()).unwrap();
    counted().await;
    let before = counted().await;
    let all = GetMetricsRequest::default();
    let mut client = GatewayServiceClient::new(door);
    client.get_metrics(all).await.unwrap();
    assert_eq!(counts.load(Ordering::Relaxed), before + 1);

    let before = counted().await;
    let pages = admin::routes(Health::default(), metrics);
    let request = Request::get("/metrics").body(axum::body::Body::empty());
    let page = pages.oneshot(request.unwrap()).await.unwrap();
    assert!(page.status().is_success());
    assert_eq!(counts.load(Ordering::Relaxed), before + 1);
}
