//! Tags of a file, as a store takes them.

use super::problem::Place;
use crate::api::pb;
use crate::api::rules::Check;
use crate::backend::engine::tag;

/// Notes what is wrong with the tags of one resource; each comes with its place in the list.
pub fn check<'t>(tags: impl Iterator<Item = (usize, &'t pb::Tag)>, place: &Place<'_>) {
    let tags: Vec<_> = tags.collect();
    if tags.len() > tag::MOST {
        place.wrong(format!(
            "are {}, and a resource can have {}; remove some",
            tags.len(),
            tag::MOST
        ));
    }
    for (nth, (index, tag)) in tags.iter().enumerate() {
        let place = place.element(*index);
        let key = place.member("key");
        if tag.key().is_empty() {
            key.wrong("is missing");
            continue;
        }
        if tag.key().to_ascii_lowercase().starts_with("aws:") {
            key.wrong("begins with `aws:`, which is reserved");
        }
        if tags.iter().take(nth).any(|(_, other)| other.key == tag.key) {
            key.wrong("is the key of another tag too; keep one of them");
        }
        place.violated(Check::values(*tag));
    }
}
