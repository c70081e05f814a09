//! Between the contract's types and the SDK's: the leaves that generated code is made of.

use aws_sdk_proton::config;
use aws_sdk_proton::error::SdkError;
use aws_sdk_proton::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::DateTime;
use aws_smithy_types::error::operation::BuildError;
use prost_types::Timestamp;

use crate::api::Response;
use crate::api::json::{Names, name_of, number_of_upstream};
use crate::error::{Error, Result};

/// A response, and AWS's id of the request that it answers.
#[derive(Debug)]
pub struct Answer {
    pub response: Response,
    pub request_id: Option<String>,
}

/// Why an attempt gave no output.
#[derive(Debug)]
pub enum Failure<E> {
    /// The SDK could not build the request: a part that it wants is missing.
    Build(BuildError),
    /// The SDK or the upstream.
    Sdk(Box<SdkError<E, HttpResponse>>),
}

impl<E> From<BuildError> for Failure<E> {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure<E> {
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        Self::Sdk(Box::new(error))
    }
}

/// A request that the SDK can send.
pub trait Send {
    type Output: RequestId;
    type Error;

    fn send(
        self,
        client: &aws_sdk_proton::Client,
        settings: config::Builder,
    ) -> impl Future<Output = std::result::Result<Self::Output, Failure<Self::Error>>> + std::marker::Send;
}

/// Ours to the SDK's.
pub trait ToSdk {
    type Sdk;

    fn to_sdk(self) -> std::result::Result<Self::Sdk, BuildError>;
}

/// The SDK's to ours.
pub trait FromSdk<T> {
    fn from_sdk(sdk: T) -> Self;
}

/// A response of the upstream.
pub trait Complete {
    /// Whether it has what the model requires of it.
    fn is_complete(&self) -> bool;
}

/// Whether a message came from the upstream: the SDK puts an empty one for required members that
/// the response lacks.
pub fn given<M: Default + PartialEq>(message: &Option<M>) -> bool {
    message
        .as_ref()
        .is_some_and(|message| *message != M::default())
}

/// The outcome of one attempt.
pub fn answer<O, E, R>(
    outcome: std::result::Result<O, Failure<E>>,
    wrap: impl FnOnce(R) -> Response,
) -> Result<Answer>
where
    O: RequestId,
    R: FromSdk<O> + Complete,
    E: aws_sdk_proton::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    match outcome {
        Ok(output) => {
            let request_id = output.request_id().map(str::to_owned);
            let response = R::from_sdk(output);
            if !response.is_complete() {
                return Err(super::failure::incomplete(request_id));
            }
            Ok(Answer {
                request_id,
                response: wrap(response),
            })
        }
        Err(Failure::Build(error)) => Err(Error::invalid(format!(
            "the request is incomplete: {error}"
        ))),
        Err(Failure::Sdk(error)) => Err(super::failure::read(*error)),
    }
}

/// A list that is sent if it has elements, or if the model wants it even when empty.
pub fn list<T>(list: Vec<T>, required: bool) -> Option<Vec<T>> {
    (required || !list.is_empty()).then_some(list)
}

pub fn message<M: ToSdk>(message: Option<M>) -> std::result::Result<Option<M::Sdk>, BuildError> {
    message.map(M::to_sdk).transpose()
}

pub fn messages<M: ToSdk>(
    messages: Vec<M>,
    required: bool,
) -> std::result::Result<Option<Vec<M::Sdk>>, BuildError> {
    list(messages, required)
        .map(|messages| messages.into_iter().map(M::to_sdk).collect())
        .transpose()
}

/// The name of a number on AWS's wire; 0 is absent.
pub fn name<E: Names>(number: i32) -> Option<&'static str> {
    name_of::<E>(number)
}

pub fn names<E: Names, S: for<'a> From<&'a str>>(
    numbers: Vec<i32>,
    required: bool,
) -> Option<Vec<S>> {
    let names: Vec<S> = numbers
        .into_iter()
        .filter_map(name_of::<E>)
        .map(S::from)
        .collect();
    list(names, required)
}

/// A string, or nothing where the SDK filled one in: it puts "" for required members that the
/// response lacks.
pub fn text(value: Option<String>, required: bool) -> Option<String> {
    value.filter(|text| !(required && text.is_empty()))
}

/// A time, or nothing where the SDK filled one in: it puts 1970-01-01 for required members that
/// the response lacks.
pub fn time(value: Option<DateTime>, required: bool) -> Option<Timestamp> {
    value
        .filter(|time| !(required && time.secs() == 0 && time.subsec_nanos() == 0))
        .map(|time| Timestamp {
            seconds: time.secs(),
            nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
        })
}

/// What the SDK puts for required enums that the response lacks.
const FILLED_IN: &str = "no value was set";

pub fn number<E: Names, S>(value: Option<S>, name: fn(&S) -> &str) -> i32 {
    value.map_or(0, |value| match name(&value) {
        FILLED_IN => 0,
        name => number_of_upstream::<E>(name),
    })
}

pub fn numbers<E: Names, S>(values: Option<Vec<S>>, name: fn(&S) -> &str) -> Vec<i32> {
    values
        .unwrap_or_default()
        .iter()
        .map(|value| number_of_upstream::<E>(name(value)))
        .collect()
}

pub fn from_message<S, M: FromSdk<S>>(value: Option<S>) -> Option<M> {
    value.map(M::from_sdk)
}

pub fn from_list<S, M: FromSdk<S>>(values: Option<Vec<S>>) -> Vec<M> {
    values
        .unwrap_or_default()
        .into_iter()
        .map(M::from_sdk)
        .collect()
}
