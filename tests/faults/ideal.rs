//! The same world without faults, in which each change is made once: in the moment in which it
//! takes effect for the first time in the other one. What there is in both must be the same.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use proton_gateway::api::{Operation, Request, Response};
use proton_gateway::gateway::{Call, Reply};

use crate::inventory::ask;
use crate::support::World;

/// What a change touches, and of which name.
type Subject = (&'static [&'static str], Option<String>);

fn subject(request: &Request) -> Subject {
    (request.operation().policy().touches, request.name())
}

pub struct Ideal {
    pub world: World,
    applied: Mutex<HashSet<String>>,
    /// What was changed, by whom: in the order of time.
    changes: Mutex<Vec<(String, Operation, Subject)>>,
    /// Ids of connections there and here.
    ids: Mutex<HashMap<String, String>>,
    /// What has taken effect, and could not.
    wrong: Mutex<Vec<String>>,
}

impl Ideal {
    pub fn new(world: World) -> Self {
        Self {
            world,
            applied: Mutex::default(),
            changes: Mutex::default(),
            ids: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// Whether the change that is named by `key` was made.
    pub fn has(&self, key: &str) -> bool {
        self.applied.lock().unwrap().contains(key)
    }

    /// How many changes were made.
    pub fn changes(&self) -> usize {
        self.changes.lock().unwrap().len()
    }

    /// Whether others have changed what `request` is about since there were so many `changes`.
    pub fn was_disturbed(&self, key: &str, request: &Request, changes: usize) -> bool {
        let (touches, name) = subject(request);
        self.changes.lock().unwrap()[changes..]
            .iter()
            .any(|(by, _, (others, other))| {
                by != key && *other == name && touches.iter().any(|what| others.contains(what))
            })
    }

    /// Whether another has done just what `request` asks for since there were so many `changes`.
    pub fn was_done_by_another(&self, key: &str, request: &Request, changes: usize) -> bool {
        let (_, name) = subject(request);
        self.changes.lock().unwrap()[changes..]
            .iter()
            .any(|(by, operation, (_, other))| {
                by != key && *operation == request.operation() && *other == name
            })
    }

    /// What has taken effect, and could not.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// Makes the change that was made in the other world, unless it was made before.
    pub async fn took_effect(&self, key: &str, call: &Call, reply: &Reply) {
        if !self.applied.lock().unwrap().insert(key.to_owned()) {
            return;
        }
        let change = (key.to_owned(), call.operation, subject(&call.request));
        self.changes.lock().unwrap().push(change);
        let request = self.translated(call.request.clone());
        match ask(&self.world, request).await {
            Ok(here) => self.translate(&reply.response, &here.response),
            Err(error) => {
                let problem = format!("{key} {:?}: {error}", call.request);
                self.wrong.lock().unwrap().push(problem);
            }
        }
    }

    fn translate(&self, there: &Response, here: &Response) {
        let id = |response: &Response| match response {
            Response::CreateEnvironmentAccountConnection(made) => {
                made.environment_account_connection.as_ref()?.id.clone()
            }
            _ => None,
        };
        if let (Some(there), Some(here)) = (id(there), id(here)) {
            self.ids.lock().unwrap().insert(there, here);
        }
    }

    fn translated(&self, mut request: Request) -> Request {
        let id = match &mut request {
            Request::AcceptEnvironmentAccountConnection(request) => &mut request.id,
            Request::RejectEnvironmentAccountConnection(request) => &mut request.id,
            Request::UpdateEnvironmentAccountConnection(request) => &mut request.id,
            Request::DeleteEnvironmentAccountConnection(request) => &mut request.id,
            _ => return request,
        };
        if let Some(here) = self.ids.lock().unwrap().get(id) {
            id.clone_from(here);
        }
        request
    }
}
