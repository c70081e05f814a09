//! Ids that are made of what is known of a caller: `mesh:{uri}`.

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(String),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no template like {{iss}}#{{sub}}");
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(wrong)?;
            if name.is_empty() || name.contains('{') || before.contains('}') {
                return Err(wrong());
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Placeholder(name.to_owned()));
            rest = after;
        }
        if rest.contains('}') || text.is_empty() {
            return Err(wrong());
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Placeholder(name) => Some(name.as_str()),
        })
    }

    /// The text, or the first placeholder for which there is no value.
    pub fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, &str> {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => Ok(text.clone()),
                Part::Placeholder(name) => value(name).ok_or(name.as_str()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_once_and_a_missing_one_is_named() {
        let template = Template::parse("{iss}#{sub}").unwrap();
        let value = |name: &str| Some(format!("<{{{name}}}>"));
        assert_eq!(template.fill(value).unwrap(), "<{iss}>#<{sub}>");
        let only = |name: &str| (name == "iss").then(String::new);
        assert_eq!(template.fill(only), Err("sub"));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", "{", "}", "{}", "a}", "{a{b}}", "}{a}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
