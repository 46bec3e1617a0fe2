//! The native half of the Python module `mobileclip`: a model behind methods that take files, bytes and flat arrays, release the
//! interpreter's lock while they compute, and raise what `mobileclip` says.
//!
//! What people call is `package/mobileclip`, which turns whatever is a picture or a text into these few forms.

mod captions;
mod engine;
mod error;
mod hub;
mod photo;
mod reinforce;
mod tokens;

/// See `package/mobileclip/_native.pyi` for the types.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::engine::{Engine, Labels};
    #[pymodule_export]
    use crate::hub::{list_models, locate, tokenizer_facts};
    #[pymodule_export]
    use crate::reinforce::{Reinforcer, expand_shards};
    #[pymodule_export]
    use crate::tokens::Tokenizer;
}
