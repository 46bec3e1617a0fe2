//! The members of a tar stream, with bounds on everything that a header can ask for.
//!
//! The `tar` crate reads the headers. It is not used as a whole because its iterator reads long names of any length into memory,
//! and because a damaged shard must tell where it breaks and keep what stood before.

use std::fs::File;
use std::io::{self, BufReader, Read};

use tar::{EntryType, Header, PaxExtensions};

use crate::limits::Limits;

const BLOCK: u64 = 512;

/// A regular member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TarMember {
    /// The name; `Err` with what it looks like where it is not UTF-8.
    pub name: Result<String, String>,
    /// Where its contents begin in the unpacked stream.
    pub offset: u64,
    /// Bytes of its contents.
    pub size: u64,
    /// Its contents are stored with holes, which is not read here.
    pub is_sparse: bool,
}

/// Why the stream cannot be read further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Byte of the unpacked stream.
    pub offset: u64,
    pub reason: String,
}

/// A stream that can pass over bytes.
pub(crate) trait Skip: Read {
    /// Passes over as many bytes, or up to the end; says how many there were.
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut self.take(bytes), &mut io::sink())
    }
}

impl Skip for Box<dyn Read + Send> {}

/// A tar file that is not packed: what is passed over is not read.
pub(crate) struct TarFile {
    file: BufReader<File>,
    left: u64,
}

impl TarFile {
    /// The file from its first byte, of which it has so many.
    pub(crate) fn new(file: BufReader<File>, bytes: u64) -> Self {
        Self { file, left: bytes }
    }
}

impl Read for TarFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl Skip for TarFile {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let bytes = bytes.min(self.left);
        self.file.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)?;
        self.left -= bytes;
        Ok(bytes)
    }
}

/// A tar stream.
pub(crate) struct Tar<R> {
    reader: R,
    position: u64,
    /// Where the next header stands.
    next: u64,
    name_bytes: u32,
}

/// What extension headers say of the member that follows.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl<R: Skip> Tar<R> {
    pub(crate) fn new(reader: R, limits: &Limits) -> Self {
        Self { reader, position: 0, next: 0, name_bytes: limits.name_bytes }
    }

    /// The next regular member; what the last one's contents are left is passed over. `None` at the end of the archive or of the
    /// stream.
    pub(crate) fn next(&mut self) -> Result<Option<TarMember>, Damage> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.next - self.position)?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let own_size = header.entry_size().map_err(|error| self.damage(format!("its size: {error}")))?;
            let is_extension = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            // Links, folders and devices have no contents, whatever their headers say.
            let size = match kind {
                EntryType::Link | EntryType::Symlink | EntryType::Directory => 0,
                EntryType::Char | EntryType::Block | EntryType::Fifo => 0,
                _ if is_extension => own_size,
                _ => extensions.size.unwrap_or(own_size),
            };
            let padded = size.checked_next_multiple_of(BLOCK);
            self.next = padded.and_then(|size| self.position.checked_add(size)).ok_or_else(|| {
                self.damage(format!("a member says that it has {size} bytes, which no file can hold"))
            })?;
            if is_extension {
                self.extend(&mut extensions, kind, size)?;
                continue;
            }
            if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
                let name = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
                let name = String::from_utf8(name)
                    .map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
                let is_sparse = extensions.is_sparse || kind.is_gnu_sparse();
                return Ok(Some(TarMember { name, offset: self.position, size, is_sparse }));
            }
            extensions = Extensions::default();
        }
    }

    /// The contents of the member that `next` has just given. Nothing is reserved on the word of the header alone.
    pub(crate) fn read(&mut self, size: u64) -> Result<Vec<u8>, Damage> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(size).read_to_end(&mut bytes);
        self.position += bytes.len() as u64;
        read.map_err(|error| self.unreadable(&error))?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(self
                .damage(format!("the file ends inside a member, of {size} bytes {} are there", bytes.len()))),
        }
    }

    /// Passes over the contents of the member that `next` has just given.
    pub(crate) fn pass(&mut self, size: u64) -> Result<(), Damage> {
        self.skip(size)
    }

    /// Passes over bytes that must be there.
    fn skip(&mut self, bytes: u64) -> Result<(), Damage> {
        let skipped = self.reader.skip(bytes).map_err(|error| self.unreadable(&error))?;
        self.position += skipped;
        match skipped == bytes {
            true => Ok(()),
            false => Err(self.damage("the file ends inside a member".to_owned())),
        }
    }

    /// The header here; `None` where the archive ends.
    fn header(&mut self) -> Result<Option<Header>, Damage> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
        // An archive without the blocks of zeros at its end is one that usual readers take.
        if filled == 0 || bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if (filled as u64) < BLOCK {
            return Err(self.damage("the file ends inside a member's header".to_owned()));
        }
        let sum = sum(bytes);
        let damage = match header.cksum() {
            Ok(stored) if stored == sum => None,
            Ok(_) => Some("a member's header disagrees with its check sum"),
            Err(_) => Some("no member's header stands where one must"),
        };
        match damage {
            Some(reason) => Err(self.damage(reason.to_owned())),
            None => {
                self.position += BLOCK;
                Ok(Some(header))
            }
        }
    }

    fn extend(&mut self, extensions: &mut Extensions, kind: EntryType, size: u64) -> Result<(), Damage> {
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            return Ok(());
        }
        if size > u64::from(self.name_bytes) {
            let limit = self.name_bytes;
            return Err(
                self.damage(format!("a member's name or attributes take {size} bytes, the limit is {limit}"))
            );
        }
        let mut bytes = self.read(size)?;
        if kind.is_gnu_longname() {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            bytes.truncate(end);
            extensions.name = Some(bytes);
            return Ok(());
        }
        for extension in PaxExtensions::new(&bytes) {
            let extension =
                extension.map_err(|error| self.damage(format!("extended attributes: {error}")))?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"path" => extensions.name = Some(value.to_vec()),
                b"size" => {
                    let size = extension.value().ok().and_then(|value| value.parse().ok());
                    let bad = || self.damage("extended attributes: `size` is no number".to_owned());
                    extensions.size = Some(size.ok_or_else(bad)?);
                }
                key => extensions.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }

    fn damage(&self, reason: String) -> Damage {
        Damage { offset: self.position, reason }
    }

    fn unreadable(&self, error: &io::Error) -> Damage {
        self.damage(unreadable(error))
    }
}

/// What it means that a stream of a shard's bytes fails.
pub(crate) fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed data end too early".to_owned(),
        _ => error.to_string(),
    }
}

/// The sum of a header's bytes, with blanks in the place of the sum itself.
fn sum(header: &[u8; 512]) -> u32 {
    let blank_at = |i: usize| (148..156).contains(&i);
    header.iter().enumerate().map(|(i, &byte)| if blank_at(i) { 32 } else { u32::from(byte) }).sum()
}
