//! Names for requests whose callers give them none.

use std::cell::RefCell;

use uuid::{Builder, Uuid};

/// How many names are made of what the system is asked for at once.
const NAMES: usize = 64;
const EACH: usize = 16;

thread_local! {
    /// Random bytes, and how many of them have been used.
    static RANDOM: RefCell<([u8; NAMES * EACH], usize)> = const {
        RefCell::new(([0; NAMES * EACH], NAMES * EACH))
    };
}

/// A random UUID. It is a name, and keeps no secret.
pub fn new() -> String {
    let uuid = RANDOM.with_borrow_mut(|(bytes, used)| {
        if *used == bytes.len() {
            getrandom::fill(bytes).ok()?;
            *used = 0;
        }
        let next = bytes[*used..].first_chunk::<EACH>()?;
        *used += EACH;
        Some(Builder::from_random_bytes(*next).into_uuid())
    });
    uuid.unwrap_or_else(Uuid::new_v4).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_requests_have_the_same_name() {
        let names: HashSet<_> = (0..10 * NAMES).map(|_| new()).collect();
        assert_eq!(names.len(), 10 * NAMES);
        let random = |name: &String| Uuid::parse_str(name).unwrap().get_version_num() == 4;
        assert!(names.iter().all(random));
    }
}
