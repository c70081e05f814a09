//! What the contract marks as sensitive is in no log and no `Debug`.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use proton_gateway::api::{Request, pb};
use proton_gateway::edge::Arrival;
use proton_gateway::gateway::{Call, Door};
use tracing::dispatcher::{DefaultGuard, Dispatch};
use tracing_subscriber::fmt::MakeWriter;

use super::{environment, gateway_with};

const SECRET: &str = "hunter2";

fn request() -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        name: "prod".to_owned(),
        template_name: "vpc".to_owned(),
        template_major_version: "1".to_owned(),
        spec: format!("password: {SECRET}"),
        description: Some(SECRET.to_owned()),
        ..pb::CreateEnvironmentRequest::default()
    }
}

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

/// What listens beside a [`Log`]. As long as a log is alone, a place that another test's thread is
/// the first to use is off for all threads: tracing asks the thread's own subscriber only, and there
/// is none.
static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Log::default().subscriber());

impl Log {
    fn subscriber(&self) -> Dispatch {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(self.clone())
            .with_ansi(false);
        Dispatch::new(subscriber.finish())
    }

    /// Keeps all lines of this thread, at the finest level.
    pub fn listen(&self) -> DefaultGuard {
        LazyLock::force(&OTHER);
        tracing::dispatcher::set_default(&self.subscriber())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn a_request_that_is_printed_keeps_its_secrets() {
    let printed = format!("{:?}", request());
    assert!(
        printed.contains("prod") && !printed.contains(SECRET),
        "{printed}"
    );
    let printed = format!("{:?}", Request::CreateEnvironment(request()));
    assert!(
        printed.contains("prod") && !printed.contains(SECRET),
        "{printed}"
    );
}

/// Whoever knows a token can ask for what the call gave.
#[test]
fn a_client_token_is_printed_nowhere() {
    let request = pb::CreateServiceInstanceRequest {
        name: "blue".to_owned(),
        client_token: Some(SECRET.to_owned()),
        ..pb::CreateServiceInstanceRequest::default()
    };
    let printed = format!("{request:?}");
    assert!(
        printed.contains("blue") && !printed.contains(SECRET),
        "{printed}"
    );
    let logged = Request::CreateServiceInstance(request).redacted();
    assert!(!logged.to_string().contains(SECRET), "{logged}");
}

#[tokio::test]
async fn a_logged_call_has_its_name_and_outcome_but_no_secrets_even_at_the_finest_level() {
    let log = Log::default();
    let gateway = gateway_with(Ok(environment()));
    let call = |request| Call::new(request, Door::Grpc, &Arrival::default());
    let guard = log.listen();
    drop(
        gateway
            .call(call(Request::CreateEnvironment(request())))
            .await,
    );
    let refused = pb::CreateEnvironmentRequest {
        // Too long, and so in a violation.
        description: Some(SECRET.repeat(100)),
        ..request()
    };
    drop(
        gateway
            .call(call(Request::CreateEnvironment(refused)))
            .await,
    );
    drop(guard);
    let text = log.text();
    assert!(text.contains("CreateEnvironment"), "{text}");
    assert!(text.contains("INVALID_REQUEST"), "{text}");
    assert!(
        text.contains("prod"),
        "the request itself was not logged: {text}"
    );
    assert!(!text.contains(SECRET), "{text}");
}
