//! Names as parts of paths: no file system refuses them, and nobody takes them for something else.

use sha2::{Digest, Sha256};

/// The longest part of a path: file systems end at 255, and some names get an ending.
const MOST_OF_PART: usize = 200;
/// The longest path of a file of a bundle: systems end at 4096 with the folder's own.
const MOST_OF_PATH: usize = 2000;

/// A name as part of a path: what file systems or people could take for something else is escaped.
pub fn part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'/' => part.push('+'),
            b'.' if index == 0 => part.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => part.push(byte.into()),
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    cut(part)
}

/// A part of a path that no file system refuses. One that was cut is longer than all that were
/// not, so that no two meet.
fn cut(part: String) -> String {
    if part.len() <= MOST_OF_PART {
        return part;
    }
    let digest = hex::encode(Sha256::digest(&part));
    let (digest, _) = digest.split_at(16);
    let kept = part.floor_char_boundary(MOST_OF_PART);
    format!("{}-{digest}", part.get(..kept).unwrap_or_default())
}

/// Where a file of a bundle is unpacked to. Git would act on names of its own, and run what they
/// say: `.git…` becomes `%2Egit…`, and `%` at the beginning `%25`. Of a path that is too long
/// there is none.
pub fn unpacked(name: &str) -> Option<String> {
    let parts: Vec<_> = name.split('/').map(harmless).collect();
    let path = parts.join("/");
    (path.len() <= MOST_OF_PATH).then_some(path)
}

fn harmless(part: &str) -> String {
    // Some file systems pass over letters that nobody sees.
    let seen: String = part.chars().filter(char::is_ascii).take(4).collect();
    let rest = part.strip_prefix('.');
    cut(match (rest, part.strip_prefix('%')) {
        (Some(rest), _) if seen.eq_ignore_ascii_case(".git") => format!("%2E{rest}"),
        (_, Some(rest)) => format!("%25{rest}"),
        _ => part.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_folder_and_no_two_meet() {
        assert_eq!(part("acme/infra"), "acme+infra");
        assert_eq!(part("../x"), "%2E.+x");
        assert_eq!(part("a+b c"), "a%2Bb%20c");
    }

    #[test]
    fn a_long_name_is_cut_and_meets_no_other() {
        let (one, other) = ("é".repeat(100), format!("{}f", "é".repeat(99)));
        assert!(part(&one).len() <= 240);
        assert_ne!(part(&one), part(&other));
        assert_ne!(part(&part(&one)), part(&one));
        let name = format!("{}/{}", "ö".repeat(127), "x".repeat(300));
        let path = unpacked(&name).unwrap();
        assert!(path.split('/').all(|part| part.len() <= 240), "{path}");
        assert_eq!(unpacked(&vec!["x".repeat(150); 20].join("/")), None);
    }

    #[test]
    fn no_file_of_a_bundle_is_one_of_git() {
        for (name, path) in [
            (".git/config", "%2Egit/config"),
            ("a/.GitModules", "a/%2EGitModules"),
            (".g\u{200c}it/config", "%2Eg\u{200c}it/config"),
            (".gitignore", "%2Egitignore"),
            ("%2Egit/x", "%252Egit/x"),
            ("a%b/.terraform", "a%b/.terraform"),
        ] {
            assert_eq!(unpacked(name).as_deref(), Some(path));
        }
    }
}
