//! Questions about what somebody may do, as operators ask them: by the rpc `Explain`, and by the
//! command `policy` without a running gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::resource::Resource;
use super::set::Policies;
use super::{Decision, Grounds, schema};
use crate::api::{Class, Rpc};
use crate::auth::{Method, Principal};
use crate::config::Config;
use crate::error::{Error, Result};

/// Exit statuses: denied, and a question that cannot be answered (`sysexits.h`).
const DENIED: u8 = 1;
const USAGE: u8 = 64;

/// A question: may somebody call this on that?
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The rpc's name.
    pub operation: String,
    /// The resource's names, outermost first, with `/` between them; an ARN where the operation
    /// takes one; empty where it names nothing.
    pub resource: String,
    /// The template that the request would name.
    pub template: String,
    /// The tags that the request would carry.
    pub tags: BTreeMap<String, String>,
}

impl Question {
    /// The rpc and the resource that are asked about. `asker` is what a question about a caller
    /// is about if it does not say.
    pub fn read(&self, asker: &str) -> Result<(&'static Rpc, Resource)> {
        let rpc = Rpc::of(&self.operation).ok_or_else(|| {
            Error::invalid_field(
                "operation",
                "there is no such rpc; names are those of the contract, such as GetService",
            )
        })?;
        let mut resource = match (schema::about(rpc), self.resource.as_str()) {
            (Some(operation), text) => Resource::read(operation, text)?,
            (None, "") if rpc.class == Class::Write => Resource::account(),
            (None, _) if rpc.class == Class::Write => {
                let problem = format!("{} names no resource; leave it out", rpc.method);
                return Err(Error::invalid_field("resource", problem));
            }
            (None, "") => Resource::principal(asker),
            (None, id) => Resource::principal(id),
        };
        if !self.template.is_empty() {
            resource.facts.insert("template", self.template.clone());
        }
        resource.tags.clone_from(&self.tags);
        Ok((rpc, resource))
    }
}

/// What `policy` can be asked.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether somebody may call an rpc, and by which policies; exit status 0 if so, 1 if not,
    /// 64 if the question or the policies are wrong
    Check(Check),
    /// Print the schema that policies are checked against, in Cedar's syntax
    Schema,
}

/// Who would call what.
#[derive(Debug, Args)]
pub struct Check {
    /// Id of the caller
    #[arg(long, value_name = "ID")]
    principal: String,
    /// A role of the caller; may be given again
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// What else is known of the caller; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    attribute: Vec<(String, String)>,
    /// What the caller is confined to: read, write, wait or an rpc; may be given again
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// How the caller proves who it is
    #[arg(long, value_name = "METHOD", value_parser = method, default_value = "token")]
    method: Method,
    /// The rpc, such as UpdateServiceInstance
    #[arg(long, value_name = "RPC")]
    operation: String,
    /// The names of the resource, such as shop/blue, or its ARN for what takes one
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    resource: String,
    /// The template that the request names
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    template: String,
    /// A tag that the request carries; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write it as name=value".to_owned())
}

fn method(text: &str) -> std::result::Result<Method, String> {
    proven(text).ok_or_else(|| "one of certificate, jwt, token, access-key".to_owned())
}

/// The method with this name, if callers prove themselves by it.
pub fn proven(name: &str) -> Option<Method> {
    [
        Method::Certificate,
        Method::Jwt,
        Method::Token,
        Method::AccessKey,
    ]
    .into_iter()
    .find(|method| method.name() == name)
}

impl PolicyCommand {
    /// Answers from `config`, which is read only if it is needed.
    pub fn run(self, config: impl FnOnce() -> std::result::Result<Config, String>) -> ExitCode {
        let check = match self {
            Self::Schema => {
                print!("{}", *schema::TEXT);
                return ExitCode::SUCCESS;
            }
            Self::Check(check) => check,
        };
        match config().and_then(|config| check.decide(&config)) {
            Ok(decision) => {
                print!("{}", shown(&decision));
                ExitCode::from(if decision.allowed { 0 } else { DENIED })
            }
            Err(problem) => {
                eprintln!("proton-gateway: {problem}");
                ExitCode::from(USAGE)
            }
        }
    }
}

impl Check {
    fn decide(self, config: &Config) -> std::result::Result<Decision, String> {
        let principal = Principal {
            id: self.principal,
            method: self.method,
            roles: self.role.into_iter().collect(),
            scopes: self.scope.into_iter().collect::<BTreeSet<_>>(),
            attributes: self.attribute.into_iter().collect(),
            expires: None,
        };
        let question = Question {
            operation: self.operation,
            resource: self.resource,
            template: self.template,
            tags: self.tag.into_iter().collect(),
        };
        let (rpc, resource) = question
            .read(&principal.id)
            .map_err(|error| error.to_string())?;
        let section = config.authorization.clone().unwrap_or_default();
        let policies = Policies::load(&section).map_err(|error| error.to_string())?;
        Ok(Decision::of(&policies, &principal, rpc, &resource))
    }
}

fn shown(decision: &Decision) -> String {
    let mut out = format!("{}\n", if decision.allowed { "ALLOW" } else { "DENY" });
    match &decision.grounds {
        Grounds::Scopes => out.push_str("by the scopes\n"),
        Grounds::Policies(ids) if ids.is_empty() => out.push_str("no policy permits it\n"),
        Grounds::Policies(ids) => {
            for id in ids {
                out.push_str(&format!("by the policy {id}\n"));
            }
        }
    }
    out
}
