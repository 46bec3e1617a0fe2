//! From a pickle's values to tensors by name.

use crate::error::Listing;
use crate::pickle::{Id, Pickle, TensorRef, Value};

/// Where training scripts put the weights: open_clip's, and two spellings of others. Taken in this order.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The tensors of a checkpoint, in the order of the dict.
pub(super) struct StateDict<'p, 'a> {
    pub tensors: Vec<(&'a str, &'p TensorRef<'a>)>,
    pub notes: Vec<String>,
}

/// Finds the state dict: the root, or what stands in it under a known name. The error says what was found instead.
pub(super) fn find<'p, 'a>(pickle: &'p Pickle<'a>) -> Result<StateDict<'p, 'a>, String> {
    let Value::Dict(root) = pickle.root() else {
        return Err(format!("{} at the top", pickle.root().kind()));
    };
    let mut notes = Vec::new();
    let wrapped = WRAPPERS.iter().find_map(|&name| match lookup(pickle, root, name) {
        Some(Value::Dict(inner)) => Some((name, inner)),
        _ => None,
    });
    let dict = match wrapped {
        Some((name, inner)) => {
            let others: Vec<String> =
                root.iter().map(|&(k, _)| key(pickle, k)).filter(|k| k != name).collect();
            if !others.is_empty() {
                notes.push(format!("took `{name}`, left aside: {}", Listing::from_iter(others)));
            }
            inner
        }
        None => root,
    };
    let mut tensors = Vec::new();
    let mut others = Vec::new();
    for &(k, v) in dict {
        match (pickle.get(k), pickle.get(v)) {
            (Value::Str(name), Value::Tensor(tensor)) => tensors.push((*name, &**tensor)),
            (_, value) => others.push(format!("{} ({})", key(pickle, k), value.kind())),
        }
    }
    if tensors.is_empty() {
        return Err(if others.is_empty() {
            "an empty dict".into()
        } else {
            format!("a dict of {}", Listing::from_iter(others))
        });
    }
    if !others.is_empty() {
        notes.push(format!("no tensors, left aside: {}", Listing::from_iter(others)));
    }
    Ok(StateDict { tensors, notes })
}

/// The last value under `name`, as in Python where a later one replaces an earlier.
fn lookup<'p, 'a>(pickle: &'p Pickle<'a>, dict: &[(Id, Id)], name: &str) -> Option<&'p Value<'a>> {
    dict.iter()
        .rev()
        .find(|&&(k, _)| matches!(pickle.get(k), Value::Str(s) if *s == name))
        .map(|&(_, v)| pickle.get(v))
}

fn key(pickle: &Pickle<'_>, id: Id) -> String {
    match pickle.get(id) {
        Value::Str(s) => s.chars().take(100).collect(),
        Value::Int(n) => n.to_string(),
        other => other.kind().to_string(),
    }
}
