//! What an engine answers to every read of the contract, about everything that it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proton_gateway::api::{Idempotency, Operation, Request};
use proton_gateway::backend::engine::Engine;
use proton_gateway::edge::Arrival;
use proton_gateway::error::ErrorKind;
use proton_gateway::gateway::{Call, Door};
use serde_json::{Value, json};
use tower::Service;

/// Answers by their questions.
pub type Answers = BTreeMap<String, Result<Value, String>>;

async fn ask(engine: &Engine, request: Request) -> Result<Value, String> {
    let arrival = Arrival {
        request_id: "test".to_owned(),
        deadline: Instant::now() + Duration::from_secs(60),
        ..Arrival::default()
    };
    match engine
        .clone()
        .call(Call::new(request, Door::Grpc, &arrival))
        .await
    {
        Ok(reply) => Ok(reply.response.to_json()),
        Err(error) => {
            assert_ne!(*error.kind, ErrorKind::Internal, "a defect: {error:?}");
            Err(error.message)
        }
    }
}

async fn listed(engine: &Engine, operation: Operation, request: Value) -> Vec<Value> {
    let mut items = Vec::new();
    let mut request = request;
    request["maxResults"] = 100.into();
    loop {
        let typed = Request::from_json(operation, request.clone()).unwrap();
        let answer = ask(engine, typed).await.unwrap();
        let Value::Object(members) = answer else {
            panic!("no object")
        };
        let mut next = Value::Null;
        for (name, value) in members {
            match value {
                Value::Array(found) => items.extend(found),
                other if name == "nextToken" => next = other,
                _ => {}
            }
        }
        if next.as_str().is_none_or(str::is_empty) {
            return items;
        }
        request["nextToken"] = next;
    }
}

/// The answer with all its pages.
async fn whole(engine: &Engine, operation: Operation, request: Request) -> Result<Value, String> {
    let mut next = request.to_json();
    let mut answer = ask(engine, request).await?;
    while let Some(token) = answer
        .as_object_mut()
        .and_then(|it| it.shift_remove("nextToken"))
    {
        if token.as_str().is_none_or(str::is_empty) {
            break;
        }
        next["nextToken"] = token;
        let request = Request::from_json(operation, next.clone()).unwrap();
        let Value::Object(page) = ask(engine, request).await? else {
            panic!("no object")
        };
        for (name, value) in page {
            match (answer.get_mut(&name), value) {
                (Some(Value::Array(items)), Value::Array(more)) => items.extend(more),
                (_, other) => answer[name.as_str()] = other,
            }
        }
    }
    Ok(answer)
}

/// The good answer to a question.
#[track_caller]
pub fn of<'a>(answers: &'a Answers, operation: &str, request: Value) -> &'a Value {
    let same = |question: &str| {
        let (name, asked) = question.split_once(' ').unwrap();
        name == operation && serde_json::from_str::<Value>(asked).unwrap() == request
    };
    let found = answers.iter().find(|(question, _)| same(question));
    found
        .unwrap_or_else(|| panic!("nobody asked {operation} {request}"))
        .1
        .as_ref()
        .unwrap()
}

/// Ways to name everything that there is, with what else a question may need.
pub async fn subjects(engine: &Engine) -> Vec<Value> {
    use Operation as Op;
    let mut names = BTreeSet::new();
    let mut arns = BTreeSet::new();
    let mut subjects = vec![json!({})];
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    for operation in [
        Op::ListEnvironments,
        Op::ListServices,
        Op::ListComponents,
        Op::ListEnvironmentTemplates,
        Op::ListServiceTemplates,
    ] {
        for item in listed(engine, operation, json!({})).await {
            names.insert(text(&item, "name"));
            arns.insert(text(&item, "arn"));
        }
    }
    for (templates, versions) in [
        (
            Op::ListEnvironmentTemplates,
            Op::ListEnvironmentTemplateVersions,
        ),
        (Op::ListServiceTemplates, Op::ListServiceTemplateVersions),
    ] {
        for template in listed(engine, templates, json!({})).await {
            let name = text(&template, "name");
            for major in listed(engine, versions, json!({"templateName": name})).await {
                let major = text(&major, "majorVersion");
                let of = json!({"templateName": name, "majorVersion": major});
                subjects.push(of.clone());
                for version in listed(engine, versions, of).await {
                    let minor = text(&version, "minorVersion");
                    arns.insert(text(&version, "arn"));
                    subjects.push(json!({
                        "templateName": name, "majorVersion": major, "minorVersion": minor,
                    }));
                }
            }
        }
    }
    for instance in listed(engine, Op::ListServiceInstances, json!({})).await {
        arns.insert(text(&instance, "arn"));
        let name = text(&instance, "name");
        subjects.push(json!({
            "serviceName": text(&instance, "serviceName"),
            "name": name, "serviceInstanceName": name,
        }));
    }
    for operation in [Op::ListDeployments, Op::ListEnvironmentAccountConnections] {
        let request = json!({"requestedBy": "MANAGEMENT_ACCOUNT"});
        for item in listed(engine, operation, request).await {
            arns.insert(text(&item, "arn"));
            subjects.push(json!({"id": text(&item, "id"), "requestedBy": "MANAGEMENT_ACCOUNT"}));
            // Outputs of that deployment.
            for target in ["environmentName", "componentName", "serviceName"] {
                subjects.push(json!({
                    target: text(&item, target),
                    "serviceInstanceName": item["serviceInstanceName"],
                    "deploymentId": text(&item, "id"),
                }));
            }
        }
    }
    for repository in listed(engine, Op::ListRepositories, json!({})).await {
        arns.insert(text(&repository, "arn"));
        let (provider, name) = (text(&repository, "provider"), text(&repository, "name"));
        for sync in ["TEMPLATE_SYNC", "SERVICE_SYNC"] {
            subjects.push(json!({
                "provider": provider, "name": name, "syncType": sync, "branch": "main",
                "repositoryProvider": provider, "repositoryName": name,
            }));
        }
    }
    for name in names {
        for kind in ["ENVIRONMENT", "SERVICE"] {
            subjects.push(json!({
                "name": name, "environmentName": name, "serviceName": name,
                "componentName": name, "templateName": name, "templateType": kind,
                "templateVersion": "1",
            }));
        }
        subjects.push(json!({"environmentName": name}));
    }
    subjects.extend(arns.into_iter().map(|arn| json!({"resourceArn": arn})));
    subjects
}

/// All answers about `subjects`.
pub async fn about(engine: &Engine, subjects: &[Value]) -> Answers {
    let mut answers = Answers::new();
    let mut asked = BTreeSet::new();
    for operation in Operation::ALL {
        if operation.policy().idempotency != Idempotency::Read {
            continue;
        }
        for subject in subjects {
            // Members that the operation does not have are left out by the codec.
            let Ok(request) = Request::from_json(operation, subject.clone()) else {
                continue;
            };
            if request.validate().is_err() || !asked.insert(request.key()) {
                continue;
            }
            let question = format!("{} {}", operation.name(), request.to_json());
            answers.insert(question, whole(engine, operation, request).await);
        }
    }
    answers
}

/// All answers about everything.
pub async fn all(engine: &Engine) -> Answers {
    let subjects = subjects(engine).await;
    about(engine, &subjects).await
}

/// Reads of which none had anything to tell.
pub fn silent(answers: &Answers) -> Vec<&'static str> {
    let reads = Operation::ALL
        .into_iter()
        .filter(|operation| operation.policy().idempotency == Idempotency::Read);
    let told = |name: &str| {
        answers
            .iter()
            .any(|(question, answer)| question.split(' ').next() == Some(name) && answer.is_ok())
    };
    reads
        .map(Operation::name)
        .filter(|name| !told(name))
        .collect()
}

/// The first questions that are answered differently.
pub fn differences(one: &Answers, other: &Answers) -> Vec<String> {
    let questions: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    questions
        .into_iter()
        .filter(|question| one.get(*question) != other.get(*question))
        .take(5)
        .map(|question| {
            format!(
                "{question}\n  {:?}\n  {:?}",
                one.get(question),
                other.get(question)
            )
        })
        .collect()
}

/// The same answers without what is about `name`: items of lists whose text has it.
pub fn without(answers: Answers, name: &str) -> Answers {
    fn strip(value: &mut Value, name: &str) {
        match value {
            Value::Array(items) => {
                items.retain(|item| !item.to_string().contains(name));
                items.iter_mut().for_each(|item| strip(item, name));
            }
            Value::Object(members) => {
                members.shift_remove("nextToken");
                members.values_mut().for_each(|member| strip(member, name));
            }
            _ => {}
        }
    }
    answers
        .into_iter()
        .filter(|(question, _)| {
            !question.contains(name) && !question.starts_with("GetResourcesSummary")
        })
        .map(|(question, mut answer)| {
            if let Ok(value) = &mut answer {
                strip(value, name);
            }
            (question, answer)
        })
        .collect()
}
