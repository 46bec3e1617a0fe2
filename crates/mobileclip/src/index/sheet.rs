//! The contact sheet: one HTML file with the photos that were found.

use std::fmt::Write;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::disk::{RealDisk, publish};
use super::error::{Result, io_error};
use super::search::Hit;

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#f6f6f4;--card:#fff;--ink:#1c1c1a;--soft:#75756f;--bar:#2f6f5e}
@media(prefers-color-scheme:dark){:root{--back:#161615;--card:#222220;--ink:#ecece8;--soft:#9a9a92;--bar:#6fbfa8}}
*{box-sizing:border-box}
body{margin:0;padding:2rem clamp(1rem,4vw,3rem);background:var(--back);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
h1{margin:0 0 .2rem;font-size:1.5rem;font-weight:600;overflow-wrap:anywhere}
header p{margin:0 0 1.6rem;color:var(--soft)}
ol{list-style:none;margin:0;padding:0;display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(210px,1fr))}
li{background:var(--card);border-radius:10px;overflow:hidden;box-shadow:0 1px 3px rgb(0 0 0/.16)}
a{display:block;color:inherit;text-decoration:none}
a:hover .name,a:focus-visible .name{text-decoration:underline}
.photo{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:color-mix(in srgb,var(--ink) 7%,transparent)}
.none{display:grid;place-items:center;color:var(--soft)}
.text{padding:.55rem .7rem .7rem}
.name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.folder{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;direction:rtl;text-align:left;color:var(--soft);font-size:.8rem}
.score{display:flex;justify-content:space-between;color:var(--soft);font-size:.8rem;font-variant-numeric:tabular-nums}
.bar{height:3px;margin-top:.35rem;border-radius:2px;background:var(--bar)}
";

/// Writes a self-contained HTML file that shows `hits` in their order, with their scores. The photos' names lead to the
/// photos, as long as they lie where they were.
///
/// `thumbnail` gives a small picture of a photo, as media type (`image/jpeg`) and bytes; without one, the photo has a blank.
///
/// # Errors
/// [`Error::Io`](super::Error::Io) if the file cannot be written; an older one is then unharmed.
pub fn contact_sheet(
    html: &Path,
    title: &str,
    hits: &[Hit],
    mut thumbnail: impl FnMut(&Path) -> Option<(String, Vec<u8>)>,
) -> Result<()> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n<header><h1>{title}</h1><p>{count}</p></header>\n<ol>\n",
        title = escape(title),
        count = match hits.len() {
            1 => "1 photo".to_owned(),
            n => format!("{n} photos"),
        },
    );
    // Bars compare the hits of this sheet: absolute scores of a text lie in a narrow band far below 1.
    let best = hits.iter().map(|hit| hit.score).fold(0.0, f32::max);
    for (rank, hit) in hits.iter().enumerate() {
        let picture = match thumbnail(&hit.path) {
            Some((media_type, bytes)) => format!(
                "<img class=\"photo\" alt=\"\" src=\"data:{};base64,{}\">",
                escape(&media_type),
                BASE64_STANDARD.encode(bytes)
            ),
            None => "<span class=\"photo none\">no preview</span>".to_owned(),
        };
        let name = hit.path.file_name().unwrap_or(hit.path.as_os_str()).to_string_lossy();
        let folder = hit.path.parent().unwrap_or(Path::new("")).to_string_lossy();
        let width = if best > 0.0 { (100.0 * hit.score / best).clamp(0.0, 100.0) } else { 0.0 };
        // A `String` takes any write.
        let _ = writeln!(
            page,
            "<li><a href=\"{link}\" title=\"{path}\">{picture}<div class=\"text\"><div class=\"name\">{name}</div>\
             <div class=\"folder\"><bdi>{folder}</bdi></div>\
             <div class=\"score\"><span>{rank}</span><span>{score:.4}</span></div>\
             <div class=\"bar\" style=\"width:{width:.1}%\"></div></div></a></li>",
            link = file_url(&hit.path),
            path = escape(&hit.path.to_string_lossy()),
            name = escape(&name),
            folder = escape(&folder),
            rank = rank + 1,
            score = hit.score,
        );
    }
    page.push_str("</ol>\n</html>\n");
    publish(&RealDisk, html, page.as_bytes()).map_err(io_error(html))
}

/// Text as HTML, in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The address of a file (RFC 8089): all but unreserved characters and separators as percent codes.
fn file_url(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    // A drive's letter has no separator before it.
    let mut url = String::from(if bytes.first() == Some(&b'/') { "file://" } else { "file:///" });
    for &byte in bytes {
        match byte {
            b'\\' if cfg!(windows) => url.push('/'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                url.push(char::from(byte))
            }
            byte => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
    }
    url
}
