//! The program as tests run it: a command that ends, or a gateway that answers until its test is over.

use super::*;

/// How long anything may take here before a test gives up: machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, without what the tests' own environment says to it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proton-gateway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROTON_GATEWAY_") {
            command.env_remove(name);
        }
    }
    command
}

/// The program on free ports, with a state directory.
pub fn serve(state: &Path) -> Command {
    let mut command = program();
    for door in ["--listen", "--aws-listen", "--admin-listen"] {
        command.args([door, "127.0.0.1:0"]);
    }
    command.arg("--state-dir").arg(state);
    command
}

/// A port that is free at the moment, with its address.
pub fn free_port() -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

/// A gateway at `address` that serves, and can be started there again once it is dead.
pub async fn serve_again(state: &Path, address: &str, more: &[&str]) -> Dies {
    let ready = state.with_extension("ready");
    // Killed, the one before could not take the file away.
    drop(fs::remove_file(&ready));
    let mut command = program();
    command.args(["--listen", address, "--aws-listen", "off"]);
    command.args(["--admin-listen", "127.0.0.1:0"]).args(more);
    command.arg("--state-dir").arg(state);
    command.arg("--ready-file").arg(&ready);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Dies(child.unwrap());
    eventually("it serves", || async { ready.exists().then_some(()) }).await;
    child
}

/// Runs a command that must end by itself.
pub fn run(mut command: Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it did not end: {}", text(&output));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// All that was printed.
pub fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{stdout}{stderr}")
}

/// What a command says that must fail; a panic is no message.
#[track_caller]
pub fn refused(command: Command) -> String {
    let output = run(command);
    let said = text(&output);
    assert!(!output.status.success(), "it succeeded: {said}");
    assert!(output.status.code().is_some(), "it was killed: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A gateway that answers. It dies with this value, also when a test panics.
pub struct Running {
    pub child: Child,
    pub files: TempDir,
    pub ready: serde_json::Value,
}

impl Running {
    pub async fn on(state: &Path) -> Self {
        Self::with_step(state, "500ms").await
    }

    pub async fn with_step(state: &Path, step: &str) -> Self {
        Self::with(state, &["--simulated-step", step]).await
    }

    pub async fn with(state: &Path, arguments: &[&str]) -> Self {
        let mut command = serve(state);
        command.args(arguments);
        Self::started(command).await
    }

    /// Runs what serves.
    pub async fn started(mut command: Command) -> Self {
        let files = tempfile::tempdir().unwrap();
        let ready_file = files.path().join("ready.json");
        let log = File::create(files.path().join("log")).unwrap();
        let child = command
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Self {
            child,
            files,
            ready: serde_json::Value::Null,
        };
        let deadline = Instant::now() + PATIENCE;
        while !ready_file.exists() {
            let ended = running.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "it does not serve ({ended:?}): {}",
                running.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.ready = serde_json::from_slice(&fs::read(&ready_file).unwrap()).unwrap();
        running
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }

    pub fn address(&self, door: &str) -> &str {
        self.ready[door].as_str().unwrap()
    }

    pub async fn client(&self) -> Client {
        let address = format!("http://{}", self.address("grpc"));
        Client::connect(address).await.unwrap()
    }

    /// The program's own client, on its way to this gateway.
    pub fn follow(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments);
        command.env(
            "PROTON_GATEWAY_ADDRESS",
            format!("http://{}", self.address("grpc")),
        );
        command
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits until the log has this text, which is written a moment after it was logged.
    pub async fn says(&self, text: &str) {
        eventually(&format!("{text:?} in {}", self.log()), || async {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// What a page of the admin listener says: its status and its text.
    pub async fn page(&self, path: &str) -> (u16, String) {
        page(self.address("admin"), path).await.unwrap()
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn signal(child: &Child, name: &str) {
    // The standard library sends no signal but the last one.
    let status = Command::new("sh")
        .args(["-c", "kill -\"$1\" \"$0\""])
        .arg(child.id().to_string())
        .arg(name)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Asks for a page over HTTP/1.1: its status and its text.
pub async fn page(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.unwrap_or_default(), body.to_owned()))
}

/// A folder for state, below one that goes away with the test.
pub fn state() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    (folder, state)
}

/// Asks until the answer is `Some`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs a command beside what the test does.
pub fn beside(command: Command) -> tokio::task::JoinHandle<Output> {
    tokio::task::spawn_blocking(move || run(command))
}

/// A process that dies with this value.
pub struct Dies(pub Child);

impl Drop for Dies {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
