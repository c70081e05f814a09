//! The generator against a small made-up contract, and against contracts with faults.

#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::{env, fs};

use proton_codegen::{Contract, outputs};
use protox::Compiler;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

/// The name of every file given as text.
const INLINE: &str = "faulty.proto";

fn below_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file that is given as text.
struct Inline(String);

impl FileResolver for Inline {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            INLINE => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Reads the contract in the text `source`.
fn read(source: String) -> Result<Contract, String> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Inline(source));
    resolver.add(IncludeFileResolver::new(below_crate("../proto")));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file(INLINE).expect("the text compiles");
    Contract::read(&compiler.descriptor_pool()).map_err(|error| error.to_string())
}

/// A contract of one rpc, `Eat`, which stands in line 5; `options` are its options.
fn with_options(options: &str) -> Result<Contract, String> {
    with_rpc(&format!(
        "// Eats.\nrpc Eat(EatRequest) returns (EatResponse) {{ {options} }}"
    ))
}

fn with_rpc(rpc: &str) -> Result<Contract, String> {
    let request = "message EatRequest { string name = 1; repeated string names = 2; }";
    read(format!(
        "syntax = \"proto3\"; package proton.v1;\nimport \"proton/policy/v1/policy.proto\";\n\
         service ProtonService {{\n{rpc}\n}}\n{request}\nmessage EatResponse {{}}\n"
    ))
}

/// A sound contract of one rpc, and `messages` from line 7; `Extra` is in the request.
fn with_messages(messages: &str) -> Result<Contract, String> {
    read(format!(
        "syntax = \"proto3\"; package proton.v1;\nimport \"proton/policy/v1/policy.proto\";\n\
         import \"google/protobuf/timestamp.proto\"; service ProtonService {{\n\
         // Eats.\nrpc Eat(EatRequest) returns (EatResponse) {{ {MUTATION} }} }}\n\
         message EatRequest {{ Extra extra = 1; }} message EatResponse {{}}\n{messages}\n"
    ))
}

fn policy(fields: &str) -> String {
    format!("option (proton.policy.v1.operation) = {{ {fields} }};")
}

/// Sound options, in one line.
const MUTATION: &str = "option (proton.policy.v1.operation) = {resource: \"meal\" \
     cache: CACHE_CLASS_NONE touches: [\"meal\"] idempotency: IDEMPOTENCY_CLASS_NONE};";

const READ: &str = "option idempotency_level = NO_SIDE_EFFECTS;";

fn refused(contract: Result<Contract, String>, place: &str, problem: &str) {
    let error = contract.expect_err(problem);
    assert!(error.starts_with(place), "{error:?} is not at {place:?}");
    assert!(error.contains(problem), "{error:?} is not {problem:?}");
}

/// The rpc `Eat` is refused, and the error says where it stands.
fn refuses_rpc(options: &str, problem: &str) {
    refused(with_options(options), "faulty.proto:5: rpc Eat: ", problem);
}

#[test]
fn a_small_contract_generates_what_is_checked_in() {
    let roots = [below_crate("tests/fixtures"), below_crate("../proto")];
    let mut compiler = Compiler::new(roots).expect("the folders exist");
    compiler.include_imports(true).include_source_info(true);
    compiler
        .open_file("proton/v1/orchard.proto")
        .expect("the fixture compiles");
    let contract = Contract::read(&compiler.descriptor_pool()).expect("the fixture is sound");
    let folder = below_crate("tests/golden");
    for (name, text) in outputs(&contract) {
        // Not formatted, and no module of this crate: a name that no tool takes for Rust.
        let path = folder.join(format!("{name}.golden"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).expect("the folder can be written to");
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == text,
            "{} differs: look at the change after UPDATE_GOLDEN=1 cargo test -p proton-codegen",
            path.display()
        );
    }
}

#[test]
fn a_sound_rpc_is_accepted() {
    let contract = with_options(MUTATION).expect("nothing is wrong with it");
    assert_eq!(contract.operations.len(), 1);
}

#[test]
fn an_rpc_without_a_policy_is_refused() {
    refuses_rpc("", "proton.policy.v1.operation is missing");
}

#[test]
fn an_rpc_without_a_comment_is_refused() {
    let rpc = format!("\nrpc Eat(EatRequest) returns (EatResponse) {{ {MUTATION} }}");
    refused(
        with_rpc(&rpc),
        "faulty.proto:5: rpc Eat: ",
        "the comment is missing",
    );
}

#[test]
fn a_streaming_rpc_is_refused() {
    let rpc =
        format!("// Eats.\nrpc Eat(EatRequest) returns (stream EatResponse) {{ {MUTATION} }}");
    refused(with_rpc(&rpc), "faulty.proto:5: rpc Eat: ", "is unary");
}

#[test]
fn options_that_are_missing_are_named() {
    let idempotency = "idempotency: IDEMPOTENCY_CLASS_READ";
    refuses_rpc(
        &format!(
            "{READ} {}",
            policy(&format!("cache: CACHE_CLASS_NONE {idempotency}"))
        ),
        "`resource` is missing",
    );
    refuses_rpc(
        &format!(
            "{READ} {}",
            policy(&format!("resource: \"meal\" {idempotency}"))
        ),
        "`cache` is missing",
    );
    refuses_rpc(
        &format!(
            "{READ} {}",
            policy("resource: \"meal\" cache: CACHE_CLASS_NONE")
        ),
        "`idempotency` is missing",
    );
    refuses_rpc(
        &policy("resource: \"meal\" cache: CACHE_CLASS_NONE idempotency: IDEMPOTENCY_CLASS_NONE"),
        "a mutation must say what it touches",
    );
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let meal = "resource: \"meal\"";
    refuses_rpc(
        &policy(&format!(
            "{meal} cache: CACHE_CLASS_STATE idempotency: IDEMPOTENCY_CLASS_READ"
        )),
        "disagree on whether this is a read",
    );
    refuses_rpc(
        &policy(&format!(
            "{meal} cache: CACHE_CLASS_NONE touches: [\"meal\"] idempotency: IDEMPOTENCY_CLASS_DELETE"
        )),
        "disagree on whether a repeat is safe",
    );
    refuses_rpc(
        &policy(&format!(
            "{meal} cache: CACHE_CLASS_STATE touches: [\"meal\"] idempotency: IDEMPOTENCY_CLASS_NONE"
        )),
        "a mutation cannot be cached",
    );
    refuses_rpc(
        &format!(
            "{READ} {}",
            policy(&format!(
                "{meal} cache: CACHE_CLASS_STATE touches: [\"meal\"] idempotency: IDEMPOTENCY_CLASS_READ"
            ))
        ),
        "a read touches nothing",
    );
    refuses_rpc(
        &format!(
            "{READ} {}",
            policy(&format!(
                "{meal} cache: CACHE_CLASS_STATE idempotency: IDEMPOTENCY_CLASS_READ relieves: true"
            ))
        ),
        "a read ends no work",
    );
    refuses_rpc(
        &format!(
            "option idempotency_level = IDEMPOTENT; {}",
            policy(&format!(
                "{meal} cache: CACHE_CLASS_NONE touches: [\"meal\"] idempotency: IDEMPOTENCY_CLASS_CLIENT_TOKEN"
            ))
        ),
        "exactly where the request has a client_token",
    );
}

#[test]
fn names_that_lead_nowhere_are_refused() {
    let read = "cache: CACHE_CLASS_STATE idempotency: IDEMPOTENCY_CLASS_READ";
    let named = |by: &str| {
        format!(
            "{READ} {}",
            policy(&format!("resource: \"meal\" named_by: [\"{by}\"] {read}"))
        )
    };
    refuses_rpc(
        &named("id"),
        "`named_by` has `id`, which the request does not have",
    );
    refuses_rpc(&named("names"), "neither a string nor an enum");
    refuses_rpc(
        &format!("{READ} {}", policy(&format!("resource: \"Meal\" {read}"))),
        "not in kebab-case",
    );
    refuses_rpc(
        &policy(
            "resource: \"meal\" cache: CACHE_CLASS_NONE touches: [\"meal\", \"drink\"] \
             idempotency: IDEMPOTENCY_CLASS_NONE",
        ),
        "`touches` has `drink`, which no operation addresses",
    );
}

/// A mutation and a read of the same meal.
fn with_subject(mutation: &str) -> Result<Contract, String> {
    read(format!(
        "syntax = \"proto3\"; package proton.v1; import \"proton/policy/v1/policy.proto\";\n\
         service ProtonService {{\n\
         // Salts.\nrpc Salt(SaltRequest) returns (SaltResponse) {{ {mutation} }}\n\
         // Looks.\nrpc Look(LookRequest) returns (LookResponse) {{ {READ} {} }} }}\n\
         message SaltRequest {{ string id = 1; }} message SaltResponse {{ Meal meal = 1; }}\n\
         message LookRequest {{ string id = 1; }}\n\
         message LookResponse {{ Meal meal = 1; Drink drink = 2; }}\n\
         message Meal {{ Drink drink = 1; }} message Drink {{}}\n",
        policy(
            "resource: \"meal\" named_by: [\"id\"] cache: CACHE_CLASS_STATE \
             idempotency: IDEMPOTENCY_CLASS_READ"
        )
    ))
}

#[test]
fn a_subject_shows_what_the_mutation_answers_with() {
    let salt = |named: &str, read: &str, path: &str| {
        with_subject(&policy(&format!(
            "resource: \"meal\" {named} cache: CACHE_CLASS_NONE touches: [\"meal\"] \
             idempotency: IDEMPOTENCY_CLASS_NONE subject: {{read: \"{read}\" path: \"{path}\"}}"
        )))
    };
    let named = "named_by: [\"id\"]";
    let sound = salt(named, "Look", "meal").expect("nothing is wrong with it");
    let subject = sound.operations[0].subject.as_ref().expect("it is given");
    assert_eq!(subject.names, [("id".to_owned(), "id".to_owned())]);
    let place = "faulty.proto:4: rpc Salt: ";
    for (named, read, path, problem) in [
        (named, "Taste", "meal", "must be an operation"),
        (named, "Salt", "meal", "its `read` must be a read"),
        ("", "Look", "meal", "not named by as many names"),
        (named, "Look", "meal.drink", "the mutation answers with"),
        (named, "Look", "drink", "the mutation answers with"),
    ] {
        refused(salt(named, read, path), place, problem);
    }
}

#[test]
fn requests_and_responses_are_named_after_the_rpc() {
    let rpc = format!("// Eats.\nrpc Devour(EatRequest) returns (EatResponse) {{ {MUTATION} }}");
    refused(
        with_rpc(&rpc),
        "faulty.proto:5: rpc Devour: ",
        "not named after the rpc",
    );
}

#[test]
fn a_contract_without_the_service_is_refused() {
    let source =
        "syntax = \"proto3\"; package proton.v1; import \"proton/policy/v1/policy.proto\";";
    refused(
        read(source.to_owned()),
        "proton.v1.ProtonService",
        "missing",
    );
}

#[test]
fn fields_that_the_generator_has_no_rule_for_are_refused() {
    let place = "faulty.proto:8: field Extra.it: ";
    for (field, problem) in [
        ("bytes it = 1;", "no rule for a field of kind"),
        (
            "map<string, EatRequest> it = 1;",
            "no rule for a field of kind",
        ),
        ("int32 it = 1;", "must be `optional`"),
        ("repeated bool it = 1;", "no rule for a list of"),
        (
            "repeated google.protobuf.Timestamp it = 1;",
            "no rule for a list of",
        ),
    ] {
        refused(
            with_messages(&format!("message Extra {{\n{field} }}")),
            place,
            problem,
        );
    }
}

#[test]
fn rules_that_would_be_ignored_are_refused() {
    let place = "faulty.proto:8: field Extra.it: ";
    for (field, rules, problem) in [
        ("optional string", "max_items: 1", "are for lists"),
        (
            "repeated string",
            "min_items: 2 max_items: 1",
            "greater than",
        ),
        (
            "optional string",
            "format: FORMAT_MAX_PAGE_RESULTS",
            "this is a string",
        ),
        ("optional int32", "format: FORMAT_ARN", "this is a number"),
        (
            "optional bool",
            "format: FORMAT_ARN",
            "is for strings and numbers",
        ),
    ] {
        let field = format!("{field} it = 1 [(proton.policy.v1.rules) = {{{rules}}}];");
        refused(
            with_messages(&format!("message Extra {{\n{field} }}")),
            place,
            problem,
        );
    }
}

#[test]
fn unions_and_presence_lists_have_one_shape_each() {
    let place = "faulty.proto:7: message Extra: ";
    for message in [
        "oneof one { EatResponse it = 1; } optional string other = 2;",
        "oneof one { EatResponse it = 1; } oneof two { EatResponse other = 2; }",
        "oneof one { string it = 1; }",
    ] {
        let message = format!("message Extra {{ {message} }}");
        refused(
            with_messages(&message),
            place,
            "a union is one oneof of messages",
        );
    }
    for fields in ["", "optional string it = 1;", "repeated string it = 1;"] {
        let message =
            format!("message Extra {{ option (proton.policy.v1.presence_list) = true; {fields} }}");
        refused(
            with_messages(&message),
            place,
            "exactly one field, a repeated enum",
        );
    }
}

#[test]
fn enum_values_are_prefixed_with_their_enum() {
    refused(
        with_messages("message Extra {}\nenum Taste { TASTE_UNSPECIFIED = 0;\nSWEET = 1; }"),
        "faulty.proto:9: value SWEET: ",
        "not prefixed",
    );
}

#[test]
fn a_message_outside_of_the_operations_may_have_any_shape_and_hides_itself_if_it_has_secrets() {
    let sound = with_messages(
        "message Extra {} message Other { bytes it = 1; }\n\
         message Secret { string it = 1 [debug_redact = true]; }",
    );
    let contract = sound.expect("prost knows bytes");
    let ours = |name: &str| contract.messages.iter().any(|message| message.name == name);
    assert!(!ours("Other") && !ours("Secret"));
    assert_eq!(contract.opaque, ["Secret"]);
}

fn with_wait(policy: &str) -> Result<Contract, String> {
    with_messages(&format!(
        "message Extra {{}} message R {{}}\nservice WaitService {{\nrpc WaitEaten(R) returns (stream R) \
         {{ option (proton.policy.v1.wait) = {{ {policy} }}; }} }}"
    ))
}

#[test]
fn a_wait_that_nothing_could_end_is_refused_with_its_line() {
    let success = "acceptors: { status: \"A\" outcome: ACCEPTOR_OUTCOME_SUCCEEDED success: true }";
    let of = |rest: &str| format!("operation: \"Eat\" status: \"meal\" delay_seconds: 1 {rest}");
    assert!(with_wait(&of(success)).is_ok());
    for (policy, problem) in [
        (of(""), "no acceptor is a success"),
        (of("acceptors: { success: true }"), "a status or an error"),
        (
            of("acceptors: { status: \"A\" success: true }"),
            "no outcome",
        ),
        (
            "status: \"meal\" delay_seconds: 1".to_owned(),
            "must be operations",
        ),
        ("operation: \"Eat\" delay_seconds: 1".to_owned(), "missing"),
    ] {
        refused(with_wait(&policy), "faulty.proto:9: rpc WaitEaten", problem);
    }
}
