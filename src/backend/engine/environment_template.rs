//! Environment templates and their versions; what both kinds share stands in `registry`.

use super::context::Context;
use super::idempotency;
use super::paging::Page;
use super::registry::{
    self, NewTemplate, NewVersion, TemplateRecord, VersionRecord, VersionUpdate,
};
use super::store::Transaction;
use super::tag;
use crate::api::pb::{self, TemplateType};
use crate::error::Result;

const KIND: TemplateType = TemplateType::Environment;

fn view(cx: &Context, record: TemplateRecord) -> pb::EnvironmentTemplate {
    pb::EnvironmentTemplate {
        arn: Some(cx.arn(&record.tail())),
        created_at: record.created_at,
        recommended_version: record.recommended_version(),
        description: record.description,
        display_name: record.display_name,
        encryption_key: record.encryption_key,
        last_modified_at: record.last_modified_at,
        name: Some(record.name),
        provisioning: record.provisioning,
    }
}

fn summary(cx: &Context, record: TemplateRecord) -> pb::EnvironmentTemplateSummary {
    let view = view(cx, record);
    pb::EnvironmentTemplateSummary {
        arn: view.arn,
        created_at: view.created_at,
        description: view.description,
        display_name: view.display_name,
        last_modified_at: view.last_modified_at,
        name: view.name,
        provisioning: view.provisioning,
        recommended_version: view.recommended_version,
    }
}

/// A version as the API shows it. Its status message is there, but empty, where all is well, as
/// in the User Guide's examples.
fn version_view(
    cx: &Context,
    template: &TemplateRecord,
    record: VersionRecord,
) -> pb::EnvironmentTemplateVersion {
    pb::EnvironmentTemplateVersion {
        arn: Some(cx.arn(&record.tail())),
        created_at: record.created_at,
        description: record.description,
        last_modified_at: record.last_modified_at,
        major_version: Some(record.major.to_string()),
        minor_version: Some(record.minor.to_string()),
        recommended_minor_version: template.recommended_minor(record.major),
        schema: record.schema,
        status: record.status,
        status_message: Some(record.status_message),
        template_name: Some(record.template),
    }
}

fn version_summary(
    cx: &Context,
    template: &TemplateRecord,
    record: VersionRecord,
) -> pb::EnvironmentTemplateVersionSummary {
    let view = version_view(cx, template, record);
    pb::EnvironmentTemplateVersionSummary {
        arn: view.arn,
        created_at: view.created_at,
        description: view.description,
        last_modified_at: view.last_modified_at,
        major_version: view.major_version,
        minor_version: view.minor_version,
        recommended_minor_version: view.recommended_minor_version,
        status: view.status,
        status_message: view.status_message,
        template_name: view.template_name,
    }
}

fn shown(
    tx: &Transaction<'_>,
    cx: &Context,
    record: VersionRecord,
) -> Result<pb::EnvironmentTemplateVersion> {
    let template = registry::template(tx, KIND, &record.template)?;
    Ok(version_view(cx, &template, record))
}

pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateEnvironmentTemplateRequest,
) -> Result<pb::CreateEnvironmentTemplateResponse> {
    request.tags = tag::sorted(request.tags);
    let new = NewTemplate {
        kind: KIND,
        fingerprint: idempotency::fingerprint(&request),
        provisioning: request.provisioning(),
        name: request.name,
        description: request.description,
        display_name: request.display_name,
        encryption_key: request.encryption_key,
        tags: request.tags,
    };
    let record = registry::create_template(tx, cx, new)?;
    Ok(pb::CreateEnvironmentTemplateResponse {
        environment_template: Some(view(cx, record)),
    })
}

pub fn get(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetEnvironmentTemplateRequest,
) -> Result<pb::GetEnvironmentTemplateResponse> {
    let record = registry::template(tx, KIND, &request.name)?;
    Ok(pb::GetEnvironmentTemplateResponse {
        environment_template: Some(view(cx, record)),
    })
}

pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListEnvironmentTemplatesRequest,
) -> Result<pb::ListEnvironmentTemplatesResponse> {
    let page = Page::of(cx, &mut request)?;
    let (templates, next_token) = page.scan(tx, &registry::templates_prefix(KIND), |record| {
        Ok(Some(summary(cx, record)))
    })?;
    Ok(pb::ListEnvironmentTemplatesResponse {
        next_token,
        templates,
    })
}

pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateEnvironmentTemplateRequest,
) -> Result<pb::UpdateEnvironmentTemplateResponse> {
    let record = registry::update_template(
        tx,
        cx,
        KIND,
        &request.name,
        request.description,
        request.display_name,
    )?;
    Ok(pb::UpdateEnvironmentTemplateResponse {
        environment_template: Some(view(cx, record)),
    })
}

pub fn delete(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::DeleteEnvironmentTemplateRequest,
) -> Result<pb::DeleteEnvironmentTemplateResponse> {
    let deleted = registry::delete_template(tx, KIND, &request.name)?;
    Ok(pb::DeleteEnvironmentTemplateResponse {
        environment_template: deleted.map(|record| view(cx, record)),
    })
}

pub fn create_version(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateEnvironmentTemplateVersionRequest,
) -> Result<pb::CreateEnvironmentTemplateVersionResponse> {
    let client_token = request.client_token.take();
    request.tags = tag::sorted(request.tags);
    let record = registry::create_version(
        tx,
        cx,
        NewVersion {
            operation: "CreateEnvironmentTemplateVersion",
            client_token,
            fingerprint: idempotency::fingerprint(&request),
            kind: KIND,
            template: request.template_name,
            major: request.major_version,
            description: request.description,
            source: request.source,
            tags: request.tags,
            compatible: Vec::new(),
            component_sources: Vec::new(),
        },
    )?;
    Ok(pb::CreateEnvironmentTemplateVersionResponse {
        environment_template_version: Some(shown(tx, cx, record)?),
    })
}

pub fn get_version(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetEnvironmentTemplateVersionRequest,
) -> Result<pb::GetEnvironmentTemplateVersionResponse> {
    let record = registry::version(
        tx,
        cx,
        KIND,
        &request.template_name,
        &request.major_version,
        &request.minor_version,
    )?;
    Ok(pb::GetEnvironmentTemplateVersionResponse {
        environment_template_version: Some(shown(tx, cx, record)?),
    })
}

pub fn list_versions(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListEnvironmentTemplateVersionsRequest,
) -> Result<pb::ListEnvironmentTemplateVersionsResponse> {
    let page = Page::of(cx, &mut request)?;
    let (template_versions, next_token) = registry::list_versions(
        tx,
        KIND,
        &request.template_name,
        request.major_version.as_deref(),
        &page,
        |template, record| version_summary(cx, template, record),
    )?;
    Ok(pb::ListEnvironmentTemplateVersionsResponse {
        next_token,
        template_versions,
    })
}

pub fn update_version(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateEnvironmentTemplateVersionRequest,
) -> Result<pb::UpdateEnvironmentTemplateVersionResponse> {
    let record = registry::version(
        tx,
        cx,
        KIND,
        &request.template_name,
        &request.major_version,
        &request.minor_version,
    )?;
    let record = registry::update_version(
        tx,
        cx,
        record,
        VersionUpdate {
            status: request.status(),
            description: request.description,
            compatible: Vec::new(),
            component_sources: None,
        },
    )?;
    Ok(pb::UpdateEnvironmentTemplateVersionResponse {
        environment_template_version: Some(shown(tx, cx, record)?),
    })
}

pub fn delete_version(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::DeleteEnvironmentTemplateVersionRequest,
) -> Result<pb::DeleteEnvironmentTemplateVersionResponse> {
    let deleted = registry::delete_version(
        tx,
        KIND,
        &request.template_name,
        &request.major_version,
        &request.minor_version,
    )?;
    Ok(pb::DeleteEnvironmentTemplateVersionResponse {
        environment_template_version: deleted.map(|record| shown(tx, cx, record)).transpose()?,
    })
}
