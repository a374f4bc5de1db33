//! Files of JSON lines that are imported: read in bounded memory, some lines at a time,
//! and resumed where an import was interrupted.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use freshkey::Error;
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// The most bytes of a line. A user takes far less.
const MAX_LINE: u64 = 64 * 1024;
/// How many lines are worked on at a time.
const PARALLEL: usize = 32;
/// How often a line is tried while DynamoDB does not answer. The pause before each try is
/// twice the one before.
const TRIES: u32 = 5;
/// The number of lines after which the place is written down.
const STRIDE: u64 = 1000;

/// A JSON object in a file.
pub type Object = Map<String, Value>;

/// What became of a line.
pub enum Done {
    /// What it holds was imported.
    Imported,
    /// It was imported before.
    WasThere,
    /// It is refused.
    Refused(Refused),
}

/// A line that is refused. It holds no secret and no full address.
pub struct Refused {
    /// Why. It has no text of the file.
    pub reason: String,
    /// Whom the line is about, with the address masked.
    pub email: Option<String>,
}

impl Refused {
    /// Returns the refusal of a line for this reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), email: None }
    }
}

/// How many lines had each outcome.
#[derive(Default)]
pub struct Tally {
    /// Lines that were imported.
    pub imported: u64,
    /// Lines that were imported before.
    pub there: u64,
    /// Lines that were refused.
    pub refused: u64,
}

/// A place in a file: after this many lines, at this byte.
#[derive(Clone, Copy, Default)]
struct Place {
    line: u64,
    byte: u64,
}

/// Imports the lines of a file. `import` gets the object of a line, and `refuse` what was
/// refused, with the number of its line. Unless it is a dry run, the place is written down
/// beside the file, so that the import can be resumed there.
///
/// # Errors
///
/// A [`Failure`] when the file cannot be read, or DynamoDB does not answer. What was
/// imported by then stays.
pub async fn import(
    file: &Path,
    (dry_run, resume): (bool, bool),
    import: impl AsyncFn(Object) -> Result<Done, Error>,
    refuse: impl Fn(u64, &Refused),
) -> Result<Tally, Failure> {
    let unreadable = |error: io::Error| Failure::usage("file", format!("{} cannot be read: {error}", file.display()));
    let notes = Notes::beside(file);
    let mut place = if resume { notes.read() } else { Place::default() };
    let (lines, size) = Lines::open(file, place).map_err(unreadable)?;
    let bar = bar(size);
    let import = &import;
    let work = async |(bytes, after): (Result<Vec<u8>, Refused>, Place)| {
        let done = match bytes.and_then(|bytes| object(&bytes)) {
            Ok(None) => Ok(None),
            Ok(Some(object)) => patiently(import, object).await.map(Some),
            Err(refused) => Ok(Some(Done::Refused(refused))),
        };
        (done, after)
    };
    let mut results = stream::iter(lines).map(async |line: io::Result<_>| Ok(work(line?).await)).buffered(PARALLEL);
    let mut tally = Tally::default();
    while let Some(result) = results.next().await {
        let (done, after) = result.map_err(unreadable)?;
        match done {
            Ok(None) => {}
            Ok(Some(Done::Imported)) => tally.imported += 1,
            Ok(Some(Done::WasThere)) => tally.there += 1,
            Ok(Some(Done::Refused(refused))) => {
                tally.refused += 1;
                bar.suspend(|| refuse(after.line, &refused));
            }
            Err(error) => {
                bar.abandon();
                if !dry_run {
                    notes.write(place)?;
                }
                return Err(interrupted(place, error));
            }
        }
        place = after;
        bar.set_position(place.byte);
        if place.line % STRIDE == 0 && !dry_run {
            notes.write(place)?;
        }
    }
    bar.finish_and_clear();
    if !dry_run {
        notes.remove();
    }
    Ok(tally)
}

fn interrupted(place: Place, error: Error) -> Failure {
    let (line, cause) = (place.line, Failure::from(error));
    Failure::unreachable("interrupted", format!("Stopped after line {line}. Go on with --resume. {cause}"))
}

/// Imports an object, again while DynamoDB does not answer.
async fn patiently(import: &impl AsyncFn(Object) -> Result<Done, Error>, object: Object) -> Result<Done, Error> {
    let mut pause = Duration::from_secs(1);
    for _ in 1..TRIES {
        match import(object.clone()).await {
            Err(Error::Unavailable { .. }) => tokio::time::sleep(pause).await,
            done => return done,
        }
        pause *= 2;
    }
    import(object).await
}

/// Reads the object of a line. Returns `None` for a blank line.
fn object(bytes: &[u8]) -> Result<Option<Object>, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refused::because("it is not UTF-8"))?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // The text of serde's error is not shown: it may quote the line.
    let fault =
        |error: serde_json::Error| Refused::because(format!("it is no JSON object (column {})", error.column()));
    serde_json::from_str(text).map(Some).map_err(fault)
}

/// The lines of a file, each with the place behind it.
struct Lines {
    file: BufReader<File>,
    place: Place,
}

impl Lines {
    /// Returns the lines after a place, and the bytes of the whole file.
    fn open(path: &Path, place: Place) -> io::Result<(Self, u64)> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(place.byte))?;
        Ok((Self { file: BufReader::new(file), place }, size))
    }

    fn read(&mut self) -> io::Result<Option<Result<Vec<u8>, Refused>>> {
        let mut bytes = Vec::new();
        let mut read = (&mut self.file).take(MAX_LINE).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        let is_whole = bytes.ends_with(b"\n") || read < MAX_LINE;
        let mut is_over = is_whole;
        while !is_over {
            let mut rest = Vec::new();
            let more = (&mut self.file).take(MAX_LINE).read_until(b'\n', &mut rest)? as u64;
            is_over = more == 0 || rest.ends_with(b"\n");
            read += more;
        }
        let is_first = self.place.byte == 0;
        self.place = Place { line: self.place.line + 1, byte: self.place.byte + read };
        Ok(Some(if is_whole {
            let mark = if is_first && bytes.starts_with("\u{feff}".as_bytes()) { '\u{feff}'.len_utf8() } else { 0 };
            Ok(bytes.split_off(mark))
        } else {
            Err(Refused::because(format!("it has more than {MAX_LINE} bytes")))
        }))
    }
}

impl Iterator for Lines {
    type Item = io::Result<(Result<Vec<u8>, Refused>, Place)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map(|line| line.map(|line| (line, self.place))).transpose()
    }
}

/// Where the place in a file is written down.
struct Notes(PathBuf);

impl Notes {
    fn beside(file: &Path) -> Self {
        let mut name = file.as_os_str().to_owned();
        name.push(".progress");
        Self(name.into())
    }

    /// Returns the place, or the beginning of the file if none is written down.
    fn read(&self) -> Place {
        let place = fs::read(&self.0).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let number = |name| place.as_ref().and_then(|place| place[name].as_u64());
        match (number("line"), number("byte")) {
            (Some(line), Some(byte)) => Place { line, byte },
            _ => Place::default(),
        }
    }

    /// Writes the place down: all of it or nothing.
    fn write(&self, place: Place) -> Result<(), Failure> {
        let new = self.0.with_extension("progress.new");
        let written = fs::write(&new, json!({ "line": place.line, "byte": place.byte }).to_string());
        written
            .and_then(|()| fs::rename(&new, &self.0))
            .map_err(|error| Failure::usage("progress", format!("{} cannot be written: {error}", self.0.display())))
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A progress bar on a terminal, by bytes.
fn bar(size: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size);
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} ({eta})");
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
