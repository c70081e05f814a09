//! The program as a process, for benchmarks: started, filled, measured, and ended with its value.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::api::pb::{self, template_version_source_input::Source};
use tonic::transport::Channel;

pub const BINARY: &str = env!("CARGO_BIN_EXE_proton-gateway");

/// The program, which ends with this.
pub struct Program {
    child: Child,
    _folder: tempfile::TempDir,
    addresses: serde_json::Value,
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Program {
    /// The binary, with free ports and little to say.
    pub fn command() -> Command {
        let mut command = Self::run_by(Command::new(BINARY));
        command.args(["--log", "warn"]);
        command
    }

    /// The same where `command` runs the binary; with all to say.
    pub fn run_by(mut command: Command) -> Command {
        for door in ["--listen", "--aws-listen", "--admin-listen"] {
            command.args([door, "127.0.0.1:0"]);
        }
        command
    }

    /// Returns once it answers.
    pub fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready.json");
        let mut child = command
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let addresses = loop {
            match std::fs::read(&ready) {
                Ok(text) => break serde_json::from_slice(&text).unwrap(),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}");
        };
        Self {
            child,
            _folder: folder,
            addresses,
        }
    }

    /// Where the door listens: `grpc`, `aws`, `admin`.
    pub fn address(&self, door: &str) -> String {
        self.addresses[door].as_str().unwrap().to_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub async fn client(&self) -> ProtonServiceClient<Channel> {
        let address = format!("http://{}", self.address("grpc"));
        ProtonServiceClient::connect(address).await.unwrap()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// The page of metrics.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.address("admin")).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) {
        ask_to_end(self.id());
        self.child.wait().unwrap();
    }
}

/// Tells a process to end.
pub fn ask_to_end(process: u32) {
    let told = Command::new("sh")
        .args(["-c", "kill -TERM \"$0\""])
        .arg(process.to_string())
        .status();
    assert!(told.unwrap().success());
}

/// An example as the source of a template version.
fn example(name: &str) -> Option<pb::TemplateVersionSourceInput> {
    Some(pb::TemplateVersionSourceInput {
        source: Some(Source::S3(pb::S3ObjectSource {
            bucket: "proton-examples".to_owned(),
            key: format!("{name}.tar.gz"),
        })),
    })
}

/// The template `bus`, of which environments can be made.
pub async fn environment_template(client: &mut ProtonServiceClient<Channel>) {
    let template = pb::CreateEnvironmentTemplateRequest {
        name: "bus".to_owned(),
        ..Default::default()
    };
    client.create_environment_template(template).await.unwrap();
    let version = pb::CreateEnvironmentTemplateVersionRequest {
        template_name: "bus".to_owned(),
        source: example("environment-cloudformation"),
        ..Default::default()
    };
    client
        .create_environment_template_version(version)
        .await
        .unwrap();
    let publish = pb::UpdateEnvironmentTemplateVersionRequest {
        template_name: "bus".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "0".to_owned(),
        status: pb::TemplateVersionStatus::Published.into(),
        ..Default::default()
    };
    while client
        .update_environment_template_version(publish.clone())
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Copies a folder of state that nobody uses.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

pub const ROLE: &str = "arn:aws:iam::123456789012:role/proton";
pub const SERVICE_SPEC: &str = "proton: ServiceSpec\npipeline: {test_command: 'true'}\ninstances:\n  - {name: main, environment: events}\n";

/// The templates `bus` and `worker`, and the environment `events`, deployed.
pub async fn platform(client: &mut ProtonServiceClient<Channel>) {
    environment_template(client).await;
    let role = Some(ROLE.to_owned());
    let settings = pb::UpdateAccountSettingsRequest {
        pipeline_service_role_arn: role.clone(),
        ..Default::default()
    };
    client.update_account_settings(settings).await.unwrap();
    let template = pb::CreateServiceTemplateRequest {
        name: "worker".to_owned(),
        ..Default::default()
    };
    client.create_service_template(template).await.unwrap();
    let version = pb::CreateServiceTemplateVersionRequest {
        template_name: "worker".to_owned(),
        source: example("service-cloudformation"),
        compatible_environment_templates: vec![pb::CompatibleEnvironmentTemplateInput {
            template_name: "bus".to_owned(),
            major_version: "1".to_owned(),
        }],
        ..Default::default()
    };
    client
        .create_service_template_version(version)
        .await
        .unwrap();
    let publish = pb::UpdateServiceTemplateVersionRequest {
        template_name: "worker".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "0".to_owned(),
        status: pb::TemplateVersionStatus::Published.into(),
        ..Default::default()
    };
    while client
        .update_service_template_version(publish.clone())
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let environment = pb::CreateEnvironmentRequest {
        name: "events".to_owned(),
        template_name: "bus".to_owned(),
        template_major_version: "1".to_owned(),
        proton_service_role_arn: role,
        spec: "proton: EnvironmentSpec\nspec: {owner: bench}\n".to_owned(),
        ..Default::default()
    };
    client.create_environment(environment).await.unwrap();
    loop {
        let request = pb::GetEnvironmentRequest {
            name: "events".to_owned(),
        };
        let found = client.get_environment(request).await.unwrap().into_inner();
        if found.environment.unwrap().deployment_status() == pb::DeploymentStatus::Succeeded {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What creates a service of the template `worker`.
pub fn new_service(name: &str) -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        name: name.to_owned(),
        template_name: "worker".to_owned(),
        template_major_version: "1".to_owned(),
        repository_connection_arn: Some(
            "arn:aws:codestar-connections:us-east-1:123456789012:connection/1".to_owned(),
        ),
        repository_id: Some("example/orders".to_owned()),
        branch_name: Some("main".to_owned()),
        spec: SERVICE_SPEC.to_owned(),
        ..Default::default()
    }
}

/// A service of that name, deployed.
pub async fn service(client: &mut ProtonServiceClient<Channel>, name: &str) {
    client.create_service(new_service(name)).await.unwrap();
    loop {
        let request = pb::GetServiceRequest {
            name: name.to_owned(),
        };
        let found = client.get_service(request).await.unwrap().into_inner();
        if found.service.unwrap().status() == pb::ServiceStatus::Active {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
