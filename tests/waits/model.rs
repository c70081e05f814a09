//! The waits against the waiters of AWS's model (version 2020-07-20, as of botocore 1.44.5).

use proton_gateway::api::waits::WaitPolicy;

/// Name, operation, delay in seconds, path, what is success, what is failure.
type Waiter = (
    &'static str,
    &'static str,
    u32,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const WAITERS: [Waiter; 10] = [
    (
        "ComponentDeleted",
        "GetComponent",
        5,
        "component.deploymentStatus",
        &["ResourceNotFoundException"],
        &["DELETE_FAILED"],
    ),
    (
        "ComponentDeployed",
        "GetComponent",
        5,
        "component.deploymentStatus",
        &["SUCCEEDED"],
        &["FAILED"],
    ),
    (
        "EnvironmentDeployed",
        "GetEnvironment",
        5,
        "environment.deploymentStatus",
        &["SUCCEEDED"],
        &["FAILED"],
    ),
    (
        "EnvironmentTemplateVersionRegistered",
        "GetEnvironmentTemplateVersion",
        2,
        "environmentTemplateVersion.status",
        &["DRAFT", "PUBLISHED"],
        &["REGISTRATION_FAILED"],
    ),
    (
        "ServiceCreated",
        "GetService",
        5,
        "service.status",
        &["ACTIVE"],
        &[
            "CREATE_FAILED_CLEANUP_COMPLETE",
            "CREATE_FAILED_CLEANUP_FAILED",
            "CREATE_FAILED",
        ],
    ),
    (
        "ServiceDeleted",
        "GetService",
        5,
        "service.status",
        &["ResourceNotFoundException"],
        &["DELETE_FAILED"],
    ),
    (
        "ServiceInstanceDeployed",
        "GetServiceInstance",
        5,
        "serviceInstance.deploymentStatus",
        &["SUCCEEDED"],
        &["FAILED"],
    ),
    (
        "ServicePipelineDeployed",
        "GetService",
        10,
        "service.pipeline.deploymentStatus",
        &["SUCCEEDED"],
        &["FAILED"],
    ),
    (
        "ServiceTemplateVersionRegistered",
        "GetServiceTemplateVersion",
        2,
        "serviceTemplateVersion.status",
        &["DRAFT", "PUBLISHED"],
        &["REGISTRATION_FAILED"],
    ),
    (
        "ServiceUpdated",
        "GetService",
        5,
        "service.status",
        &["ACTIVE"],
        &[
            "UPDATE_FAILED_CLEANUP_COMPLETE",
            "UPDATE_FAILED_CLEANUP_FAILED",
            "UPDATE_FAILED",
            "UPDATE_COMPLETE_CLEANUP_FAILED",
        ],
    ),
];

#[test]
fn every_waiter_of_the_model_is_a_wait_that_ends_as_the_waiter_does() {
    for (name, operation, delay, path, success, failure) in WAITERS {
        let wait = WaitPolicy::of(&format!("Wait{name}")).expect(name);
        assert_eq!(wait.operation.name(), operation, "{name}");
        assert_eq!(wait.delay_seconds, delay, "{name}");
        assert_eq!(wait.status.join("."), path, "{name}");
        let accepts = |state: &str| {
            wait.acceptor_of_status(state)
                .or(wait.acceptor_of_error(state))
                .map(|acceptor| acceptor.success)
        };
        for state in success {
            assert_eq!(accepts(state), Some(true), "{name} {state}");
        }
        for state in failure {
            assert_eq!(accepts(state), Some(false), "{name} {state}");
        }
    }
}

/// AWS's waiters go on for their whole time when a deployment is cancelled.
#[test]
fn a_cancellation_ends_every_wait_for_a_deployment() {
    for wait in &proton_gateway::api::waits::WAITS {
        if !wait.deployment.is_empty() {
            assert!(
                wait.acceptor_of_status("CANCELLED").is_some(),
                "{}",
                wait.name
            );
        }
    }
}
