mod check;
mod samples;
mod unpack;

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::backend::engine::template::schema::{InputType, Schema};
use crate::backend::engine::template::spec::{EnvironmentSpec, ServiceSpec};

const ENVIRONMENT: TemplateKind = TemplateKind::Environment {
    customer_managed: false,
};
const CUSTOMER_MANAGED: TemplateKind = TemplateKind::Environment {
    customer_managed: true,
};
const SERVICE: TemplateKind = TemplateKind::Service {
    pipeline_customer_managed: false,
};
const NO_PIPELINE: TemplateKind = TemplateKind::Service {
    pipeline_customer_managed: true,
};

const ENVIRONMENT_SCHEMA: &str = "schema: {format: {openapi: 3.0.0}, environment_input_type: E, types: {E: {type: object, properties: {a: {type: string}}}}}";
const SERVICE_SCHEMA: &str = "schema: {format: {openapi: 3.0.0}, service_input_type: S, types: {S: {type: object, properties: {a: {type: string}}}}}";
const PIPELINE_SCHEMA: &str = "schema: {format: {openapi: 3.0.0}, service_input_type: S, pipeline_input_type: S, types: {S: {type: object, properties: {a: {type: string}}}}}";
const CLOUDFORMATION: &str = "infrastructure: {templates: [{file: cloudformation.yaml, rendering_engine: jinja, template_language: cloudformation}]}";
const TERRAFORM: &str = "infrastructure: {templates: [{file: '*', rendering_engine: hcl, template_language: terraform}]}";
const CODEBUILD: &str = "infrastructure: {templates: [{rendering_engine: codebuild, settings: {image: x, runtimes: {nodejs: 16}, provision: [a, b], deprovision: [c]}}]}";

/// An archive of entries that the `tar` crate would not write by itself.
struct Pack(Builder<Vec<u8>>);

impl Pack {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn file(self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.entry(path, EntryType::Regular, "", contents.as_ref())
    }

    fn entry(mut self, path: &str, kind: EntryType, link: &str, contents: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, contents).expect("written");
        self
    }

    fn tar(self) -> Vec<u8> {
        self.0.into_inner().expect("written")
    }

    fn gz(self) -> Vec<u8> {
        gz(&self.tar())
    }

    fn unpack(self) -> Result<Bundle, BundleError> {
        unpack(&self.gz())
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("written")
}

fn unpack(bytes: &[u8]) -> Result<Bundle, BundleError> {
    Bundle::unpack(bytes, &Limits::default())
}

/// An archive with these files.
fn pack(files: &[(&str, &str)]) -> Pack {
    files.iter().fold(Pack::new(), |pack, (path, contents)| {
        pack.file(path, contents)
    })
}

fn environment() -> Pack {
    pack(&[
        ("schema/schema.yaml", ENVIRONMENT_SCHEMA),
        ("infrastructure/manifest.yaml", CLOUDFORMATION),
        ("infrastructure/cloudformation.yaml", "Resources: {}"),
    ])
}

fn with_manifest(manifest: &str) -> Bundle {
    let files = [
        ("schema/schema.yaml", ENVIRONMENT_SCHEMA),
        ("infrastructure/manifest.yaml", manifest),
        ("infrastructure/cloudformation.yaml", "Resources: {}"),
        ("infrastructure/main.tf", "# a"),
        ("infrastructure/modules/net/main.tf", "# b"),
        ("infrastructure/run.sh", "# c"),
    ];
    pack(&files).unpack().expect("unpacked")
}

fn message<T>(result: Result<T, BundleError>) -> String {
    match result {
        Ok(_) => panic!("the bundle is accepted"),
        Err(error) => error.to_string(),
    }
}

/// The real samples, which are not part of the product. A message tells where they are absent.
fn samples() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/proton/samples");
    let path = std::env::var_os("PROTON_SAMPLES").map_or(beside, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!(
        "skipped: no samples in {}; set PROTON_SAMPLES",
        path.display()
    );
    None
}

fn unpack_directory(path: &Path) -> Bundle {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    builder.append_dir_all("packed/v1", path).expect("packed");
    let bytes = builder
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("packed");
    unpack(&bytes).expect("unpacked")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("readable")
}
