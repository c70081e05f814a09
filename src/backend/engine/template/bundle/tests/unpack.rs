//! What an archive from an untrusted source may hold.

use super::*;

#[test]
fn a_bundle_keeps_its_files_in_the_order_of_their_paths() {
    let bundle = environment()
        .file("README.md", "x")
        .unpack()
        .expect("unpacked");
    let paths: Vec<&str> = bundle.files().keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "README.md",
            "infrastructure/cloudformation.yaml",
            "infrastructure/manifest.yaml",
            "schema/schema.yaml"
        ]
    );
    assert_eq!(bundle.file("README.md"), Some(b"x".as_slice()));
}

#[test]
fn the_root_may_be_packed_in_many_ways() {
    for prefix in ["", "./", "environment/", "fargate-env/v1/", "./a/./b//c/"] {
        let bundle = pack(&[
            (&format!("{prefix}schema/schema.yaml"), ENVIRONMENT_SCHEMA),
            (&format!("{prefix}infrastructure/manifest.yaml"), "x"),
            ("outside.txt", "y"),
        ])
        .unpack()
        .expect("unpacked");
        assert!(bundle.file("schema/schema.yaml").is_some(), "{prefix}");
        assert!(
            bundle.file("infrastructure/manifest.yaml").is_some(),
            "{prefix}"
        );
    }
    let yml = pack(&[("a/schema/schema.yml", ENVIRONMENT_SCHEMA)])
        .unpack()
        .expect("unpacked");
    yml.check(CUSTOMER_MANAGED).expect("valid");
}

#[test]
fn directories_and_the_header_of_git_archive_are_no_files() {
    let bundle = Pack::new()
        .entry(
            "pax_global_header",
            EntryType::XGlobalHeader,
            "",
            b"20 comment=12345678\n",
        )
        .entry("schema/", EntryType::Directory, "", b"")
        .entry("old/", EntryType::Regular, "", b"")
        .file("schema/schema.yaml", "x")
        .unpack()
        .expect("unpacked");
    assert_eq!(bundle.files().len(), 1);
}

#[test]
fn long_names_are_understood() {
    let long = format!("schema/{}/x.yaml", "d".repeat(200));
    let mut pack = Pack::new().file("schema/schema.yaml", "x");
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    pack.0
        .append_data(&mut header, &long, b"y".as_slice())
        .expect("written");
    assert_eq!(
        pack.unpack().expect("unpacked").file(&long),
        Some(b"y".as_slice())
    );
}

#[test]
fn a_long_name_cannot_smuggle_in_a_bad_path() {
    let long = format!("/{}/x.yaml\0", "d".repeat(200));
    let pack = Pack::new()
        .entry("././@LongLink", EntryType::GNULongName, "", long.as_bytes())
        .file("harmless.yaml", "x");
    assert!(message(pack.unpack()).contains("absolute path"));
    let record = "25 path=../../etc/passwd\n";
    let pack = Pack::new()
        .entry("pax", EntryType::XHeader, "", record.as_bytes())
        .file("harmless.yaml", "x");
    assert!(message(pack.unpack()).contains("`..`"));
    let far = format!("{}\0", "d/".repeat(400) + "x");
    let pack = Pack::new()
        .entry("././@LongLink", EntryType::GNULongName, "", far.as_bytes())
        .file("x", "x");
    assert!(message(pack.unpack()).contains("more than 512 bytes"));
}

#[test]
fn headers_that_describe_nothing_or_contradict_are_refused() {
    let long = |name: &str| (EntryType::GNULongName, name.to_owned());
    let pax = |records: &str| (EntryType::XHeader, records.to_owned());
    for (headers, expected) in [
        (vec![long("a\0"), long("b\0")], "two names"),
        (vec![pax("10 path=x\n"), pax("10 path=x\n")], "two headers"),
        (vec![long("a\0"), pax("10 path=x\n")], "two names"),
        (vec![pax("10 size=9\n")], "two sizes"),
        (vec![pax("10 size=x\n")], "malformed pax header"),
        (vec![pax("99 path=x\n")], "malformed pax header"),
        (vec![pax("8 path=x\n")], "malformed pax header"),
        (vec![pax("path=x\n")], "malformed pax header"),
        (vec![pax("0 path=x\n")], "malformed pax header"),
        (vec![pax("22 GNU.sparse.major=1\n")], "sparse file"),
    ] {
        let pack = headers
            .iter()
            .fold(environment(), |pack, (kind, contents)| {
                pack.entry("header", *kind, "", contents.as_bytes())
            });
        let found = message(pack.file("x", "x").unpack());
        assert!(found.contains(expected), "{expected}: {found}");
    }
    let last = environment().entry("././@LongLink", EntryType::GNULongName, "", b"name\0");
    assert!(message(last.unpack()).contains("ends with the header"));
}

#[test]
fn archives_made_on_macos_are_understood() {
    let attributes = b"25 SCHILY.xattr.a=1\n2\n34\n25 path=schema/long.yaml\n";
    let bundle = environment()
        .entry("PaxHeader/x", EntryType::XHeader, "", attributes)
        .file("truncated", "x")
        .file("schema/._schema.yaml", b"\xff")
        .file("._infrastructure", b"\xff")
        .unpack()
        .expect("unpacked");
    assert_eq!(bundle.file("schema/long.yaml"), Some(b"x".as_slice()));
    assert_eq!(bundle.files().len(), 4);
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for (path, expected) in [
        (
            "/etc/passwd",
            "`/etc/passwd` in the bundle has an absolute path",
        ),
        ("../x", "`../x` in the bundle has `..` in its path"),
        ("schema/../../x", "has `..` in its path"),
        ("a/..", "has `..` in its path"),
        ("a\\b", "has a control character or a backslash"),
        ("a\nb", "has a control character or a backslash"),
        (".", "has no name"),
    ] {
        let found = message(environment().file(path, "x").unpack());
        assert!(found.contains(expected), "{path:?}: {found}");
    }
    let directory = environment().entry("../up/", EntryType::Directory, "", b"");
    assert!(message(directory.unpack()).contains("has `..`"));
}

#[test]
fn links_and_devices_are_refused() {
    for kind in [EntryType::Symlink, EntryType::Link] {
        let found = message(environment().entry("l", kind, "/etc/passwd", b"").unpack());
        assert!(found.contains("`l` in the bundle is a link"), "{found}");
    }
    for kind in [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::new(b'V'),
    ] {
        let found = message(environment().entry("d", kind, "", b"").unpack());
        assert!(
            found.contains("neither a file nor a directory") || found.contains("damaged"),
            "{kind:?}: {found}"
        );
    }
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    assert!(
        message(environment().file("./a", "1").file("a", "2").unpack())
            .contains("`a` in the bundle is there twice")
    );
    let found = message(environment().file("a", "1").file("a/b", "2").unpack());
    assert!(
        found.contains("is a file and also the directory"),
        "{found}"
    );
}

#[test]
fn a_name_that_is_not_text_is_refused() {
    let mut tar = environment().file("XX", "x").tar();
    let at = tar
        .windows(3)
        .position(|bytes| bytes == b"XX\0")
        .expect("the name");
    tar[at] = 0xff;
    // The checksum is the sum of the header's bytes.
    let header = Header::from_byte_slice(&tar[at..at + 512]).clone();
    let mut header = header;
    header.set_cksum();
    tar[at..at + 512].copy_from_slice(header.as_bytes());
    assert!(message(unpack(&gz(&tar))).contains("not UTF-8"));
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in [
        b"".to_vec(),
        b"PK\x03\x04".to_vec(),
        vec![0; 4096],
        gz(b"not a tar archive"),
        gz(&[7; 2048]),
        environment().tar(),
    ] {
        let found = message(unpack(&bytes));
        assert!(found.starts_with("The bundle can't be unpacked"), "{found}");
    }
    assert!(message(unpack(&gz(&[0; 1024]))).contains("it is empty"));
}

#[test]
fn a_truncated_archive_is_refused_wherever_it_ends() {
    let whole = environment().file("big", vec![b'x'; 3000]).gz();
    for cut in 0..whole.len() {
        assert!(
            unpack(&whole[..cut]).is_err(),
            "cut at {cut} of {}",
            whole.len()
        );
    }
    // The archive's end is not marked, but every file is whole: tar accepts it, and so does this.
    let tar = environment().file("big", vec![b'x'; 3000]).tar();
    assert!(message(unpack(&gz(&tar[..tar.len() - 1024 - 2000]))).contains("cut off"));
}

#[test]
fn damaged_archives_never_cause_a_panic() {
    let tar = environment().file("big", "x").tar();
    for at in (0..tar.len()).step_by(3) {
        for byte in [0, 0xff, b'9'] {
            let mut damaged = tar.clone();
            damaged[at] = byte;
            let _ = unpack(&gz(&damaged));
        }
    }
    let gz = environment().gz();
    for at in 0..gz.len() {
        let mut damaged = gz.clone();
        damaged[at] ^= 0x55;
        let _ = unpack(&damaged);
    }
}

#[test]
fn a_file_that_claims_to_be_endless_is_refused() {
    let mut header = Header::new_gnu();
    header.set_path("a").expect("a path");
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    message(unpack(&gz(header.as_bytes())));
}

#[test]
fn an_archive_that_expands_without_end_is_stopped() {
    let limits = Limits {
        unpacked_bytes: 1_000_000,
        file_bytes: 10_000_000,
        ..Limits::default()
    };
    let bomb = environment().file("zeros", vec![0; 5_000_000]).gz();
    assert!(bomb.len() < 50_000);
    let found = message(Bundle::unpack(bomb.as_slice(), &limits));
    assert_eq!(
        found,
        "The bundle unpacks to more than the 1000000 bytes that are allowed; leave out what the template doesn't need."
    );
    // Behind the end of the archive, and in entries that are skipped, too.
    let mut behind = environment().tar();
    behind.extend(vec![0; 5_000_000]);
    assert!(message(Bundle::unpack(gz(&behind).as_slice(), &limits)).contains("unpacks to more"));
    let skipped = environment()
        .entry("g", EntryType::XGlobalHeader, "", &vec![0; 5_000_000])
        .gz();
    assert!(message(Bundle::unpack(skipped.as_slice(), &limits)).contains("unpacks to more"));
    let named = environment()
        .entry("L", EntryType::GNULongName, "", &vec![b'a'; 5_000_000])
        .gz();
    assert!(message(Bundle::unpack(named.as_slice(), &limits)).contains("unpacks to more"));
    let members = gz(&vec![0; 100_000]).repeat(1_000);
    assert!(unpack(&members).is_err());
}

#[test]
fn every_limit_is_kept() {
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let bytes = environment().file("a", vec![b'x'; 100]).gz();
    let refused = |limits: Limits| message(Bundle::unpack(bytes.as_slice(), &limits));
    assert!(
        refused(limits(|limits| limits.packed_bytes = 100))
            .contains("is packed into more than the 100 bytes")
    );
    assert!(refused(limits(|limits| limits.file_bytes = 99)).contains("larger than the 99 bytes"));
    assert!(refused(limits(|limits| limits.files = 3)).contains("more than the 3 files"));
    assert!(refused(limits(|limits| limits.entries = 3)).contains("more than the 3 entries"));
    let exact = Limits {
        packed_bytes: bytes.len() as u64,
        files: 4,
        entries: 4,
        ..Limits::default()
    };
    Bundle::unpack(bytes.as_slice(), &exact).expect("just within the limits");
    let short = limits(|limits| limits.schema_chars = 10);
    let found = message(
        Bundle::unpack(bytes.as_slice(), &short)
            .expect("unpacked")
            .check(ENVIRONMENT),
    );
    assert_eq!(
        found,
        "schema/schema.yaml: has more than the 10 characters that are allowed."
    );
}

#[test]
fn a_source_that_fails_is_not_taken_for_a_short_archive() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::new(
                std::io::ErrorKind::ConnectionReset,
                "reset",
            ))
        }
    }
    assert!(message(Bundle::unpack(Broken, &Limits::default())).contains("reading it failed"));
}

#[test]
fn a_bundle_has_one_root() {
    let found = message(pack(&[("a.txt", "x"), ("myschema/schema.yaml", "x")]).unpack());
    assert_eq!(
        found,
        "schema/schema.yaml: is missing; pack the directory that holds `schema/`."
    );
    let found =
        message(pack(&[("a/schema/schema.yaml", "x"), ("b/schema/schema.yaml", "x")]).unpack());
    assert!(
        found.starts_with("a/schema/schema.yaml and b/schema/schema.yaml: there is more than one"),
        "{found}"
    );
    message(pack(&[("schema/schema.yaml", "x"), ("schema/schema.yml", "x")]).unpack());
    message(pack(&[("schema/schema.yaml", "x"), ("v1/schema/schema.yaml", "x")]).unpack());
}
