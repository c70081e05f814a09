//! What the command line shows a gateway that asks who calls.

use std::path::PathBuf;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::between::Between;
use super::endpoint::Reach;

/// How to reach the gateway as somebody.
pub type Known = InterceptedService<Between, Shown>;

/// Who calls.
#[derive(Debug, Clone, Args)]
pub struct Credential {
    /// File with a token or a JWT that is shown to the gateway; read anew for each stream. It is not
    /// sent over plain text, except to this machine
    #[arg(
        long,
        global = true,
        env = "PROTON_GATEWAY_TOKEN_FILE",
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
}

impl Credential {
    /// What connects to where the token may be shown.
    pub fn endpoint(&self, reach: &Reach) -> Result<Endpoint, String> {
        if let (Some(path), Some(address)) = (&self.token_file, reach.overheard()) {
            return Err(format!(
                "--address {address}: the token in {} is not sent over plain text; write https://, \
                 or leave out --token-file where nobody has to be known",
                path.display()
            ));
        }
        reach.endpoint()
    }

    /// The channel, on which each call shows what is in the file by now.
    pub fn over(&self, channel: Channel) -> Result<Known, Status> {
        let known = Shown(self.read()?);
        Ok(InterceptedService::new(Between::over(channel), known))
    }

    fn read(&self) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let read = std::fs::read_to_string(path);
        let path = path.display();
        let token = read.map_err(|error| {
            Status::unauthenticated(format!("cannot read the token file {path}: {error}"))
        })?;
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| Status::unauthenticated(format!("the token file {path} has no token")))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Adds the credential to calls.
#[derive(Clone)]
pub struct Shown(Option<MetadataValue<Ascii>>);

impl Interceptor for Shown {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", value.clone());
        }
        Ok(request)
    }
}
