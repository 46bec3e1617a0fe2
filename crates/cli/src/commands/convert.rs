//! `mobileclip convert`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use mobileclip::{DeployOptions, FloatType, open_checkpoint, write_deploy_with, write_open_clip};

use crate::args::{Convert, Dtype, Form, Global};
use crate::output::{Outcome, note};
use crate::session;

/// What [`write_open_clip`] writes.
const OPEN_CLIP_FILES: [&str; 2] = ["open_clip_config.json", "open_clip_model.safetensors"];

pub fn run(global: &Global, args: &Convert) -> anyhow::Result<Outcome> {
    let out = &args.output;
    let is_file_name = out.extension().is_some_and(|extension| extension == "safetensors");
    let form = args.to.unwrap_or(if is_file_name { Form::Deploy } else { Form::OpenClip });
    let targets: Vec<PathBuf> = match form {
        Form::Deploy if out.is_dir() => {
            bail!("{}: is a folder; a fused file needs a file's name", out.display())
        }
        Form::Deploy => vec![out.clone()],
        Form::OpenClip if out.is_file() => {
            bail!("{}: is a file; open_clip's layout needs a folder", out.display())
        }
        Form::OpenClip => OPEN_CLIP_FILES.iter().map(|name| out.join(name)).collect(),
    };
    match form {
        Form::Deploy => session::check_folder(out)?,
        Form::OpenClip if args.compact => bail!("--compact is for fused files; {} is none", out.display()),
        Form::OpenClip => {}
    }
    if let Some(there) = targets.iter().find(|target| target.exists() && !args.force) {
        bail!("{}: is there already; --force replaces it", there.display());
    }

    let options = session::load_options(global, None)?;
    let input = session::locate(&args.input, global)?;
    let checkpoint = open_checkpoint(&input, options.variant.as_ref()).map_err(session::mend_model)?;
    // The weights are read while the target is written, and what a crash leaves must not be the only copy.
    let source = checkpoint.file().path();
    if let Some(same) = targets.iter().find(|target| is_same(target, source)) {
        bail!("{}: is the input itself; choose another name", same.display());
    }
    if form == Form::OpenClip && is_same(out, &input) {
        bail!("{}: is the input's folder; choose another one", out.display());
    }

    let float = match args.dtype {
        Dtype::F32 => FloatType::F32,
        Dtype::F16 => FloatType::F16,
        Dtype::Bf16 => FloatType::Bf16,
    };
    match form {
        Form::Deploy => {
            let options = DeployOptions { float, is_compact: args.compact };
            write_deploy_with(&checkpoint, out, &options).map_err(session::mend_model)?
        }
        Form::OpenClip => {
            write_open_clip(&checkpoint, out, float).with_context(|| format!("writing {}", out.display()))?
        }
    }
    for target in &targets {
        let bytes = fs::metadata(target).map_or(0, |metadata| metadata.len());
        note(
            global.quiet,
            format!("{}: {:.1} MB, {}", target.display(), bytes as f64 / 1e6, checkpoint.variant().name),
        );
    }
    Ok(Outcome::Done)
}

/// Whether two paths are one file.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
