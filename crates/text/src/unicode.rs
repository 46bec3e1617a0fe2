//! The character classes of Python and of the CLIP pattern, where Rust's own differ.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Whether Python's `str.isspace` holds: Unicode white space and the four separators U+001C..U+001F.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether `c` is in `\p{L}`; [`char::is_alphabetic`] also holds for some marks, numbers and symbols.
pub(crate) fn is_letter(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    c.general_category_group() == GeneralCategoryGroup::Letter
}

/// Whether `c` is in `\p{N}`.
pub(crate) fn is_number(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    c.general_category_group() == GeneralCategoryGroup::Number
}

/// Whether `c` is in Python's `\d`.
pub(crate) fn is_decimal_digit(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    c.general_category() == GeneralCategory::DecimalNumber
}

/// Whether `c` is in Python's `\w`: letters, numbers and the underscore (no marks).
pub(crate) fn is_python_word(c: char) -> bool {
    c == '_' || is_letter(c) || is_number(c)
}
