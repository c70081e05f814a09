//! For operators and orchestrators: `/livez`, `/readyz`, `/healthz` and `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::health::Health;
use crate::telemetry::Metrics;

/// The pages of the admin listener.
pub fn routes(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(health.clone()))
        .route("/healthz", get(details).with_state(health))
        .route("/metrics", get(page).with_state(metrics))
}

async fn ready(State(health): State<Health>) -> Response {
    if health.is_serving() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not serving\n").into_response()
    }
}

/// The same as `/readyz`, with what it depends on.
async fn details(State(health): State<Health>) -> Response {
    let page = health.page();
    let code = match page["serving"].as_bool() {
        Some(true) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let headers = [("content-type", "application/json")];
    (code, headers, format!("{page:#}\n")).into_response()
}

async fn page(State(metrics): State<Metrics>) -> Response {
    metrics.refresh().await;
    match metrics.page() {
        Ok(text) => ([("content-type", "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
