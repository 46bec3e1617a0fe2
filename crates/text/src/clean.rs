//! The cleaning that open_clip applies before tokenising (its `lower` mode).

use crate::html::unescape;
use crate::repair::fix_text;
use crate::unicode::is_python_space;

/// Repair, unescape, collapse white space, lower the case.
///
/// ```
/// let text = "  The Mona Lisa doesnâ€™t\n have &eacute;yebrows &amp;amp; ";
/// assert_eq!(mobileclip_text::clean(text), "the mona lisa doesn't have éyebrows &");
/// ```
pub fn clean(text: &str) -> String {
    let fixed = fix_text(text);
    let once = unescape(&fixed);
    let twice = unescape(&once);
    let mut joined = String::with_capacity(twice.len());
    for word in twice.split(is_python_space).filter(|word| !word.is_empty()) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined.to_lowercase()
}
