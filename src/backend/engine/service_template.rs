//! Service templates and their versions; what both kinds share stands in `registry`.

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

const KIND: TemplateType = TemplateType::Service;

fn view(cx: &Context, record: TemplateRecord) -> pb::ServiceTemplate {
    pb::ServiceTemplate {
        arn: Some(cx.arn(&record.tail())),
        created_at: record.created_at,
        recommended_version: record.recommended_version(),
        description: record.description,
        display_name: record.display_name,
        encryption_key: record.encryption_key,
        last_modified_at: record.last_modified_at,
        name: Some(record.name),
        pipeline_provisioning: record.provisioning,
    }
}

fn summary(cx: &Context, record: TemplateRecord) -> pb::ServiceTemplateSummary {
    let view = view(cx, record);
    pb::ServiceTemplateSummary {
        arn: view.arn,
        created_at: view.created_at,
        description: view.description,
        display_name: view.display_name,
        last_modified_at: view.last_modified_at,
        name: view.name,
        pipeline_provisioning: view.pipeline_provisioning,
        recommended_version: view.recommended_version,
    }
}

/// A version as the API shows it. Its status message is there, but empty, where all is well, as
/// in the User Guide's examples.
fn version_view(
    cx: &Context,
    template: &TemplateRecord,
    record: VersionRecord,
) -> pb::ServiceTemplateVersion {
    pb::ServiceTemplateVersion {
        arn: Some(cx.arn(&record.tail())),
        compatible_environment_templates: record.compatible,
        created_at: record.created_at,
        description: record.description,
        last_modified_at: record.last_modified_at,
        major_version: Some(record.major.to_string()),
        minor_version: Some(record.minor.to_string()),
        recommended_minor_version: template.recommended_minor(record.major),
        schema: record.schema,
        status: record.status,
        status_message: Some(record.status_message),
        supported_component_sources: record.component_sources,
        template_name: Some(record.template),
    }
}

fn version_summary(
    cx: &Context,
    template: &TemplateRecord,
    record: VersionRecord,
) -> pb::ServiceTemplateVersionSummary {
    let view = version_view(cx, template, record);
    pb::ServiceTemplateVersionSummary {
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
) -> Result<pb::ServiceTemplateVersion> {
    let template = registry::template(tx, KIND, &record.template)?;
    Ok(version_view(cx, &template, record))
}

pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateServiceTemplateRequest,
) -> Result<pb::CreateServiceTemplateResponse> {
    request.tags = tag::sorted(request.tags);
    let new = NewTemplate {
        kind: KIND,
        fingerprint: idempotency::fingerprint(&request),
        provisioning: request.pipeline_provisioning(),
        name: request.name,
        description: request.description,
        display_name: request.display_name,
        encryption_key: request.encryption_key,
        tags: request.tags,
    };
    let record = registry::create_template(tx, cx, new)?;
    Ok(pb::CreateServiceTemplateResponse {
        service_template: Some(view(cx, record)),
    })
}

pub fn get(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetServiceTemplateRequest,
) -> Result<pb::GetServiceTemplateResponse> {
    let record = registry::template(tx, KIND, &request.name)?;
    Ok(pb::GetServiceTemplateResponse {
        service_template: Some(view(cx, record)),
    })
}

pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListServiceTemplatesRequest,
) -> Result<pb::ListServiceTemplatesResponse> {
    let page = Page::of(cx, &mut request)?;
    let (templates, next_token) = page.scan(tx, &registry::templates_prefix(KIND), |record| {
        Ok(Some(summary(cx, record)))
    })?;
    Ok(pb::ListServiceTemplatesResponse {
        next_token,
        templates,
    })
}

pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateServiceTemplateRequest,
) -> Result<pb::UpdateServiceTemplateResponse> {
    let record = registry::update_template(
        tx,
        cx,
        KIND,
        &request.name,
        request.description,
        request.display_name,
    )?;
    Ok(pb::UpdateServiceTemplateResponse {
        service_template: Some(view(cx, record)),
    })
}

pub fn delete(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::DeleteServiceTemplateRequest,
) -> Result<pb::DeleteServiceTemplateResponse> {
    let deleted = registry::delete_template(tx, KIND, &request.name)?;
    Ok(pb::DeleteServiceTemplateResponse {
        service_template: deleted.map(|record| view(cx, record)),
    })
}

fn compatible(
    inputs: Vec<pb::CompatibleEnvironmentTemplateInput>,
) -> Vec<pb::CompatibleEnvironmentTemplate> {
    inputs
        .into_iter()
        .map(|input| pb::CompatibleEnvironmentTemplate {
            major_version: Some(input.major_version),
            template_name: Some(input.template_name),
        })
        .collect()
}

pub fn create_version(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateServiceTemplateVersionRequest,
) -> Result<pb::CreateServiceTemplateVersionResponse> {
    let client_token = request.client_token.take();
    request.tags = tag::sorted(request.tags);
    let record = registry::create_version(
        tx,
        cx,
        NewVersion {
            operation: "CreateServiceTemplateVersion",
            client_token,
            fingerprint: idempotency::fingerprint(&request),
            kind: KIND,
            template: request.template_name,
            major: request.major_version,
            description: request.description,
            source: request.source,
            tags: request.tags,
            compatible: compatible(request.compatible_environment_templates),
            component_sources: request.supported_component_sources,
        },
    )?;
    Ok(pb::CreateServiceTemplateVersionResponse {
        service_template_version: Some(shown(tx, cx, record)?),
    })
}

pub fn get_version(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetServiceTemplateVersionRequest,
) -> Result<pb::GetServiceTemplateVersionResponse> {
    let record = registry::version(
        tx,
        cx,
        KIND,
        &request.template_name,
        &request.major_version,
        &request.minor_version,
    )?;
    Ok(pb::GetServiceTemplateVersionResponse {
        service_template_version: Some(shown(tx, cx, record)?),
    })
}

pub fn list_versions(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListServiceTemplateVersionsRequest,
) -> Result<pb::ListServiceTemplateVersionsResponse> {
    let page = Page::of(cx, &mut request)?;
    let (template_versions, next_token) = registry::list_versions(
        tx,
        KIND,
        &request.template_name,
        request.major_version.as_deref(),
        &page,
        |template, record| version_summary(cx, template, record),
    )?;
    Ok(pb::ListServiceTemplateVersionsResponse {
        next_token,
        template_versions,
    })
}

pub fn update_version(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateServiceTemplateVersionRequest,
) -> Result<pb::UpdateServiceTemplateVersionResponse> {
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
            compatible: compatible(request.compatible_environment_templates),
            component_sources: request.supported_component_sources.map(|list| list.values),
        },
    )?;
    Ok(pb::UpdateServiceTemplateVersionResponse {
        service_template_version: Some(shown(tx, cx, record)?),
    })
}

pub fn delete_version(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::DeleteServiceTemplateVersionRequest,
) -> Result<pb::DeleteServiceTemplateVersionResponse> {
    let deleted = registry::delete_version(
        tx,
        KIND,
        &request.template_name,
        &request.major_version,
        &request.minor_version,
    )?;
    Ok(pb::DeleteServiceTemplateVersionResponse {
        service_template_version: deleted.map(|record| shown(tx, cx, record)).transpose()?,
    })
}
