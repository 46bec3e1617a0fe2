//! Samples to a shard.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use mobileclip_store::{Draft, Finished, Place};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tar::{EntryType, Header};

use crate::error::{Error, Result};
use crate::fields;
use crate::format::Format;
use crate::name;
use crate::sample::{Member, Sample};

const BLOCK: usize = 512;
/// What a tar file ends in.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
const BUFFER: usize = 1 << 18;
/// Bytes that are packed into one zstd frame.
const FRAME: usize = 4 << 20;
/// The owner that the published sets have.
const OWNER: &str = "bigdata";

/// Writes a shard, which appears under its name, on a disk or a store, when it is whole.
///
/// What the name ends in says what it is: `.tar` or `.jsonl`, `.gz` or `.zst` after it where it is packed. Its bytes depend on the samples alone: in
/// a tar file members stand in the order of their suffixes, with mode 0444, time 0 and one owner, as in the published sets.
///
/// ```
/// use mobileclip_shards::{Limits, Member, Sample, SampleStream, ShardWriter};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("00000.tar.gz");
/// let members = vec![Member { suffix: "txt".into(), bytes: b"a cat".into() }];
/// let mut writer = ShardWriter::create(&path)?;
/// writer.write(&Sample::new(path.as_path().into(), "0001".into(), members))?;
/// assert!(!path.exists());
/// writer.publish()?;
/// let sample = SampleStream::open(&path, Limits::default())?.next().unwrap()?;
/// assert_eq!((sample.key(), sample.text()?), ("0001", "a cat"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShardWriter {
    target: PathBuf,
    packer: Packer,
    format: Format,
    order: MemberOrder,
    samples: usize,
}

/// In which order members are written, so that a reader finds the samples again.
#[derive(Default)]
pub(crate) struct MemberOrder {
    /// Key and suffixes of the sample before.
    previous: Option<(String, Vec<String>)>,
}

impl MemberOrder {
    /// The members of the next sample in their order: by suffix.
    ///
    /// # Errors
    /// The member, and why a reader would take it for another sample's.
    pub(crate) fn of<'s>(&mut self, sample: &'s Sample) -> Result<Vec<&'s Member>, (String, &'static str)> {
        let key = sample.key();
        let mut members: Vec<&Member> = sample.members().iter().collect();
        members.sort_by(|a, b| a.suffix.cmp(&b.suffix));
        if let Some([first, _]) = members.array_windows().find(|[a, b]| a.suffix == b.suffix) {
            return Err((first.suffix.clone(), "stands twice"));
        }
        for member in &members {
            let name = format!("{key}.{}", member.suffix);
            if name::split(&name) != Some((key, member.suffix.clone())) {
                return Err((member.suffix.clone(), "would not be read as this member of this sample"));
            }
        }
        // A reader tells a second sample of one key by a suffix that it knows already.
        if let Some((_, suffixes)) = self.previous.as_ref().filter(|(previous, _)| previous == key) {
            match members.iter().position(|member| suffixes.contains(&member.suffix)) {
                Some(known) => {
                    let known = members.remove(known);
                    members.insert(0, known);
                }
                None if members.is_empty() => {}
                None => {
                    return Err((
                        "*".to_owned(),
                        "would be taken for more of the sample before, of the same key",
                    ));
                }
            }
        }
        self.previous = Some((key.to_owned(), members.iter().map(|member| member.suffix.clone()).collect()));
        Ok(members)
    }
}

impl ShardWriter {
    /// Begins a shard; what is there under its name stays until [`ShardWriter::publish`].
    ///
    /// # Errors
    /// If the name has another ending, or no file can be made in its folder (or that of temporary files, if it goes to a store).
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let begin = || {
            let draft = Place::new(path)?.draft()?;
            Ok(BufWriter::with_capacity(BUFFER, draft))
        };
        let format = Format::named(path).filter(|format| *format != Format::TfRecord);
        let packer = match (format, name.rsplit('.').next()) {
            (Some(_), Some("tar" | "jsonl" | "json")) => Packer::Plain(begin().map_err(io)?),
            (Some(_), Some("gz")) => {
                Packer::Gzip(GzEncoder::new(begin().map_err(io)?, flate2::Compression::default()))
            }
            (Some(_), Some("zst" | "zstd")) => Packer::Zstd { out: begin().map_err(io)?, frame: Vec::new() },
            _ => {
                let expected = "a shard's name to write, which ends in .tar or .jsonl, perhaps with .gz or .zst after it";
                return Err(Error::Content { path: path.to_path_buf(), expected, found: name });
            }
        };
        let format = format.unwrap_or(Format::Tar);
        Ok(Self { target: path.to_path_buf(), packer, format, order: MemberOrder::default(), samples: 0 })
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if a reader would take its members for those of another sample; [`Error::Io`].
    pub fn write(&mut self, sample: &Sample) -> Result<()> {
        let key = sample.key();
        let io = |source| Error::Io { path: self.target.clone(), source };
        if self.format == Format::JsonLines {
            let line =
                fields::object(sample).and_then(|object| Ok(serde_json::to_vec(&object)?)).map_err(io)?;
            self.packer.write_all(&line).and_then(|()| self.packer.write_all(b"\n")).map_err(io)?;
        } else {
            let members = self.order.of(sample).map_err(|(suffix, reason)| {
                let (path, member) = (self.target.clone(), format!("{key}.{suffix}"));
                Error::Unwritable { path, member, reason }
            })?;
            for member in members {
                append(&mut self.packer, &format!("{key}.{}", member.suffix), &member.bytes).map_err(io)?;
            }
        }
        self.samples += 1;
        Ok(())
    }

    /// How many samples were written.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Ends the shard, still without its name; where it is for a disk, it is there now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<FinishedShard> {
        let Self { target, mut packer, format, .. } = self;
        let finish = || {
            if format == Format::Tar {
                packer.write_all(&END)?;
            }
            packer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
        };
        match finish() {
            Ok(file) => Ok(FinishedShard { target, file }),
            Err(source) => Err(Error::Io { path: target, source }),
        }
    }

    /// Ends the shard and gives it its name, see [`FinishedShard::publish`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn publish(self) -> Result<()> {
        self.finish()?.publish()
    }
}

/// A shard that is whole and waits for its name.
pub struct FinishedShard {
    target: PathBuf,
    file: Finished,
}

impl FinishedShard {
    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Gives the shard its name, in place of what is there.
    ///
    /// # Errors
    /// [`Error::Io`]; what was there is still there then.
    pub fn publish(self) -> Result<()> {
        let Self { target, file } = self;
        file.publish().map_err(|source| Error::Io { path: target, source })
    }

    /// Gives the shard its name if there is no other; false if there is one, which stays.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn publish_new(self) -> Result<bool> {
        let Self { target, file } = self;
        file.publish_new().map_err(|source| Error::Io { path: target, source })
    }
}

/// Removes what writers that were killed have left of a shard. Nobody may be writing it.
///
/// # Errors
/// If the folder cannot be read, or a file not removed.
pub fn remove_partial(path: &Path) -> io::Result<()> {
    Place::new(path)?.remove_drafts()
}

/// A regular member.
pub(crate) fn append(out: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Regular, bytes.len());
    if !set_name(&mut header, name.as_bytes()) {
        // POSIX's extended header. Its own name and the short one behind it are for readers that do not know it.
        let record = record("path", name);
        let mut extension = self::header(EntryType::XHeader, record.len());
        set_name(&mut extension, b"././@PaxHeader");
        entry(out, &mut extension, record.as_bytes())?;
        let short = name.as_bytes().get(..99).unwrap_or_default();
        set_name(&mut header, short);
    }
    entry(out, &mut header, bytes)
}

fn entry(out: &mut impl Write, header: &mut Header, bytes: &[u8]) -> io::Result<()> {
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(bytes)?;
    let padding = bytes.len().next_multiple_of(BLOCK) - bytes.len();
    out.write_all([0; BLOCK].get(..padding).unwrap_or_default())
}

fn header(kind: EntryType, bytes: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(bytes as u64);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if let Some(fields) = header.as_ustar_mut() {
        for field in [&mut fields.uname, &mut fields.gname] {
            field.iter_mut().zip(OWNER.bytes()).for_each(|(to, from)| *to = from);
        }
    }
    header
}

/// Puts a name into the header's fields; false if it does not fit. (The `tar` crate's own method changes names with `./` in front.)
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    let Some(fields) = header.as_ustar_mut() else { return false };
    let (prefix, rest) = if name.len() <= fields.name.len() {
        (&[][..], name)
    } else {
        let fits = |&slash: &usize| {
            slash > 0
                && slash <= fields.prefix.len()
                && (1..=fields.name.len()).contains(&(name.len() - slash - 1))
        };
        let mut slashes = name.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(i, _)| i);
        let Some((prefix, rest)) = slashes.rfind(fits).and_then(|slash| name.split_at_checked(slash)) else {
            return false;
        };
        (prefix, rest.get(1..).unwrap_or_default())
    };
    fields.prefix.iter_mut().zip(prefix).for_each(|(to, from)| *to = *from);
    fields.name.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    true
}

/// A record of an extended header. It begins with its own length, digits of that included.
fn record(keyword: &str, value: &str) -> String {
    let rest = format!(" {keyword}={value}\n");
    let mut length = rest.len();
    loop {
        let whole = format!("{length}{rest}");
        if whole.len() == length {
            return whole;
        }
        length = whole.len();
    }
}

/// A file of a shard, and how it is packed.
enum Packer {
    Plain(BufWriter<Draft>),
    Gzip(GzEncoder<BufWriter<Draft>>),
    /// One frame after the other: the encoder packs memory, whose writing cannot fail.
    Zstd {
        out: BufWriter<Draft>,
        frame: Vec<u8>,
    },
}

impl Packer {
    fn finish(self) -> io::Result<BufWriter<Draft>> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd { mut out, frame } => {
                pack_frame(&mut out, &frame)?;
                Ok(out)
            }
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd { out, frame } => {
                let taken = bytes.len().min(FRAME - frame.len());
                frame.extend_from_slice(bytes.get(..taken).unwrap_or_default());
                if frame.len() == FRAME {
                    pack_frame(out, frame)?;
                    frame.clear();
                }
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) | Self::Zstd { out, .. } => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }
}

fn pack_frame(out: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    match frame.is_empty() {
        true => Ok(()),
        false => out.write_all(&compress_to_vec(frame, CompressionLevel::Fastest)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Fault, Limits, SampleStream};

    fn sample(key: &str, members: &[(&str, &[u8])]) -> Sample {
        let member = |&(suffix, bytes): &(&str, &[u8])| Member { suffix: suffix.into(), bytes: bytes.into() };
        Sample::new(Path::new("in.tar").into(), key.into(), members.iter().map(member).collect())
    }

    fn read(path: &Path) -> Vec<(String, Vec<Member>)> {
        let samples: Result<Vec<Sample>, Fault> =
            SampleStream::open(path, Limits::default()).unwrap().collect();
        samples.unwrap().into_iter().map(|s| (s.key().to_owned(), s.members().to_vec())).collect()
    }

    fn written(folder: &Path, name: &str, samples: &[Sample]) -> PathBuf {
        let path = folder.join(name);
        let mut writer = ShardWriter::create(&path).unwrap();
        samples.iter().for_each(|sample| writer.write(sample).unwrap());
        assert_eq!(writer.samples(), samples.len());
        let finished = writer.finish().unwrap();
        let bytes = finished.bytes();
        finished.publish().unwrap();
        assert_eq!(bytes, fs::metadata(&path).unwrap().len());
        path
    }

    #[test]
    fn samples_come_back_from_every_packing() {
        let folder = tempfile::tempdir().unwrap();
        // Long folders fit the prefix; long names and long folders without a fitting slash do not.
        let keys = [
            "0001".to_owned(),
            "./top".to_owned(),
            "sub.dir/one".to_owned(),
            format!("{}/{}", "d".repeat(150), "n".repeat(90)),
            format!("{}/n", "d".repeat(200)),
            "ä".repeat(300),
            "n".repeat(97),
            "n".repeat(98),
        ];
        let big: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let samples: Vec<Sample> = keys
            .iter()
            .map(|key| sample(key, &[("a", b""), ("jpg", &big[..700]), ("txt", b"a cat")]))
            .collect();
        let samples = [samples, vec![sample("big", &[("jpg", &big)])]].concat();
        let expected: Vec<_> = samples.iter().map(|s| (s.key().to_owned(), s.members().to_vec())).collect();
        for name in ["0.tar", "0.tar.gz", "0.tar.zst"] {
            let path = written(folder.path(), name, &samples);
            assert_eq!(read(&path), expected, "{name}");
            let first = fs::read(&path).unwrap();
            assert_eq!(fs::read(written(folder.path(), name, &samples)).unwrap(), first, "{name}");
        }
        let names = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut left: Vec<String> = fs::read_dir(folder.path()).unwrap().map(names).collect();
        left.sort();
        assert_eq!(left, ["0.tar", "0.tar.gz", "0.tar.zst"]);
    }

    #[test]
    fn headers_are_those_of_the_published_sets() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), "0.tar", &[sample("k", &[("txt", b"a"), ("jpg", b"b")])]);
        let bytes = fs::read(path).unwrap();
        assert_eq!((&bytes[..5], &bytes[1024..1029]), (&b"k.jpg"[..], &b"k.txt"[..]));
        assert_eq!(&bytes[100..108], b"0000444\0");
        assert_eq!((&bytes[257..263], &bytes[265..272]), (&b"ustar\0"[..], &b"bigdata"[..]));
        assert_eq!(bytes.len(), 2048 + 1024);
    }

    #[test]
    fn samples_of_one_key_stay_apart() {
        let folder = tempfile::tempdir().unwrap();
        let samples = [
            sample("k", &[("json", b"1"), ("txt", b"1")]),
            sample("k", &[("jpg", b"2"), ("txt", b"2")]),
            sample("k", &[("txt", b"3")]),
        ];
        let found = read(&written(folder.path(), "0.tar", &samples));
        assert_eq!(found.iter().map(|(_, members)| members.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let mut writer = ShardWriter::create(&folder.path().join("1.tar")).unwrap();
        writer.write(&samples[0]).unwrap();
        let error = writer.write(&sample("k", &[("jpg", b"")])).unwrap_err();
        assert!(error.to_string().contains("`k.*` would be taken for more of the sample before"), "{error}");
    }

    #[test]
    fn what_would_not_be_read_back_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        for (key, suffix) in [("a.b", "txt"), ("__a__/b", "txt"), ("a", "x/y"), ("a", "TXT"), ("", "txt")] {
            let mut writer = ShardWriter::create(&path).unwrap();
            let error = writer.write(&sample(key, &[(suffix, b"")])).unwrap_err();
            assert!(matches!(error, Error::Unwritable { .. }), "{key} {suffix}: {error}");
        }
        let mut writer = ShardWriter::create(&path).unwrap();
        let twice = sample("a", &[("txt", b""), ("txt", b"")]);
        assert!(writer.write(&twice).unwrap_err().to_string().contains("`a.txt` stands twice"));
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = ShardWriter::create(&folder.path().join("0.zip")).err().unwrap().to_string();
        assert!(error.contains("perhaps with .gz or .zst after it, found \"0.zip\""), "{error}");
        assert!(ShardWriter::create(&folder.path().join("none/0.tar")).is_err());
    }

    #[test]
    fn what_the_killed_have_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        let writer = ShardWriter::create(&path).unwrap();
        // As if there had been no time to clean up.
        std::mem::forget(writer);
        fs::write(folder.path().join("1.tar"), "").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        remove_partial(&path).unwrap();
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["1.tar"]);
    }
}
