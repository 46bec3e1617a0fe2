//! From a model's name to a path, with word of what happens and without being deaf to Ctrl-C.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use mobileclip::hub::{Progress, Target, known_models};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::raised;

/// How long a Ctrl-C waits at most.
const PATIENCE: Duration = Duration::from_millis(100);

enum Event {
    Said(String),
    Bytes(u64, Option<u64>),
    Done(Result<PathBuf, mobileclip::Error>),
}

/// The path of a model: one that exists, or that of a name on the hub, loaded if it is not in the cache. What happens meanwhile
/// goes to `say(line)` and `count(done, total)`.
#[pyfunction]
pub fn locate(
    py: Python<'_>,
    name_or_path: String,
    say: &Bound<'_, PyAny>,
    count: &Bound<'_, PyAny>,
) -> PyResult<OsString> {
    let (sender, mut receiver) = mpsc::channel();
    // A transfer cannot be stopped in the middle. If the caller stops waiting, it goes on by itself while the process lives, and
    // what has come is kept for the next time.
    std::thread::spawn(move || {
        let done = mobileclip::locate(&name_or_path, &mut |progress| {
            // Nobody listens any more if the caller was interrupted.
            let _ = event_of(progress).map(|event| sender.send(event));
        });
        let _ = sender.send(Event::Done(done));
    });
    loop {
        py.check_signals()?;
        let event;
        (event, receiver) = py.detach(move || (receiver.recv_timeout(PATIENCE), receiver));
        match event {
            Ok(Event::Said(line)) => drop(say.call1((line,))?),
            Ok(Event::Bytes(done, total)) => drop(count.call1((done, total))?),
            Ok(Event::Done(path)) => return path.map(PathBuf::into_os_string).map_err(raised),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("looking for the model ended without a result"));
            }
        }
    }
}

fn event_of(progress: Progress<'_>) -> Option<Event> {
    Some(match progress {
        Progress::Begin { file, repo, licence, page, .. } => {
            let licence = licence.map_or_else(String::new, |licence| format!("{licence}, "));
            Event::Said(format!("loading {file} of {repo} (licence: {licence}see {page})"))
        }
        Progress::Bytes { done, total, .. } => Event::Bytes(done, total),
        Progress::Waiting { file, reason, wait } => {
            Event::Said(format!("{file}: {reason}; trying again in {} s", wait.as_secs_f32()))
        }
        Progress::Locked { file } => Event::Said(format!("{file}: another process is loading it, waiting")),
        Progress::FromCache { repo, reason } => {
            Event::Said(format!("{repo}: the copy in the cache is taken ({reason})"))
        }
        _ => return None,
    })
}

/// The names that models on the hub go by.
#[pyfunction]
pub fn list_models() -> Vec<String> {
    known_models().iter().map(|model| model.reference()).collect()
}

/// How many token ids the text tower of a variant or of a model with a name takes, and the size of its tokenizer's vocabulary.
#[pyfunction]
pub fn tokenizer_facts(name: &str) -> PyResult<(usize, usize)> {
    let variant = match mobileclip::variant(name) {
        Some(variant) => Some(variant),
        None => {
            let target = Target::parse(name).map_err(|error| raised(error.into()))?;
            target.known().and_then(|known| mobileclip::variant(known.name))
        }
    };
    let facts = variant.map(|variant| (variant.text.context, variant.text.tokenizer_size()));
    facts.ok_or_else(|| {
        let mend = "only its file says how many ids it takes: load it, and take `model.tokenizer`";
        PyValueError::new_err(format!("{name}: {mend}"))
    })
}
