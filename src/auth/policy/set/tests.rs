use super::*;
use crate::api::{Operation, RPCS};

fn source(text: &str) -> Source {
    Source {
        path: "teams.cedar".into(),
        text: text.to_owned(),
        ours: false,
    }
}

fn policies(text: &str) -> Policies {
    Policies::of(&[source(text)]).unwrap()
}

fn wrong(text: &str) -> String {
    Policies::of(&[source(text)]).unwrap_err().to_string()
}

fn caller(team: &str) -> Principal {
    let mut caller = unknown("alice");
    caller.attributes.insert("team".to_owned(), team.to_owned());
    caller
}

fn named(method: &str, text: &str) -> (&'static Rpc, Resource) {
    let operation = Operation::from_name(method).unwrap();
    (operation.rpc(), Resource::read(operation, text).unwrap())
}

#[track_caller]
fn allows(policies: &Policies, principal: &Principal, method: &str, resource: &str) -> bool {
    let (rpc, resource) = named(method, resource);
    policies.ask(principal, rpc, &resource).allowed
}

#[test]
fn the_schema_has_an_action_for_each_rpc() {
    let vocabulary = VOCABULARY.as_ref().unwrap();
    let actions = vocabulary.schema.actions().count();
    // And the four groups.
    assert_eq!(actions, RPCS.len() + 4);
}

#[test]
fn what_the_program_brings_along_is_valid() {
    Policies::of_roles().unwrap();
}

#[test]
fn a_callers_attributes_and_a_requests_tags_can_be_compared() {
    let policies = policies(
        "permit (principal, action == Proton::Action::\"CreateService\", resource)
         when { principal.hasTag(\"team\") && resource.hasTag(\"team\")
             && principal.getTag(\"team\") == resource.getTag(\"team\") };",
    );
    let (rpc, mut resource) = named("CreateService", "shop");
    assert!(!policies.ask(&caller("a"), rpc, &resource).allowed);
    resource.tags.insert("team".to_owned(), "a".to_owned());
    let answer = policies.ask(&caller("a"), rpc, &resource);
    assert_eq!(answer.policies, ["teams.cedar#1"]);
    assert!(answer.allowed);
    assert!(!policies.ask(&caller("b"), rpc, &resource).allowed);
}

#[test]
fn what_is_in_a_service_is_its_instances_and_its_pipeline() {
    let policies = policies(
        "permit (principal, action in Proton::Action::\"write\", resource in Proton::Service::\"shop\");",
    );
    let alice = caller("a");
    for (method, resource) in [
        ("UpdateService", "shop"),
        ("UpdateServiceInstance", "shop/blue"),
        ("UpdateServicePipeline", "shop"),
        ("CancelServiceInstanceDeployment", "shop/blue"),
        (
            "TagResource",
            "arn:aws:proton:us-east-1:1:service/shop/service-instance/blue",
        ),
    ] {
        assert!(allows(&policies, &alice, method, resource), "{method}");
    }
    for (method, resource) in [
        ("GetService", "shop"),
        ("UpdateService", "shop2"),
        ("UpdateServiceInstance", "cart/shop"),
        // An id of its own is no name of a service.
        ("UpdateServiceSyncBlocker", "shop"),
    ] {
        assert!(!allows(&policies, &alice, method, resource), "{method}");
    }
}

#[test]
fn names_begin_and_templates_are_compared() {
    let policies = policies(
        "permit (principal, action in [Proton::Action::\"read\"], resource is Proton::Environment)
         when { resource.name like \"team-a-*\" };
         permit (principal, action, resource)
         when { resource has template && resource.template == \"web\" };",
    );
    let alice = caller("a");
    assert!(allows(&policies, &alice, "GetEnvironment", "team-a-dev"));
    assert!(!allows(&policies, &alice, "GetEnvironment", "team-b-dev"));
    assert!(allows(
        &policies,
        &alice,
        "GetServiceTemplateVersion",
        "web/1/0"
    ));
    let (rpc, mut service) = named("CreateService", "shop");
    service.facts.insert("template", "web".to_owned());
    let answer = policies.ask(&alice, rpc, &service);
    assert_eq!(answer.policies, ["teams.cedar#2"]);
}

#[test]
fn cancels_are_a_group_of_their_own() {
    let policies = policies("permit (principal, action in Proton::Action::\"cancel\", resource);");
    let alice = caller("a");
    assert!(allows(
        &policies,
        &alice,
        "CancelEnvironmentDeployment",
        "prod"
    ));
    assert!(!allows(&policies, &alice, "DeleteEnvironment", "prod"));
}

#[test]
fn what_forbids_beats_what_permits_and_is_named() {
    let policies = policies(
        "permit (principal, action, resource);
         @id(\"frozen\")
         forbid (principal, action in Proton::Action::\"write\", resource == Proton::Environment::\"prod\");",
    );
    let (rpc, prod) = named("UpdateEnvironment", "prod");
    let answer = policies.ask(&caller("a"), rpc, &prod);
    assert_eq!(
        (answer.allowed, answer.policies),
        (false, vec!["frozen".to_owned()])
    );
    assert!(allows(&policies, &caller("a"), "UpdateEnvironment", "dev"));
}

#[test]
fn what_is_wrong_is_named_with_its_file_and_its_line() {
    for (line, says, text) in [
        (
            3,
            "",
            "// a comment\n\npermit (principal, action resource);",
        ),
        (
            2,
            "GetServce",
            "\npermit (principal, action == Proton::Action::\"GetServce\", resource);",
        ),
        (
            4,
            "colour",
            "permit (principal, action, resource);\npermit (principal, action, resource)\nwhen {\n  resource.colour == \"red\" };",
        ),
        (
            2,
            "Servce",
            "\npermit (principal, action, resource is Proton::Servce);",
        ),
    ] {
        let problem = wrong(text);
        assert!(
            problem.starts_with(&format!("teams.cedar:{line}: ")),
            "{problem}"
        );
        assert!(problem.contains(says), "{problem}");
    }
}

#[test]
fn what_cannot_be_told_apart_or_filled_in_is_refused() {
    let twice = "@id(\"a\") permit (principal, action, resource);\n";
    assert!(wrong(&twice.repeat(2)).contains("another policy has the id \"a\""));
    let ours = "@id(\"built-in:viewer\") permit (principal, action, resource);";
    assert!(wrong(ours).contains("kept for policies of the program"));
    let template = "permit (principal == ?principal, action, resource);";
    assert!(wrong(template).contains("template"));
}

#[test]
fn a_folder_stands_for_its_policy_files_and_must_have_some() {
    let folder = tempfile::tempdir().unwrap();
    let config = AuthorizationConfig {
        policy_files: vec![folder.path().to_owned()],
        list_filter: false,
        built_in_roles: false,
    };
    assert!(Policies::load(&config).is_err());
    std::fs::write(folder.path().join("notes.md"), "no policies").unwrap();
    let file = folder.path().join("a.cedar");
    std::fs::write(&file, "permit (principal, action, resource);").unwrap();
    let before = Policies::load(&config).unwrap();
    assert!(allows(&before, &caller("a"), "GetService", "shop"));
    std::fs::write(&file, "forbid (principal, action, resource);").unwrap();
    assert_ne!(Policies::load(&config).unwrap().version(), before.version());
}

#[test]
fn entities_are_as_the_schema_says() {
    let schema = &VOCABULARY.as_ref().unwrap().schema;
    let mut principal = caller("a");
    principal.roles.insert("viewer".to_owned());
    let caller = uid("Principal", "alice").unwrap();
    let mut all = vec![caller_entity(&caller, &principal).unwrap()];
    for (method, text) in [
        ("GetServiceInstance", "shop/blue"),
        ("GetRepository", "GITHUB/acme/a"),
        ("ListServices", ""),
        ("GetEnvironmentTemplateVersion", "vpc/1/0"),
    ] {
        let (_, mut resource) = named(method, text);
        resource.tags.insert("team".to_owned(), "a".to_owned());
        resource.facts.insert("template", "web".to_owned());
        let subject = uid(&schema::type_name(resource.kind), &resource.id()).unwrap();
        all.push(resource_entity(&subject, &resource).unwrap());
    }
    Entities::from_entities(all, Some(schema)).unwrap();
}

#[test]
fn the_documented_examples_are_valid() {
    let document = include_str!("../../../../docs/security/authorization.md");
    let blocks = document.split("```cedar\n").skip(1);
    let examples: Vec<_> = blocks
        .map(|block| source(block.split("```").next().unwrap()))
        .collect();
    assert!(examples.len() >= 5);
    for example in examples {
        Policies::of(&[example]).unwrap();
    }
}
