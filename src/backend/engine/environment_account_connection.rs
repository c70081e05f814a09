//! Environment account connections.
//!
//! AWS has two accounts here, one that asks and one that accepts. The engine is one account and
//! stands for both sides: whoever may call it may ask and accept.
//!
//! Keys of [`ConnectionRecord`]: its id. Index: `name/{environment}`.

use prost::Message;

use super::context::Context;
use super::environment::EnvironmentRecord;
use super::idempotency;
use super::paging::Page;
use super::store::{Record, Transaction};
use super::tag;
use crate::api::pb::{
    self, EnvironmentAccountConnection as View, EnvironmentAccountConnectionStatus as Status,
};
use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
pub struct ConnectionRecord {
    #[prost(message, optional, boxed, tag = "1")]
    view: Option<Box<View>>,
}

static NOTHING: std::sync::LazyLock<View> = std::sync::LazyLock::new(View::default);

impl Record for ConnectionRecord {
    const KIND: &'static str = "environment-account-connection";

    fn key(&self) -> String {
        self.view().id().to_owned()
    }

    fn indexes(&self) -> Vec<(String, String)> {
        vec![(
            format!("name/{}", self.view().environment_name()),
            String::new(),
        )]
    }
}

impl ConnectionRecord {
    pub(super) fn of(view: View) -> Self {
        Self {
            view: Some(Box::new(view)),
        }
    }

    pub fn view(&self) -> &View {
        self.view.as_deref().unwrap_or(&NOTHING)
    }

    fn into_view(self) -> View {
        self.view.map(|view| *view).unwrap_or_default()
    }
}

pub(super) fn tail(id: &str) -> String {
    format!("environment-account-connection/{id}")
}

fn view(tx: &Transaction<'_>, id: &str) -> Result<View> {
    tx.get::<ConnectionRecord>(id)?
        .map(ConnectionRecord::into_view)
        .ok_or_else(|| Error::not_found("environment-account-connection", id))
}

/// How many environments are provisioned through a connection.
fn users(tx: &Transaction<'_>, id: &str) -> Result<u64> {
    tx.count_index::<EnvironmentRecord>(&format!("connection/{id}"))
}

pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateEnvironmentAccountConnectionRequest,
) -> Result<pb::CreateEnvironmentAccountConnectionResponse> {
    const OPERATION: &str = "CreateEnvironmentAccountConnection";
    let token = request.client_token.take();
    request.tags = tag::sorted(request.tags);
    let fingerprint = idempotency::fingerprint(&request);
    let answer = |view: View| {
        Ok(pb::CreateEnvironmentAccountConnectionResponse {
            environment_account_connection: Some(view),
        })
    };
    if let Some(key) = idempotency::replay(tx, cx, OPERATION, token.as_deref(), &fingerprint)?
        && let Some(original) = tx.get::<ConnectionRecord>(&key)?
    {
        return answer(original.into_view());
    }
    // User Guide: one connection for each environment. A rejected one stands in nobody's way.
    let rivals =
        tx.list_index::<ConnectionRecord>(&format!("name/{}", request.environment_name))?;
    if let Some(rival) = rivals.iter().find(|rival| {
        rival.view().status() != Status::Rejected
            && rival.view().management_account_id() == request.management_account_id
    }) {
        return Err(Error::already_exists(tail(rival.view().id())));
    }
    let quota = cx.settings.quotas.account_connections;
    if tx.count::<ConnectionRecord>("")? >= quota {
        return Err(Error::quota("environment account connections", quota));
    }
    let id = cx.new_id();
    let view = View {
        arn: Some(cx.arn(&tail(&id))),
        codebuild_role_arn: request.codebuild_role_arn,
        component_role_arn: request.component_role_arn,
        environment_account_id: Some(cx.settings.account_id.clone()),
        environment_name: Some(request.environment_name),
        id: Some(id.clone()),
        last_modified_at: Some(cx.now()),
        management_account_id: Some(request.management_account_id),
        requested_at: Some(cx.now()),
        role_arn: request.role_arn,
        status: Status::Pending.into(),
    };
    tag::begin(tx, &tail(&id), request.tags)?;
    tx.put(&ConnectionRecord::of(view.clone()))?;
    idempotency::remember(tx, cx, OPERATION, token.as_deref(), &fingerprint, &id)?;
    answer(view)
}

pub fn get(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetEnvironmentAccountConnectionRequest,
) -> Result<pb::GetEnvironmentAccountConnectionResponse> {
    Ok(pb::GetEnvironmentAccountConnectionResponse {
        environment_account_connection: Some(view(tx, &request.id)?),
    })
}

/// The engine is on both sides of every connection, so `requested_by` leaves none out.
pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListEnvironmentAccountConnectionsRequest,
) -> Result<pb::ListEnvironmentAccountConnectionsResponse> {
    let page = Page::of(cx, &mut request)?;
    let (environment_account_connections, next_token) =
        page.scan(tx, "", |record: ConnectionRecord| {
            let view = record.into_view();
            let named = request
                .environment_name
                .as_deref()
                .is_none_or(|name| name == view.environment_name());
            let wanted = request.statuses.is_empty() || request.statuses.contains(&view.status);
            Ok((named && wanted).then(|| summary(view)))
        })?;
    Ok(pb::ListEnvironmentAccountConnectionsResponse {
        environment_account_connections,
        next_token,
    })
}

fn summary(view: View) -> pb::EnvironmentAccountConnectionSummary {
    pb::EnvironmentAccountConnectionSummary {
        arn: view.arn,
        component_role_arn: view.component_role_arn,
        environment_account_id: view.environment_account_id,
        environment_name: view.environment_name,
        id: view.id,
        last_modified_at: view.last_modified_at,
        management_account_id: view.management_account_id,
        requested_at: view.requested_at,
        role_arn: view.role_arn,
        status: view.status,
    }
}

pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateEnvironmentAccountConnectionRequest,
) -> Result<pb::UpdateEnvironmentAccountConnectionResponse> {
    let mut view = view(tx, &request.id)?;
    view.role_arn = request.role_arn.or(view.role_arn);
    view.component_role_arn = request.component_role_arn.or(view.component_role_arn);
    view.codebuild_role_arn = request.codebuild_role_arn.or(view.codebuild_role_arn);
    view.last_modified_at = Some(cx.now());
    tx.put(&ConnectionRecord::of(view.clone()))?;
    Ok(pb::UpdateEnvironmentAccountConnectionResponse {
        environment_account_connection: Some(view),
    })
}

/// User Guide: allowed while an environment uses it, which cannot be managed any more until it
/// gets another one.
pub fn delete(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::DeleteEnvironmentAccountConnectionRequest,
) -> Result<pb::DeleteEnvironmentAccountConnectionResponse> {
    let found = tx.get::<ConnectionRecord>(&request.id)?;
    if found.is_some() {
        tx.delete::<ConnectionRecord>(&request.id)?;
        idempotency::forget_resource(tx, &request.id)?;
        tag::forget(tx, &tail(&request.id))?;
    }
    Ok(pb::DeleteEnvironmentAccountConnectionResponse {
        environment_account_connection: found.map(ConnectionRecord::into_view),
    })
}

pub fn accept(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::AcceptEnvironmentAccountConnectionRequest,
) -> Result<pb::AcceptEnvironmentAccountConnectionResponse> {
    let view = view(tx, &request.id)?;
    if view.status() == Status::Rejected {
        return Err(Error::precondition(
            tail(&request.id),
            format!(
                "{} was rejected, which is final; request another",
                tail(&request.id)
            ),
        ));
    }
    Ok(pb::AcceptEnvironmentAccountConnectionResponse {
        environment_account_connection: Some(answered(tx, cx, view, Status::Connected)?),
    })
}

/// API Reference: refused while an environment uses the connection.
pub fn reject(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::RejectEnvironmentAccountConnectionRequest,
) -> Result<pb::RejectEnvironmentAccountConnectionResponse> {
    let view = view(tx, &request.id)?;
    let users = users(tx, &request.id)?;
    if users > 0 {
        return Err(Error::precondition(
            tail(&request.id),
            format!(
                "{} is used by an environment; delete that first",
                tail(&request.id)
            ),
        ));
    }
    Ok(pb::RejectEnvironmentAccountConnectionResponse {
        environment_account_connection: Some(answered(tx, cx, view, Status::Rejected)?),
    })
}

/// The same answer again changes nothing.
fn answered(tx: &Transaction<'_>, cx: &Context, mut view: View, status: Status) -> Result<View> {
    if view.status() != status {
        view.set_status(status);
        view.last_modified_at = Some(cx.now());
        tx.put(&ConnectionRecord::of(view.clone()))?;
    }
    Ok(view)
}
