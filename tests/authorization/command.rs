//! The command `policy`, and the program with wrong policies.

use std::process::{Command, Output};

use proton_gateway::api::RPCS;

const TEAMS: &str = "@id(\"shop-owners\")
permit (principal, action in Proton::Action::\"write\", resource in Proton::Service::\"shop\")
when { principal.hasTag(\"team\") && principal.getTag(\"team\") == \"shop\" };

permit (principal, action == Proton::Action::\"CreateService\", resource)
when { resource has template && resource.template == \"web\" && resource.hasTag(\"team\") };
";

/// A folder with a configuration and its policies.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(policies: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let file = folder.0.path().join("teams.cedar");
        std::fs::write(&file, policies).unwrap();
        let config = format!(
            "[authentication]\nmethods = [\"token\"]\n\
             [[authentication.tokens]]\nid = \"ci\"\nhash = \"sha256:{}\"\n\
             [authorization]\npolicy-files = [{:?}]\n",
            "0".repeat(64),
            file.display().to_string()
        );
        std::fs::write(folder.0.path().join("gateway.toml"), config).unwrap();
        folder
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proton-gateway"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PROTON_GATEWAY_") {
                command.env_remove(name);
            }
        }
        let config = self.0.path().join("gateway.toml");
        command
            .arg("--config")
            .arg(config)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The exit status and what is printed for `policy check …`.
    fn check(&self, arguments: &str) -> (i32, String) {
        let mut all = vec!["policy", "check"];
        all.extend(arguments.split_whitespace());
        let output = self.run(&all);
        let printed = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), printed)
    }
}

#[test]
fn a_check_says_who_decided_and_ends_with_the_decision() {
    let folder = Folder::with(TEAMS);
    for (arguments, status, printed) in [
        (
            "--principal ada --role administrator --operation DeleteEnvironment --resource prod",
            0,
            "ALLOW\nby the policy built-in:administrator\n",
        ),
        (
            "--principal sam --attribute team=shop --operation UpdateServiceInstance --resource shop/blue",
            0,
            "ALLOW\nby the policy shop-owners\n",
        ),
        (
            "--principal sam --attribute team=cart --operation UpdateServiceInstance --resource shop/blue",
            1,
            "DENY\nno policy permits it\n",
        ),
        (
            "--principal sam --operation CreateService --resource new --template web --tag team=a",
            0,
            "ALLOW\nby the policy teams.cedar#2\n",
        ),
        (
            "--principal ada --role administrator --scope read --operation DeleteEnvironment --resource prod",
            1,
            "DENY\nby the scopes\n",
        ),
        (
            "--principal vera --role viewer --operation ListServices",
            0,
            "ALLOW\nby the policy built-in:viewer\n",
        ),
        (
            "--principal vera --role viewer --operation Explain --resource ada",
            1,
            "DENY\nby the policy built-in:ask-about-others\n",
        ),
    ] {
        assert_eq!(
            folder.check(arguments),
            (status, printed.to_owned()),
            "{arguments}"
        );
    }
}

#[test]
fn a_question_that_cannot_be_answered_is_wrong_usage() {
    let folder = Folder::with(TEAMS);
    for arguments in [
        "--principal sam",
        "--operation GetService --resource shop",
        "--principal sam --operation GetServce --resource shop",
        "--principal sam --operation GetServiceInstance --resource shop",
        "--principal sam --operation GetService --resource shop --attribute team",
        "--principal sam --operation GetService --resource shop --method magic",
    ] {
        assert_eq!(folder.check(arguments), (64, String::new()), "{arguments}");
    }
}

#[test]
fn wrong_policies_are_refused_by_the_check_and_at_the_start() {
    let folder = Folder::with(
        "// two lines\npermit (principal, action == Proton::Action::\"Fly\", resource);",
    );
    let check = "--principal sam --operation GetService --resource shop";
    assert_eq!(folder.check(check).0, 64);
    let start = folder.run(&[
        "--listen",
        "127.0.0.1:0",
        "--aws-listen",
        "off",
        "--admin-listen",
        "127.0.0.1:0",
        "--state-dir",
        folder.0.path().join("state").to_str().unwrap(),
    ]);
    assert!(!start.status.success());
    let said = String::from_utf8_lossy(&start.stderr);
    assert!(
        said.contains("teams.cedar:2: ") && said.contains("Fly"),
        "{said}"
    );
}

#[test]
fn the_printed_schema_is_the_one_that_policies_are_checked_against() {
    let output = Folder::with(TEAMS).run(&["policy", "schema"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (schema, _) = cedar_policy::Schema::from_cedarschema_str(&text).unwrap();
    for rpc in &RPCS {
        let action = format!("Proton::Action::{:?}", rpc.method).parse().unwrap();
        assert!(
            schema.actions().any(|known| *known == action),
            "{}",
            rpc.method
        );
    }
    let policies: cedar_policy::PolicySet = TEAMS.parse().unwrap();
    let checked = cedar_policy::Validator::new(schema)
        .validate(&policies, cedar_policy::ValidationMode::Strict);
    assert!(checked.validation_passed(), "{checked}");
}
