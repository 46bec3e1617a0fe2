//! Checkpoints of a run: folders that appear whole or not at all.
//!
//! `checkpoints/step-00000500/` holds `student.safetensors` (all tensors by canonical name), `optimiser.safetensors`
//! (`exp_avg.NAME`, `exp_avg_sq.NAME`), `ema.safetensors` if there is an average, and `state.json`. It is written under another
//! name, brought to the disk and renamed.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use mobileclip_arch::Role;
use mobileclip_autodiff::Parameters;
use mobileclip_checkpoint::TensorFile;
use safetensors::Dtype;
use safetensors::tensor::View;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data::Position;
use crate::ema::Ema;
use crate::error::{Error, Result};
use crate::optimiser::Optimiser;

/// The student's weights in a checkpoint.
pub(crate) const STUDENT: &str = "student.safetensors";
/// Their moving average.
pub(crate) const EMA: &str = "ema.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
const STATE: &str = "state.json";
const FOLDER: &str = "checkpoints";
/// What the names of checkpoints that are being written begin with.
const STAGING: &str = ".writing-";
/// The folder of weights that somebody looks at.
const LENT: &str = ".lent";

/// Where a run stands, but for its tensors. Everything random is a function of the seed and these numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Steps done.
    pub step: u64,
    /// Steps that the optimiser counts.
    pub optimiser_steps: u64,
    pub data: Position,
    /// What the position is a position in.
    pub samples: usize,
    /// Threads that computed: sums may depend on their number.
    pub threads: usize,
    pub config: Config,
}

/// The tensors that training moves.
pub(crate) struct Moving {
    pub parameters: Parameters,
    pub optimiser: Optimiser,
    pub ema: Option<Ema>,
}

/// The checkpoints in a run's folder, the newest last.
///
/// # Errors
/// If the folder cannot be read; none there is no error.
pub(crate) fn list(out: &Path) -> Result<Vec<PathBuf>> {
    let folder = out.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io(&folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(&folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(step) = name.strip_prefix("step-").and_then(|step| step.parse::<u64>().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Writes a checkpoint and removes those beyond the last `keep`.
///
/// # Errors
/// If it cannot be written; what was there is still there then.
pub(crate) fn save(out: &Path, state: &State, moving: &Moving, keep: usize) -> Result<PathBuf> {
    let folder = out.join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(&folder).map_err(Error::io(&folder))?;
    let Moving { parameters, optimiser, ema } = moving;
    write(&staging.path().join(STUDENT), weights(parameters))?;
    write(&staging.path().join(OPTIMISER), moments(parameters, optimiser))?;
    if let Some(ema) = ema {
        write(&staging.path().join(EMA), weights(ema.parameters()))?;
    }
    let path = staging.path().join(STATE);
    let text = serde_json::to_string_pretty(state).map_err(|e| Error::io(&path)(e.into()))?;
    let mut file = File::create(&path).map_err(Error::io(&path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io(&path))?;
    sync(staging.path())?;
    let path = folder.join(format!("step-{:08}", state.step));
    // The same step may be there already: the last one of a run that was asked to stop just then.
    if path.exists() {
        fs::remove_dir_all(&path).map_err(Error::io(&path))?;
    }
    fs::rename(staging.path(), &path).map_err(Error::io(&path))?;
    let _ = staging.keep();
    sync(&folder)?;
    let all = list(out)?;
    for old in &all[..all.len().saturating_sub(keep)] {
        fs::remove_dir_all(old).map_err(Error::io(old))?;
    }
    Ok(path)
}

/// Lends weights to somebody who wants them as a file, which is gone afterwards.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn lend<R>(out: &Path, parameters: &Parameters, to: impl FnOnce(&Path) -> R) -> Result<R> {
    let folder = out.join(LENT);
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let path = folder.join(STUDENT);
    write(&path, weights(parameters))?;
    let result = to(&path);
    fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
    Ok(result)
}

/// Removes what a killed run left unfinished in its folder.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn sweep(out: &Path) -> Result<()> {
    let remove = |path: &Path| fs::remove_dir_all(path).map_err(Error::io(path));
    let lent = out.join(LENT);
    if lent.exists() {
        remove(&lent)?;
    }
    let folder = out.join(FOLDER);
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.map_err(Error::io(&folder))?.path();
        if path.file_name().unwrap_or_default().to_string_lossy().starts_with(STAGING) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Reads a checkpoint's state.
///
/// # Errors
/// If it is not there or malformed.
pub(crate) fn read_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join(STATE);
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map_err(|e| Error::Checkpoint { path, reason: e.to_string() })
}

/// Reads a checkpoint's tensors into those of a run that begins.
///
/// # Errors
/// If a file is damaged or holds other tensors.
pub(crate) fn load(checkpoint: &Path, state: &State, moving: &mut Moving) -> Result<()> {
    let Moving { parameters, optimiser, ema } = moving;
    let path = checkpoint.join(OPTIMISER);
    let file = TensorFile::open(&path)?;
    for index in (0..parameters.len()).filter(|&i| parameters.is_trained(i)) {
        let name = &parameters.spec(index).name;
        for (target, of) in optimiser.state_mut(index).into_iter().zip(MOMENTS) {
            copy(&file, &format!("{of}.{name}"), target)?;
        }
    }
    optimiser.set_steps(state.optimiser_steps);
    read_weights(&checkpoint.join(STUDENT), parameters)?;
    match ema {
        Some(ema) => read_weights(&checkpoint.join(EMA), ema.parameters_mut()),
        None => Ok(()),
    }
}

const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

fn read_weights(path: &Path, parameters: &mut Parameters) -> Result<()> {
    let file = TensorFile::open(path)?;
    for index in 0..parameters.len() {
        let name = parameters.spec(index).name.clone();
        if parameters.spec(index).role == Role::Counter {
            let view = file.get(&name).ok_or_else(|| missing(path, &name))?;
            let bytes = view.bytes()?;
            let count = bytes.as_ref().try_into().map(u64::from_le_bytes);
            let count = count.map_err(|_| Error::Checkpoint {
                path: path.to_path_buf(),
                reason: format!("`{name}`: a counter must have 8 bytes, has {}", bytes.len()),
            })?;
            parameters.set_count(index, count);
        } else {
            copy(&file, &name, parameters.values_mut(index))?;
        }
    }
    Ok(())
}

fn copy(file: &TensorFile, name: &str, target: &mut [f32]) -> Result<()> {
    let view = file.get(name).ok_or_else(|| missing(file.path(), name))?;
    let values = view.to_f32()?;
    if values.len() != target.len() {
        let (found, expected) = (values.len(), target.len());
        let reason = format!("`{name}`: {found} numbers, the variant has {expected}");
        return Err(Error::Checkpoint { path: file.path().to_path_buf(), reason });
    }
    target.copy_from_slice(&values);
    Ok(())
}

fn missing(path: &Path, name: &str) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), reason: format!("has no tensor `{name}`") }
}

/// A tensor on its way into a file.
enum Stored<'a> {
    Floats { shape: &'a [usize], values: &'a [f32] },
    Counter { shape: &'a [usize], count: u64 },
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Stored::Floats { .. } => Dtype::F32,
            Stored::Counter { .. } => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Stored::Floats { shape, .. } | Stored::Counter { shape, .. } => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self {
            Stored::Floats { values, .. } => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Stored::Counter { count, .. } => count.to_le_bytes().to_vec(),
        })
    }

    fn data_len(&self) -> usize {
        match self {
            Stored::Floats { values, .. } => values.len() * 4,
            Stored::Counter { .. } => 8,
        }
    }
}

fn weights(parameters: &Parameters) -> impl Iterator<Item = (String, Stored<'_>)> {
    (0..parameters.len()).map(|index| {
        let spec = parameters.spec(index);
        let shape = &spec.shape[..];
        let stored = match spec.role {
            Role::Counter => Stored::Counter { shape, count: parameters.count(index) },
            _ => Stored::Floats { shape, values: parameters.values(index) },
        };
        (spec.name.clone(), stored)
    })
}

fn moments<'a>(
    parameters: &'a Parameters,
    optimiser: &'a Optimiser,
) -> impl Iterator<Item = (String, Stored<'a>)> {
    let trained = (0..parameters.len()).filter(|&index| parameters.is_trained(index));
    trained.flat_map(|index| {
        let spec = parameters.spec(index);
        optimiser.state(index).into_iter().zip(MOMENTS).map(move |(values, of)| {
            (format!("{of}.{}", spec.name), Stored::Floats { shape: &spec.shape, values })
        })
    })
}

fn write<'a>(path: &Path, tensors: impl Iterator<Item = (String, Stored<'a>)>) -> Result<()> {
    let format = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(tensors, Some(format), path)
        .map_err(|source| Error::io(path)(std::io::Error::other(source)))?;
    sync(path)
}

/// Brings a file or folder to the disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path))
}
