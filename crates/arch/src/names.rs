//! The stack of scopes that a reading stands in.

use std::cell::RefCell;

/// Dotted names, nested.
#[derive(Debug, Default)]
pub struct Names(RefCell<String>);

impl Names {
    /// Runs `body` inside `name` (which may hold dots, or be empty).
    pub fn scope<R>(&self, name: &str, body: impl FnOnce() -> R) -> R {
        let outer = self.0.borrow().len();
        push(&mut self.0.borrow_mut(), name);
        let result = body();
        self.0.borrow_mut().truncate(outer);
        result
    }

    /// The current scope's name.
    pub fn here(&self) -> String {
        self.0.borrow().clone()
    }

    /// `name` in the current scope; either may be empty.
    pub fn of(&self, name: &str) -> String {
        let mut full = self.here();
        push(&mut full, name);
        full
    }

    /// `name.leaf` in the current scope.
    pub fn leaf(&self, name: &str, leaf: &str) -> String {
        let mut full = self.of(name);
        push(&mut full, leaf);
        full
    }
}

fn push(full: &mut String, name: &str) {
    if !full.is_empty() && !name.is_empty() {
        full.push('.');
    }
    full.push_str(name);
}
