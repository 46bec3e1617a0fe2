//! A contact sheet of reinforced samples, to look at what was made.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use mobileclip::RgbImage;
use mobileclip::image::{DecodeOptions, PassOrder};
use mobileclip::index::{escape, small_jpeg};
use mobileclip_shards::{Fault, Limits, Reinforcement, ReinforcementSpec, Sample, SampleStream};
use serde_json::{Map, Value};

use crate::augmentations::Augmentations;
use crate::embeddings::Captions;
use crate::error::{Error, Failure, Result};
use crate::filtering::cosine;
use crate::verify::{parameters, recorded_augmentations};

/// Sides of pictures, in pixels.
const PICTURE: usize = 224;
const AUGMENTED: usize = 144;
/// Characters of a caption that are shown.
const CAPTION: usize = 400;

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#f6f6f4;--card:#fff;--ink:#1c1c1a;--soft:#75756f}
@media(prefers-color-scheme:dark){:root{--back:#161615;--card:#222220;--ink:#ecece8;--soft:#9a9a92}}
*{box-sizing:border-box}
body{margin:0;padding:2rem clamp(1rem,4vw,3rem);background:var(--back);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
h1{margin:0 0 .2rem;font-size:1.5rem;font-weight:600}
h2{margin:0 0 .6rem;font-size:.9rem;font-weight:600;overflow-wrap:anywhere}
p{color:var(--soft);margin:0 0 1.6rem}
section{background:var(--card);border-radius:10px;padding:1rem;margin:0 0 1rem;box-shadow:0 1px 3px rgb(0 0 0/.16)}
.row{display:flex;flex-wrap:wrap;gap:.6rem;align-items:flex-start}
figure{margin:0;color:var(--soft);font-size:.8rem;font-variant-numeric:tabular-nums}
img{display:block;border-radius:4px}
table{border-collapse:collapse;margin-top:.8rem;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top;font-weight:400;overflow-wrap:anywhere}
th,.soft{color:var(--soft)}
";

/// What is known of the shards besides themselves.
struct Known {
    /// Names and widths of teachers.
    teachers: Vec<(String, usize)>,
    augmentations: Augmentations,
    /// At which height and width the first teacher sees pictures.
    size: (usize, usize),
}

/// A self-contained HTML page of the first `count` samples: picture, augmentations as the (first) teacher saw them, captions, and the cosines of
/// pictures and captions in each teacher's embeddings. What was made how comes from `config.json` beside the shards; where there is none, the
/// published augmentations are replayed, and `widths` says how wide each teacher's part of the embeddings is.
///
/// What a sample lacks is told in its place.
///
/// # Errors
/// If a shard cannot be opened, or the configuration not be read.
pub fn contact_sheet(
    shards: &[PathBuf],
    count: usize,
    captions: &Captions,
    widths: &[usize],
) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Samples</title>\n\
         <style>\n{STYLE}</style>\n<h1>Samples</h1>\n<p>Below an augmentation: the cosine of it and the first true caption, teacher by \
         teacher. In the table: a caption's cosine with the augmentations, on average.</p>\n"
    );
    let mut left = count;
    for shard in shards {
        if left == 0 {
            break;
        }
        let known = Known::of(shard, widths)?;
        for sample in SampleStream::open(shard, Limits::default())?.take(left) {
            left -= 1;
            match sample {
                Ok(sample) => known.section(&sample, captions, &mut page),
                Err(fault) => tell(&mut page, &fault),
            }
        }
    }
    page.push_str("</html>\n");
    Ok(page)
}

fn tell(page: &mut String, fault: &Fault) {
    // A `String` takes any write.
    let _ = writeln!(page, "<section class=\"soft\">{}</section>", escape(&fault.to_string()));
}

impl Known {
    fn of(shard: &Path, widths: &[usize]) -> Result<Self> {
        let path = shard.with_file_name(crate::CONFIG);
        let config = Augmentations::read_if_there(&path)?.unwrap_or_default();
        let teachers = config.get("teachers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let width = |teacher: &Value| teacher.get("width").and_then(Value::as_u64);
        let name =
            |teacher: &Value| teacher.get("variant").and_then(Value::as_str).unwrap_or("teacher").to_owned();
        let recorded = teachers.iter().filter_map(|teacher| Some((name(teacher), width(teacher)? as usize)));
        let given = widths.iter().enumerate().map(|(i, &width)| (format!("teacher {}", i + 1), width));
        let side = |i: usize| teachers.first()?.get("size")?.get(i)?.as_u64().map(|side| side as usize);
        let size = (side(0).unwrap_or(224), side(1).unwrap_or(224));
        // What a folder of another stage was made with is no configuration of augmentations.
        let augmentations = match config.get("reinforce") {
            Some(_) => recorded_augmentations(shard)?,
            None => None,
        };
        let augmentations = augmentations.map_or_else(
            || Augmentations::new(Augmentations::published(224), shard, 1, 0, PassOrder::default()),
            Ok,
        )?;
        Ok(Self { teachers: recorded.chain(given).collect(), augmentations, size })
    }

    fn section(&self, sample: &Sample, captions: &Captions, page: &mut String) {
        let _ = writeln!(page, "<section>\n<h2>{}</h2>", escape(sample.key()));
        if let Err(fault) = self.content(sample, captions, page) {
            let _ = writeln!(page, "<div class=\"soft\">{}</div>", escape(&fault.to_string()));
        }
        page.push_str("</section>\n");
    }

    fn content(&self, sample: &Sample, captions: &Captions, page: &mut String) -> Result<(), Fault> {
        let picture = sample.decode(&DecodeOptions::default())?;
        let size = format!("{} × {}", picture.width(), picture.height());
        let captions = match captions.of(sample) {
            Ok(captions) => captions,
            Err(Failure::Fault(fault)) => return Err(fault),
            Err(Failure::Error(_)) => Vec::new(),
        };
        page.push_str("<div class=\"row\">\n");
        figure(page, picture.clone(), PICTURE, &size);
        let reinforcement = sample.get("paug.json").map(|_| self.reinforcement(sample, captions.len()));
        let reinforcement = reinforcement.transpose();
        if let Ok(Some(reinforcement)) = &reinforcement {
            for (i, parameters) in parameters(sample, &self.augmentations)?.iter().enumerate() {
                let replayed = self.augmentations.replay(parameters, &picture, self.size);
                let replayed = replayed.map_err(|error| sample.bad("paug.json", error.to_string()))?;
                let rows = (reinforcement.image_embeddings.row(i), reinforcement.text_embeddings.row(0));
                let cosines = self.cosines(&[rows.0], rows.1);
                figure(page, replayed, AUGMENTED, &escape(&cosines.join(" ")));
            }
        }
        page.push_str("</div>\n<table>\n<tr><th></th>");
        let shown = reinforcement.as_ref().ok().and_then(Option::as_ref);
        let images: Vec<&[f32]> = shown.map_or_else(Vec::new, |shown| {
            let images = &shown.image_embeddings;
            (0..images.rows()).map(|i| images.row(i)).collect()
        });
        let names = self.teachers.iter().filter(|_| !images.is_empty());
        names.for_each(|(name, _)| _ = write!(page, "<th>{}</th>", escape(name)));
        page.push_str("</tr>\n");
        let mut row = |kind: &str, caption: &str, embedding: &[f32]| {
            let caption: String = caption.chars().take(CAPTION).collect();
            let _ = write!(
                page,
                "<tr><td><span class=\"soft\">{}</span> {}</td>",
                escape(kind),
                escape(&caption)
            );
            for cosine in self.cosines(&images, embedding) {
                let _ = write!(page, "<td>{cosine}</td>");
            }
            page.push_str("</tr>\n");
        };
        for (i, caption) in captions.iter().enumerate() {
            row("", caption, shown.map_or(&[], |shown| shown.text_embeddings.row(i)));
        }
        for (name, captions, embeddings) in sets(sample, shown) {
            for (i, caption) in captions.iter().enumerate() {
                row(&name, caption, embeddings.map_or(&[], |matrix| matrix.row(i)));
            }
        }
        page.push_str("</table>\n");
        reinforcement.map(drop)
    }

    fn reinforcement(&self, sample: &Sample, captions: usize) -> Result<Reinforcement, Fault> {
        let teacher_dims = self.teachers.iter().map(|(_, width)| *width).collect();
        Reinforcement::read(
            sample,
            captions,
            &ReinforcementSpec { teacher_dims, ..ReinforcementSpec::default() },
        )
    }

    /// The mean cosine of a caption with pictures, teacher by teacher; nothing where there are no embeddings.
    fn cosines(&self, images: &[&[f32]], text: &[f32]) -> Vec<String> {
        let mut start = 0;
        let mut cosines = Vec::new();
        for (_, width) in &self.teachers {
            let part = |row: &[f32]| mobileclip::normalized(row.get(start..start + width)?.to_vec()).into();
            let text: Option<Vec<f32>> = part(text);
            let Some(text) = text.filter(|_| !images.is_empty()) else { return Vec::new() };
            let sum: f32 =
                images.iter().filter_map(|image| part(image)).map(|image| cosine(&image, &text)).sum();
            cosines.push(format!("{:.3}", sum / images.len() as f32));
            start += width;
        }
        cosines
    }
}

/// The sets of synthetic captions, with embeddings where there are some.
fn sets<'r>(
    sample: &Sample,
    shown: Option<&'r Reinforcement>,
) -> Vec<(String, Vec<String>, Option<&'r mobileclip_shards::Matrix>)> {
    let sets: Map<String, Value> = sample.json("syn.json").unwrap_or_default();
    let texts = |captions: &Value| -> Vec<String> {
        captions
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let embedded = |name: &str| {
        let set = shown?.synthetic.iter().find(|set| set.name == name)?;
        Some(&set.embeddings)
    };
    sets.iter().map(|(name, captions)| (name.clone(), texts(captions), embedded(name))).collect()
}

fn figure(page: &mut String, picture: RgbImage, side: usize, caption: &str) {
    match small_jpeg(picture, side) {
        Some(jpeg) => {
            let _ = writeln!(
                page,
                "<figure><img alt=\"\" src=\"{jpeg}\"><figcaption>{caption}</figcaption></figure>"
            );
        }
        None => _ = writeln!(page, "<figure><figcaption>no preview: {caption}</figcaption></figure>"),
    }
}

/// Writes a page; what is there under its name stays until it is whole.
///
/// # Errors
/// [`Error::Io`].
pub fn write_sheet(path: &Path, page: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".preview-")
            .make_in(folder, |path| std::fs::File::options().write(true).create_new(true).open(path))?;
        std::io::Write::write_all(&mut file, page.as_bytes())?;
        file.persist(path).map(|_| ()).map_err(|error| error.error)
    };
    write().map_err(Error::io(path))
}
