//! Long texts as files of their own beside the JSON that they belong to: `{"file": "spec.yaml"}`.

use serde_json::{Value, json};

use super::problem::Place;

/// Members that are lifted. All of them are texts that people write.
const TEXTS: &[&str] = &["manifest", "schema", "serviceSpec", "spec", "templateFile"];

/// Moves the texts in `value` to files, by names that are unique in it and begin with `prefix`.
pub fn lift(value: &mut Value, prefix: &str, files: &mut Vec<(String, String)>) {
    visit(value, "", &mut |name, path, member| {
        if let Value::String(text) = member
            && TEXTS.contains(&name)
        {
            let file = format!("{prefix}{path}.{}", ending(text));
            let text = std::mem::take(text);
            *member = json!({ "file": file });
            files.push((file, text));
        }
    });
}

/// Puts the texts back. `read` gives the text of a file beside this one, if there is such a file.
pub fn settle(value: &mut Value, place: &Place<'_>, read: &mut dyn FnMut(&str) -> Option<String>) {
    visit(value, "", &mut |name, path, member| {
        if !TEXTS.contains(&name) || !member.is_object() {
            return;
        }
        let place = path
            .split('.')
            .fold(place.clone(), |place, part| place.member(part));
        let file = match member.as_object() {
            Some(only) if only.len() == 1 => only.get("file").and_then(Value::as_str),
            _ => None,
        };
        let text = match file {
            None => {
                place.wrong("must be a text, or {\"file\": \"its name\"}");
                None
            }
            Some(file) if file.contains('/') || file.starts_with('.') => {
                place.wrong("must name a file beside this one");
                None
            }
            Some(file) => read(file).or_else(|| {
                place.wrong(format!(
                    "names {file}, which is not there, is no text, or belongs to something else"
                ));
                None
            }),
        };
        *member = text.map_or(Value::Null, Value::String);
    });
}

/// Visits all members of objects in objects, with the path to each.
fn visit(value: &mut Value, path: &str, with: &mut dyn FnMut(&str, &str, &mut Value)) {
    let Value::Object(members) = value else {
        return;
    };
    for (name, member) in members {
        let path = match path {
            "" => name.clone(),
            outer => format!("{outer}.{name}"),
        };
        with(name, &path, member);
        // A name of a file has no members to visit.
        if member
            .as_object()
            .is_some_and(|it| !it.contains_key("file"))
        {
            visit(member, &path, with);
        }
    }
}

/// How the file of a text ends, so that editors know it.
fn ending(text: &str) -> &'static str {
    let json = text.trim_start().starts_with('{') && serde_json::from_str::<Value>(text).is_ok();
    let block = |line: &str| {
        let words = [
            "resource \"",
            "variable \"",
            "module \"",
            "output \"",
            "data \"",
            "terraform {",
        ];
        words.iter().any(|word| line.starts_with(word))
    };
    match (json, text.lines().any(block)) {
        (true, _) => "json",
        (false, true) => "tf",
        (false, false) => "yaml",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::engine::portable::Problems;

    #[test]
    fn texts_come_back_from_the_files_that_they_were_lifted_to() {
        let whole = json!({
            "name": "shop",
            "spec": "proton: ServiceSpec\n",
            "current": {"templateFile": "resource \"a\" \"b\" {}\n", "serviceSpec": "{}"},
        });
        let (mut value, mut files) = (whole.clone(), Vec::new());
        lift(&mut value, "", &mut files);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "spec.yaml",
                "current.templateFile.tf",
                "current.serviceSpec.json"
            ]
        );
        let problems = Problems::default();
        settle(&mut value, &Place::whole("f", &problems), &mut |name| {
            files
                .iter()
                .find(|(file, _)| file == name)
                .map(|(_, text)| text.clone())
        });
        assert_eq!(value, whole);
        assert!(problems.is_empty());
    }

    #[test]
    fn a_text_is_taken_from_no_other_folder() {
        for file in ["../../etc/passwd", ".hidden", "a/b"] {
            let problems = Problems::default();
            let mut value = json!({"current": {"spec": {"file": file}}});
            settle(&mut value, &Place::whole("f", &problems), &mut |_| {
                panic!("read")
            });
            let (found, _) = problems.finish();
            assert_eq!(found[0].field, "current.spec");
        }
    }
}
