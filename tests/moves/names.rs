//! Names that file systems or Git could take for something else go there and back.

use proton_gateway::api::pb;

use crate::folder::assert_same;
use crate::platform_fixtures as platform;
use crate::service_fixtures as services;
use crate::support::{Backend, World};
use crate::{done, shown};

/// As long as a name can be, and like another but for its last letter.
fn long(last: char) -> String {
    format!("{}{last}", "a_-Z".repeat(25).split_at(99).0)
}

/// A version whose bundle has files that Git would act on, and names of every length.
async fn bundle(w: &World) {
    let (name, path) = ("é".repeat(127), vec!["d".repeat(240); 2].join("/"));
    let git = [
        ".git/hooks/post-checkout",
        ".gitattributes",
        "%2Egit/config",
        "%git",
        ".GIT/HEAD",
        "deep/.gitmodules",
        ".g\u{200c}itignore",
    ];
    let schema = platform::schema("environment", "{}");
    let manifest = "infrastructure: {templates: [{file: cloudformation.yaml, rendering_engine: jinja, \
                    template_language: cloudformation}]}";
    let mut files = vec![
        ("schema/schema.yaml".to_owned(), schema.as_str()),
        ("infrastructure/manifest.yaml".to_owned(), manifest),
        (
            "infrastructure/cloudformation.yaml".to_owned(),
            "Resources: {}",
        ),
    ];
    for name in git.into_iter().chain([name.as_str(), path.as_str()]) {
        files.push((format!("infrastructure/{name}"), "x"));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), *text))
        .collect();
    w.put_object(platform::BUCKET, "odd", &platform::archive(&files));
}

#[tokio::test]
async fn odd_and_long_names_are_exported_and_imported_to_the_byte() {
    let w = &World::over(Backend::OnDisk).await;
    platform::bus(w).await;
    bundle(w).await;
    let odd = pb::CreateEnvironmentTemplateVersionRequest {
        source: platform::object("odd"),
        ..platform::new_environment_version("bus")
    };
    platform::published(w, odd).await;
    for last in ['x', 'y'] {
        let name = long(last);
        w.ok(platform::new_environment_template(&name)).await;
        platform::published(w, platform::new_environment_version(&name)).await;
        w.ok(pb::CreateEnvironmentRequest {
            template_name: name.clone(),
            ..platform::new_environment(&name)
        })
        .await;
    }
    w.step().await;
    for name in [
        "../..".to_owned(),
        ".git/.git".to_owned(),
        "a+b/c%2Fd e".to_owned(),
        format!("a/b{}x", "ü".repeat(96)),
        format!("a/b{}y", "ü".repeat(96)),
    ] {
        platform::repository(w, &name).await;
    }
    // Longer than the model shows it.
    w.ok(pb::CreateEnvironmentAccountConnectionRequest {
        role_arn: Some(format!("{}/{}", platform::ROLE, vec!["path"; 60].join("/"))),
        ..platform::new_connection("far")
    })
    .await;
    w.ok(pb::TagResourceRequest {
        resource_arn: services::arn(&format!("environment/{}", long('x'))),
        tags: vec![crate::support::tag("../.git", "é\n")],
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (first, state, second) = (at("first"), at("state"), at("second"));
    done(w.state(), &["export", shown(&first)]);
    let bundle = first.join("templates/environment/bus/2.0/bundle/infrastructure");
    assert!(bundle.join("%2Egit/hooks/post-checkout").is_file());
    assert!(bundle.join("%252Egit/config").is_file());
    done(&state, &["import", "--check", shown(&first)]);
    done(&state, &["import", shown(&first)]);
    done(&state, &["export", shown(&second)]);
    assert_same(&first, &second);
}
