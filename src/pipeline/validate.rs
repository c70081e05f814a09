//! Refuses requests that break the model's constraints, with all violations at once, and conditions
//! that cannot be meant.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service};

use crate::error::Error;
use crate::gateway::{Call, Reply};

#[derive(Debug, Clone, Copy)]
pub struct ValidateLayer;

impl<S> Layer<S> for ValidateLayer {
    type Service = Validate<S>;

    fn layer(&self, inner: S) -> Validate<S> {
        Validate { inner }
    }
}

#[derive(Debug, Clone)]
pub struct Validate<S> {
    inner: S,
}

impl<S> Service<Call> for Validate<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
{
    type Response = Reply;
    type Error = Error;
    type Future = Either<Ready<Result<Reply, Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let expected = call
            .expected
            .check(call.operation.policy().subject.as_ref());
        match expected.and_then(|()| call.request.validate()) {
            Ok(()) => Either::Right(self.inner.call(call)),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }
}
