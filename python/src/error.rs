//! What `mobileclip` says, as the exception that a Python programmer expects.

use std::error::Error as StdError;
use std::io;

use mobileclip::{Error, hub};
use pyo3::PyErr;
use pyo3::exceptions::{
    PyConnectionError, PyFileNotFoundError, PyIsADirectoryError, PyOSError, PyPermissionError, PyValueError,
};

/// The exception for an error, with the same line of text.
pub fn raised(error: Error) -> PyErr {
    match &error {
        Error::Hub(error) => raised_by_hub(error),
        _ => raised_by_cause(&error, error.to_string()),
    }
}

/// As [`raised`]; what is wrong with a picture that has no name is told with its `place` in the caller's list.
pub fn raised_at(place: Option<usize>, error: Error) -> PyErr {
    use mobileclip::image::Error::File;
    match (place, &error) {
        (None, _) | (_, Error::Image(File { .. })) => raised(error),
        (Some(place), Error::Image(_)) => raised_by_cause(&error, format!("picture {place}: {error}")),
        _ => raised(error),
    }
}

fn raised_by_hub(error: &hub::Error) -> PyErr {
    use hub::Error::{
        Gated, Interrupted, Offline, RepositoryNotFound, Status, StrangeAnswer, UnknownModel, Unreachable,
    };
    let message = error.to_string();
    match error {
        Offline { .. } => PyFileNotFoundError::new_err(message),
        UnknownModel { .. } => {
            PyFileNotFoundError::new_err(format!("{message} (no file or folder of this name is here either)"))
        }
        Gated { .. } | RepositoryNotFound { .. } => PyPermissionError::new_err(message),
        Interrupted { .. } | Status { .. } | StrangeAnswer { .. } | Unreachable { .. } => {
            PyConnectionError::new_err(message)
        }
        error => raised_by_cause(error, message),
    }
}

/// An `OSError` if the operating system is at the bottom of it, else a `ValueError`.
pub fn raised_by_cause(error: &(dyn StdError + 'static), message: String) -> PyErr {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return raised_by_system(error.kind(), message);
        }
        cause = error.source();
    }
    PyValueError::new_err(message)
}

fn raised_by_system(kind: io::ErrorKind, message: String) -> PyErr {
    match kind {
        io::ErrorKind::NotFound => PyFileNotFoundError::new_err(message),
        io::ErrorKind::PermissionDenied => PyPermissionError::new_err(message),
        io::ErrorKind::IsADirectory => PyIsADirectoryError::new_err(message),
        // Readers tell what is wrong in a file's content in this form, too.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => PyValueError::new_err(message),
        _ => PyOSError::new_err(message),
    }
}
