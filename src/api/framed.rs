//! Messages as gRPC sends them: before each, a byte for its compression and four for its length.

use bytes::{BufMut, Bytes};
use prost::Message;

const PREFIX: usize = 5;

/// A message that is ready to be sent. What is in it may be sensitive: it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Framed(Bytes);

impl std::fmt::Debug for Framed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Framed({} bytes)", self.0.len())
    }
}

impl Framed {
    pub fn of(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut frame = Vec::with_capacity(PREFIX + length);
        frame.put_u8(0);
        // No answer comes near what does not fit.
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        message.encode_raw(&mut frame);
        Self(frame.into())
    }

    /// What was sent, if it is one message, whole, and not compressed.
    pub fn received(bytes: Bytes) -> Option<Self> {
        let (prefix, message) = bytes.split_first_chunk::<PREFIX>()?;
        let [compressed, length @ ..] = *prefix;
        let whole = usize::try_from(u32::from_be_bytes(length)) == Ok(message.len());
        (compressed == 0 && whole).then_some(Self(bytes))
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The message in it.
    pub fn message(&self) -> &[u8] {
        self.0.get(PREFIX..).unwrap_or_default()
    }

    pub fn into_message(mut self) -> Bytes {
        self.0.split_off(PREFIX.min(self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_one_whole_message_and_plain_is_taken_for_one() {
        let sent = Framed::of(&"hello".to_owned());
        let received = Framed::received(sent.bytes().clone()).unwrap();
        assert_eq!(String::decode(received.message()).unwrap(), "hello");
        let mut compressed = sent.bytes().to_vec();
        compressed[0] = 1;
        let whole = sent.bytes();
        for other in [
            Bytes::new(),
            whole.slice(..PREFIX - 1),
            whole.slice(..whole.len() - 1),
            [whole.as_ref(), whole.as_ref()].concat().into(),
            compressed.into(),
        ] {
            assert_eq!(Framed::received(other.clone()), None, "{other:?}");
        }
        assert!(Framed::received(Bytes::from_static(&[0; PREFIX])).is_some());
    }
}
