//! JSON as Python's `json.dumps` writes it, which is what stands in the published shards.

use std::fmt::Write;

use serde_json::Value;

/// One line, with `, ` between elements and `: ` after keys, ASCII only.
pub(super) fn dumps(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) if number.is_f64() => {
            out.push_str(&number.as_f64().map_or_else(String::new, repr))
        }
        Value::String(text) => string(text, out),
        Value::Array(list) => {
            out.push('[');
            for (i, element) in list.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write(element, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (i, (key, element)) in map.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                string(key, out);
                out.push_str(": ");
                write(element, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// The shortest decimal that reads back as `v`, in Python's form: from 1e-4 to below 1e16 without an exponent, else with one of at least
/// two digits.
fn repr(v: f64) -> String {
    let scientific = format!("{v:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=15 => format!("{v:?}"),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What Python 3.11 prints.
    #[test]
    fn numbers_as_python_prints_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (7.0, "7.0"),
            (-0.090_000_003_576_278_69, "-0.09000000357627869"),
            (101.510_574_340_820_31, "101.51057434082031"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1e22, "1e+22"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
        ];
        for (v, printed) in cases {
            assert_eq!(repr(v), printed);
        }
    }

    #[test]
    fn separators_and_escapes_as_python_writes_them() {
        let value = json!({"a": [1, null, true, "é\u{1F600}\"\\\n\u{1}\u{7f}"], "b": {}});
        assert_eq!(
            dumps(&value),
            r#"{"a": [1, null, true, "\u00e9\ud83d\ude00\"\\\n\u0001\u007f"], "b": {}}"#
        );
    }
}
