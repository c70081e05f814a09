//! A request becomes a [`Call`]: one generic function for all rpcs.

use crate::api::Typed;

#[derive(Clone)]
pub struct Gateway {}

impl Gateway {
    pub async fn unary<T: Typed>(
        &self,
        request: tonic::Request<T>,
    ) -> std::result::Result<tonic::Response<T::Response>, tonic::Status> {
        let _ = request;
        Err(tonic::Status::unknown(""))
    }
}
