use std::collections::BTreeSet;

use super::*;
use crate::api::{Operation, Request, Response, pb};
use crate::reload::LOOK;

const READS: &str = "permit (principal, action in Proton::Action::\"read\", resource);";
const NOTHING: &str = "forbid (principal, action, resource);";

fn caller() -> Principal {
    Principal {
        id: "alice".to_owned(),
        method: Method::Token,
        roles: BTreeSet::new(),
        scopes: BTreeSet::new(),
        attributes: Default::default(),
        expires: None,
    }
}

fn on(file: &std::path::Path) -> AuthorizationConfig {
    AuthorizationConfig {
        policy_files: vec![file.to_owned()],
        list_filter: true,
        built_in_roles: false,
    }
}

fn named(method: &str, text: &str) -> (&'static Rpc, Resource) {
    let operation = Operation::from_name(method).unwrap();
    (operation.rpc(), Resource::read(operation, text).unwrap())
}

async fn check(authorizer: &Authorizer, principal: &Principal, method: &str) -> Result<()> {
    let (rpc, shop) = named(method, "shop");
    authorizer.check(principal, rpc, &shop).await
}

#[tokio::test(start_paused = true)]
async fn changed_policies_come_into_force_and_wrong_ones_do_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), READS).unwrap();
    let (_ask, reload) = Reload::channel();
    let (authorizer, follow) = Authorizer::watched(&on(file.path()), reload).unwrap();
    tokio::spawn(follow);
    check(&authorizer, &caller(), "GetService").await.unwrap();

    std::fs::write(file.path(), "permit (nobody);").unwrap();
    tokio::time::sleep(2 * LOOK).await;
    check(&authorizer, &caller(), "GetService").await.unwrap();

    let mut changes = authorizer.changes();
    std::fs::write(file.path(), NOTHING).unwrap();
    changes.changed().await.unwrap();
    check(&authorizer, &caller(), "GetService")
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_wrong_file_opens_nothing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "permit (nobody);").unwrap();
    let problem = Authorizer::open(&on(file.path())).err().unwrap();
    let place = format!("{}:1: ", file.path().display());
    assert!(problem.to_string().starts_with(&place), "{problem}");
}

#[tokio::test]
async fn scopes_confine_what_policies_permit_and_permit_nothing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), READS).unwrap();
    let authorizer = Authorizer::open(&on(file.path())).unwrap();
    for (scopes, get, delete) in [
        (&["read"][..], true, false),
        (&["wait"], false, false),
        (&["GetService"], true, false),
        (&["GetEnvironment", "write"], false, false),
        (&["DeleteService"], false, false),
    ] {
        let mut confined = caller();
        confined.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let may_get = check(&authorizer, &confined, "GetService").await.is_ok();
        let may_delete = check(&authorizer, &confined, "DeleteService").await.is_ok();
        assert_eq!((may_get, may_delete), (get, delete), "{scopes:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_would_be_needed_and_no_policys_id() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let secret =
        "@id(\"secret\") forbid (principal, action, resource == Proton::Service::\"shop\");";
    std::fs::write(file.path(), secret).unwrap();
    let authorizer = Authorizer::open(&on(file.path())).unwrap();
    let told = check(&authorizer, &caller(), "GetService")
        .await
        .unwrap_err();
    assert_eq!(
        told.message,
        "alice is not authorized to call GetService on service/shop: a policy forbids it; ask who runs the gateway"
    );
    let (rpc, cache) = named("GetComponent", "cache");
    let told = authorizer.check(&caller(), rpc, &cache).await.unwrap_err();
    assert_eq!(
        told.message,
        "alice is not authorized to call GetComponent on component/cache: it needs the role administrator or viewer, or a policy that permits this"
    );
}

#[tokio::test]
async fn a_decision_is_remembered_for_exactly_what_it_depends_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), READS).unwrap();
    let authorizer = Authorizer::open(&on(file.path())).unwrap();
    let (rpc, shop) = named("GetService", "shop");
    let first = authorizer.decide(&caller(), rpc, &shop).await;
    let again = authorizer.decide(&caller(), rpc, &shop).await;
    assert!(Arc::ptr_eq(&first, &again));
    let mut another = caller();
    another.roles.insert("viewer".to_owned());
    assert!(!Arc::ptr_eq(
        &first,
        &authorizer.decide(&another, rpc, &shop).await
    ));
    let mut tagged = shop.clone();
    tagged.tags.insert("a".to_owned(), "b".to_owned());
    assert!(!Arc::ptr_eq(
        &first,
        &authorizer.decide(&caller(), rpc, &tagged).await
    ));
}

#[tokio::test]
async fn lists_leave_out_what_their_caller_may_not_get_and_keep_their_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let team = "permit (principal, action in Proton::Action::\"read\", resource)
        when { resource.name like \"a-*\" };";
    std::fs::write(file.path(), team).unwrap();
    let authorizer = Authorizer::open(&on(file.path())).unwrap();
    let item = |name: &str| pb::ServiceInstanceSummary {
        name: Some(name.to_owned()),
        service_name: Some("shop".to_owned()),
        ..Default::default()
    };
    let mut response = Response::ListServiceInstances(pb::ListServiceInstancesResponse {
        service_instances: vec![item("a-1"), item("b-1"), item("a-2")],
        next_token: Some("more".to_owned()),
    });
    authorizer.filter(&caller(), None, &mut response).await;
    let Response::ListServiceInstances(page) = &response else {
        panic!("another response");
    };
    let names: Vec<_> = page
        .service_instances
        .iter()
        .map(|item| item.name())
        .collect();
    assert_eq!(names, ["a-1", "a-2"]);
    assert_eq!(page.next_token(), "more");
    let before = response.to_json();
    authorizer
        .filter(&Principal::gateway(), None, &mut response)
        .await;
    assert_eq!(response.to_json(), before);
}

/// Each list whose items can be got one by one is in the table.
#[test]
fn the_table_of_lists_is_complete() {
    let missing: Vec<_> = Operation::ALL
        .iter()
        .filter(|operation| operation.name().starts_with("List"))
        .filter(|operation| {
            let kind = schema::type_name(operation.policy().resource);
            let items = operation.name().trim_start_matches("List");
            // `ListServiceOutputs` lists no services.
            let own = items.trim_end_matches("ies").trim_end_matches('s');
            kind.starts_with(own) && Operation::from_name(&format!("Get{kind}")).is_some()
        })
        .filter(|operation| !list::FILTERED.contains(&operation.name()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(list::FILTERED.len(), 11);
}

#[tokio::test]
async fn a_request_is_decided_by_what_it_names() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let own = "permit (principal, action, resource in Proton::Service::\"shop\");";
    std::fs::write(file.path(), own).unwrap();
    let authorizer = Authorizer::open(&on(file.path())).unwrap();
    for (service, allowed) in [("shop", true), ("cart", false)] {
        let request = Request::GetServiceInstance(pb::GetServiceInstanceRequest {
            name: "blue".to_owned(),
            service_name: service.to_owned(),
        });
        let resource = Resource::of(&request).unwrap();
        let rpc = request.operation().rpc();
        let decided = authorizer.check(&caller(), rpc, &resource).await;
        assert_eq!(decided.is_ok(), allowed, "{service}");
    }
}
