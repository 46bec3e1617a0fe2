//! Shards to reinforced shards.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mobileclip::LoadOptions;
use mobileclip::image::PassOrder;
use mobileclip_reinforce::{
    Augmentations, Captions, Effort, Embeddings, Error, Event, Naming, OnBad, Output, Packing, Teachers, run,
};
use mobileclip_shards::{ArrayType, expand};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::engine::{precision_of, variant_of};
use crate::error::raised_by_cause;

/// Teachers that make reinforced shards of a folder; what its options mean stands in `package/mobileclip/reinforce.py`.
#[pyclass(frozen, module = "mobileclip._native")]
pub struct Reinforcer {
    stage: Embeddings,
    output: Output,
}

/// The options, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Wishes {
    /// Paths with the variants that they are.
    teachers: Vec<(PathBuf, Option<String>)>,
    augmentations: u32,
    augment: Option<String>,
    seed: u64,
    dtype: String,
    captions: String,
    pillow: String,
    precision: String,
    on_bad: String,
    output: PathBuf,
    names: String,
    compress: String,
    threads: usize,
    batch: usize,
}

#[pymethods]
impl Reinforcer {
    /// Loads the teachers and tries them on a picture.
    #[staticmethod]
    fn open(py: Python<'_>, wishes: Wishes) -> PyResult<Self> {
        let naming = one_of("names", &wishes.names, [("input", Naming::Input), ("count", Naming::Count)])?;
        let packings = [("none", Packing::None), ("gz", Packing::Gzip), ("zst", Packing::Zstd)];
        let packing = one_of("compress", &wishes.compress, packings)?;
        let effort = Effort { threads: threads(wishes.threads), chunk: wishes.batch };
        let output = Output { naming, packing, ..Output::new(&wishes.output, effort) };
        let stage = py.detach(|| stage(&wishes))?;
        Ok(Self { stage, output })
    }

    /// Makes the shards of `inputs` that are not there yet; the first is number `first` of the whole list. Now and then
    /// `watch` is called, whose exceptions end it. Gives the report as JSON.
    #[pyo3(signature = (inputs, watch, *, first, manifest))]
    fn run(
        &self,
        py: Python<'_>,
        inputs: Vec<PathBuf>,
        watch: Py<PyAny>,
        first: usize,
        manifest: bool,
    ) -> PyResult<String> {
        let output = Output { first, writes_manifest: manifest, ..self.output.clone() };
        let mut raised = None;
        let report = py.detach(|| {
            run(&self.stage, &inputs, &output, &mut |event| {
                let told = Python::attach(|py| {
                    // Also while all that is left is other processes' work.
                    py.check_signals()?;
                    let Event::Progress(progress) = event else { return Ok(()) };
                    watch.call1(py, (progress.samples, progress.bytes, progress.total_bytes)).map(drop)
                });
                match told {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        raised = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
        });
        match (raised, report) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(fails(error)),
            (None, Ok(report)) => serde_json::to_string(&report.json())
                .map_err(|error| PyValueError::new_err(error.to_string())),
        }
    }

    /// The widths of the teachers' embeddings.
    #[getter]
    fn widths(&self) -> Vec<usize> {
        self.stage.teachers.widths()
    }
}

/// The shards that patterns stand for: paths, folders, brace lists, wildcards.
#[pyfunction]
pub fn expand_shards(patterns: Vec<String>) -> PyResult<Vec<OsString>> {
    let paths = expand(&patterns).map_err(|error| fails(error.into()))?;
    Ok(paths.into_iter().map(PathBuf::into_os_string).collect())
}

fn stage(wishes: &Wishes) -> PyResult<Embeddings> {
    let precision = precision_of(&wishes.precision)?;
    let dtype = one_of("dtype", &wishes.dtype, [("f32", ArrayType::F32), ("bf16", ArrayType::Bf16)])?;
    let on_bad = one_of("on_bad", &wishes.on_bad, [("keep", OnBad::Keep), ("drop", OnBad::Drop)])?;
    let orders =
        [("13", PassOrder::Pillow13), ("12.2", PassOrder::Pillow12_2), ("older", PassOrder::HorizontalFirst)];
    let order = one_of("pillow", &wishes.pillow, orders)?;
    let captions = Captions::parse(&wishes.captions).ok_or_else(|| {
        PyValueError::new_err(format!("captions `{}` is neither txt nor json:FIELD", wishes.captions))
    })?;
    let load = |(path, variant): &(PathBuf, Option<String>)| {
        let variant = variant.as_deref().map(variant_of).transpose()?;
        // Pictures are divided among the threads.
        let options = LoadOptions { variant, precision, threads: 1, ..LoadOptions::default() };
        mobileclip::Model::open(path, &options).map_err(crate::error::raised)
    };
    let models = wishes.teachers.iter().map(load).collect::<PyResult<_>>()?;
    let teachers = Teachers::new(models).map_err(fails)?;
    let json = match &wishes.augment {
        None => Augmentations::published(teachers.side()),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| PyValueError::new_err(format!("augment: no JSON: {error}")))?,
    };
    let augmentations =
        Augmentations::new(json, Path::new("augment"), wishes.augmentations, wishes.seed, order);
    let stage = Embeddings {
        teachers,
        augmentations: augmentations.map_err(fails)?,
        captions,
        synthetic: None,
        dtype,
        on_bad,
    };
    stage.rehearse().map_err(fails)?;
    Ok(stage)
}

fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        asked => asked,
    }
}

fn one_of<T: Copy, const N: usize>(option: &str, name: &str, values: [(&str, T); N]) -> PyResult<T> {
    match values.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => Ok(*value),
        None => {
            let known = values.map(|(known, _)| known).join(", ");
            Err(PyValueError::new_err(format!("{option} `{name}`: there are {known}")))
        }
    }
}

fn fails(error: Error) -> PyErr {
    let message = error.to_string();
    raised_by_cause(&error, message)
}
