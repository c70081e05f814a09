//! Pages of lists.
//!
//! A token says where the page ended, sealed; it is good for the same question only. It stays good
//! when resources come and go between two pages.

mod seal;

use std::ops::ControlFlow;

use prost::Message;

pub use self::seal::Seal;
use super::context::Context;
use super::store::{Record, Transaction};
use crate::api::pb;
use crate::error::{Error, Result};

/// The most items of one page, and how many there are where the caller does not say. AWS
/// documents the maximum only.
const MOST: usize = 100;
/// How long a token tells that a position is takes one of these steps: not how long a name is.
const STEP: usize = 256;

/// A request for a page of a list.
pub trait Paged: Message {
    const OPERATION: &'static str;

    /// Takes the page size and the token out of the request.
    fn take_page(&mut self) -> (Option<i32>, Option<String>);
}

macro_rules! paged {
    ($($request:ident,)+) => {
        $(impl Paged for pb::$request {
            const OPERATION: &'static str = stringify!($request);

            fn take_page(&mut self) -> (Option<i32>, Option<String>) {
                (self.max_results.take(), self.next_token.take())
            }
        })+
    };
}

paged! {
    ListComponentsRequest,
    ListDeploymentsRequest,
    ListEnvironmentAccountConnectionsRequest,
    ListEnvironmentTemplateVersionsRequest,
    ListEnvironmentTemplatesRequest,
    ListEnvironmentsRequest,
    ListRepositoriesRequest,
    ListServiceInstancesRequest,
    ListServiceTemplateVersionsRequest,
    ListServiceTemplatesRequest,
    ListServicesRequest,
    ListTagsForResourceRequest,
}

/// Where a page begins and how long it may be.
#[derive(Debug)]
pub struct Page {
    seal: Seal,
    question: Vec<u8>,
    limit: usize,
    after: Option<Position>,
}

/// The last item of a page: its sort key and its own key.
#[derive(Clone, PartialEq, Message)]
struct Position {
    #[prost(string, tag = "1")]
    sort: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(bytes = "vec", tag = "3")]
    padding: Vec<u8>,
}

impl Page {
    /// The page that a request asks for. Takes page size and token out of it: what is left is the
    /// question.
    pub fn of<R: Paged>(cx: &Context, request: &mut R) -> Result<Self> {
        let (max_results, next_token) = request.take_page();
        let question =
            super::idempotency::digest(&[R::OPERATION.as_bytes(), &request.encode_to_vec()]);
        let seal = cx.seal().clone();
        let after = next_token
            .filter(|token| !token.is_empty())
            .map(|token| {
                seal.open(&question, &token)
                    .and_then(|bytes| Position::decode(bytes.as_slice()).ok())
                    .ok_or_else(|| {
                        Error::invalid_field(
                            "next_token",
                            "the token is not one of this list with these filters; begin again without it",
                        )
                    })
            })
            .transpose()?;
        Ok(Self {
            seal,
            question,
            limit: max_results
                .and_then(|most| usize::try_from(most).ok())
                .map_or(MOST, |most| most.clamp(1, MOST)),
            after,
        })
    }

    /// The same page with no more items than the model allows in the list.
    pub fn at_most(self, most: usize) -> Self {
        Self {
            limit: self.limit.min(most),
            ..self
        }
    }

    fn token(&self, sort: &str, key: &str) -> Result<String> {
        let mut position = Position {
            sort: sort.to_owned(),
            key: key.to_owned(),
            padding: Vec::new(),
        };
        let over = position.encoded_len() % STEP;
        position.padding = vec![0; STEP - over];
        self.seal.close(&self.question, position.encode_to_vec())
    }

    /// A page of the records whose key begins with `prefix`, in the order of their keys.
    /// `select` leaves out what it answers with `None`.
    pub fn scan<R: Record, T>(
        &self,
        tx: &Transaction<'_>,
        prefix: &str,
        mut select: impl FnMut(R) -> Result<Option<T>>,
    ) -> Result<(Vec<T>, Option<String>)> {
        let mut taken = Taken::new(self);
        let after = self.after.as_ref().map(|position| position.key.as_str());
        tx.scan::<R>(prefix, after, |record| {
            let key = record.key();
            Ok(taken.offer(String::new(), key, select(record)?))
        })?;
        taken.finish()
    }

    /// A page of the records under the index `name`, in the order of the index.
    pub fn scan_index<R: Record, T>(
        &self,
        tx: &Transaction<'_>,
        name: &str,
        descending: bool,
        mut select: impl FnMut(R) -> Result<Option<T>>,
    ) -> Result<(Vec<T>, Option<String>)> {
        let mut taken = Taken::new(self);
        let after = self
            .after
            .as_ref()
            .map(|position| (position.sort.as_str(), position.key.as_str()));
        tx.scan_index::<R>(name, after, descending, |record| {
            let sort = record
                .indexes()
                .into_iter()
                .find_map(|(index, sort)| (index == name).then_some(sort))
                .unwrap_or_default();
            let key = record.key();
            Ok(taken.offer(sort, key, select(record)?))
        })?;
        taken.finish()
    }

    /// A page of items in memory. Each comes with its sort key and its own, unique key.
    pub fn slice<T>(
        &self,
        mut items: Vec<((String, String), T)>,
        descending: bool,
    ) -> Result<(Vec<T>, Option<String>)> {
        items.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
        let mut taken = Taken::new(self);
        for ((sort, key), item) in items {
            let passed = self.after.as_ref().is_some_and(|last| {
                let order = (&sort, &key).cmp(&(&last.sort, &last.key));
                if descending {
                    order.is_ge()
                } else {
                    order.is_le()
                }
            });
            if !passed && taken.offer(sort, key, Some(item)).is_break() {
                break;
            }
        }
        taken.finish()
    }
}

/// The items of a page as they are found. One more than fits is looked for, so that the last
/// page has no token.
struct Taken<'a, T> {
    page: &'a Page,
    items: Vec<T>,
    last: (String, String),
    more: bool,
}

impl<'a, T> Taken<'a, T> {
    fn new(page: &'a Page) -> Self {
        Self {
            page,
            items: Vec::new(),
            last: Default::default(),
            more: false,
        }
    }

    fn offer(&mut self, sort: String, key: String, item: Option<T>) -> ControlFlow<()> {
        let Some(item) = item else {
            return ControlFlow::Continue(());
        };
        if self.items.len() == self.page.limit {
            self.more = true;
            return ControlFlow::Break(());
        }
        self.items.push(item);
        self.last = (sort, key);
        ControlFlow::Continue(())
    }

    fn finish(self) -> Result<(Vec<T>, Option<String>)> {
        let (sort, key) = &self.last;
        let token = self.more.then(|| self.page.token(sort, key));
        Ok((self.items, token.transpose()?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::backend::engine::bucket::Buckets;
    use crate::backend::engine::context::{Quotas, Settings};

    fn context(secret: &[u8]) -> Context {
        let settings = Settings {
            region: "us-east-1".to_owned(),
            account_id: "123456789012".to_owned(),
            step: Duration::ZERO,
            self_managed_timeout: Duration::from_secs(1),
            buckets: Buckets::in_folder("nowhere"),
            quotas: Quotas::default(),
        };
        Context::new(SystemTime::now(), Arc::new(settings), Arc::default())
            .sealing(Seal::of(secret))
    }

    /// One item of a list after `token`, and the token of the next.
    fn one(
        cx: &Context,
        items: &[&str],
        token: Option<String>,
    ) -> Result<(Vec<String>, Option<String>)> {
        let mut request = pb::ListEnvironmentsRequest {
            max_results: Some(1),
            next_token: token,
            ..pb::ListEnvironmentsRequest::default()
        };
        let item = |name: &&str| ((String::new(), (*name).to_owned()), (*name).to_owned());
        Page::of(cx, &mut request)?.slice(items.iter().map(item).collect(), false)
    }

    #[test]
    fn a_token_tells_nothing_of_the_item_where_its_page_ended() {
        let cx = context(b"one");
        let (items, token) = one(&cx, &["secret-environment", "x"], None).unwrap();
        assert_eq!(items, ["secret-environment"]);
        let token = token.unwrap();
        let plain = STANDARD.decode(&token).unwrap();
        assert!(!plain.windows(6).any(|part| part == b"secret"));
        let (_, short) = one(&cx, &["s", "x"], None).unwrap();
        assert_eq!(short.unwrap().len(), token.len());
        let (items, end) = one(&cx, &["secret-environment", "x"], Some(token.clone())).unwrap();
        assert_eq!((items, end), (vec!["x".to_owned()], None));
        // Nor can one be made that begins in between.
        let position = Position {
            sort: String::new(),
            key: "s".to_owned(),
            padding: Vec::new(),
        };
        for token in [STANDARD.encode(position.encode_to_vec()), "AAAA".to_owned()] {
            let error = one(&cx, &["x"], Some(token)).unwrap_err();
            assert!(error.message.contains("next_token"), "{error}");
        }
        assert!(one(&context(b"two"), &["x"], Some(token)).is_err());
    }
}
