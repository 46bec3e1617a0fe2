//! The intermediate representation, its tracing from the program, and its passes.
