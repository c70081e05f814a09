//! Compiles the contract and packs the example bundles; the work is done in `codegen`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Everything that reflection serves. The health service and the details of errors are not of our
/// making and stand apart.
const FILES: &[&str] = &[
    "proton/v1/proton.proto",
    "proton/v1/waits.proto",
    "proton/v1/pages.proto",
    "proton/gateway/v1/gateway.proto",
    "grpc/health/v1/health.proto",
    "google/rpc/error_details.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for input in ["proto", "proto-grpc", "examples"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let roots = [Path::new("proto"), Path::new("proto-grpc")];
    proton_codegen::generate(&roots, FILES, &out)?;
    list_protos(&roots, &out)?;
    pack_examples(Path::new("examples"), &out)
}

/// Lists the `.proto` files below `roots` by the paths that imports name, for `include!`.
fn list_protos(roots: &[&Path], out: &Path) -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    for root in roots {
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|kind| kind == "proto") {
                    let names = path.strip_prefix(root)?.iter();
                    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
                    files.push((names.join("/"), path));
                }
            }
        }
    }
    files.sort();
    let mut list = String::from("&[\n");
    for (name, path) in files {
        // Named from the macros' side, so that a checkout can be moved with what it has built.
        let path = format!("/{}", path.display());
        list.push_str(&format!(
            "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),\n"
        ));
    }
    list.push_str("]\n");
    fs::write(out.join("protos.rs"), list)?;
    Ok(())
}

/// Packs each folder below `examples` that is a bundle, and lists them for `include!`.
fn pack_examples(examples: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut bundles: Vec<_> = fs::read_dir(examples)?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.join("schema/schema.yaml").is_file())
        .collect();
    bundles.sort();
    let mut list = String::from("&[\n");
    for bundle in bundles {
        let name = bundle.file_name().unwrap_or_default().to_string_lossy();
        let archive = format!("{name}.tar.gz");
        // Fixed times and owners: the same sources make the same bytes.
        let gzip = flate2::GzBuilder::new().mtime(0).write(
            fs::File::create(out.join(&archive))?,
            flate2::Compression::best(),
        );
        let mut tar = tar::Builder::new(gzip);
        tar.mode(tar::HeaderMode::Deterministic);
        tar.append_dir_all(".", &bundle)?;
        tar.into_inner()?.finish()?;
        list.push_str(&format!(
            "    ({archive:?}, include_bytes!({archive:?})),\n"
        ));
    }
    list.push_str("]\n");
    fs::write(out.join("examples.rs"), list)?;
    Ok(())
}
