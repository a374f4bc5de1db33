//! Files of JSON lines that are imported: read in bounded memory, some lines at a time,
//! and resumed where an import was interrupted.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use freshkey::{Error, json};
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// The most bytes of a line. A user takes far less.
const MAX_LINE: u64 = 64 * 1024;
/// How many lines are imported together. The users on them fit into one transaction.
const GROUP: usize = 25;
/// How many groups are worked on at a time.
const PARALLEL: usize = 4;
/// How often a line is tried while DynamoDB does not answer.
const TRIES: u32 = 5;
/// The pause before the second try. Before each further one, it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The number of lines after which the place is written down.
const STRIDE: u64 = 100;
/// How deep a line may be nested: Keycloak's credentials are objects.
const MAX_DEPTH: usize = 3;

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
    /// The address that the line is about, masked.
    pub email: Option<String>,
}

impl Refused {
    /// Returns the refusal of a line for this reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), email: None }
    }
}

/// How many lines had each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that were imported.
    pub imported: u64,
    /// Lines that were imported before.
    pub there: u64,
    /// Lines that were refused.
    pub refused: u64,
}

impl Tally {
    fn count(&mut self, done: &Done) {
        match done {
            Done::Imported => self.imported += 1,
            Done::WasThere => self.there += 1,
            Done::Refused(_) => self.refused += 1,
        }
    }
}

/// A place in a file: after this many lines, at this byte.
#[derive(Clone, Copy, Default)]
struct Place {
    line: u64,
    byte: u64,
}

/// How an import runs.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The command and the table. An import is resumed with the same ones.
    pub what: &'a str,
    /// Whether nothing is written: no place either.
    pub dry_run: bool,
    /// Whether it goes on where another run was interrupted.
    pub resume: bool,
}

/// Imports the lines of a file. `read` turns the number and the object of a line into what
/// `import` takes. `import` gets up to 25 of these at a time, and returns the outcome of
/// each, in the same order. `refuse` gets the number of a line and why it was refused. Every few lines, the place
/// and the tally are written down beside the file, so that the import can be resumed there.
/// Lines that were imported after that are there when they are imported again.
///
/// # Errors
///
/// A [`Failure`] when the file cannot be read, what was written down is about another
/// import, or DynamoDB does not answer. What was imported by then stays.
pub async fn import<T>(
    file: &Path,
    run: Run<'_>,
    read: impl Fn(u64, Object) -> Result<T, Refused>,
    import: impl AsyncFn(&[T]) -> Vec<Result<Done, Error>>,
    refuse: impl Fn(u64, &Refused),
) -> Result<Tally, Failure> {
    let unreadable = |error: io::Error| Failure::usage("file", format!("{} cannot be read: {error}", file.display()));
    let notes = Notes::beside(file, run.what);
    let mut lines = Lines::open(file).map_err(unreadable)?;
    let bar = bar(lines.size);
    let mut tally = Tally::default();
    if run.resume {
        if let Some((place, hash, earlier)) = notes.read() {
            if lines.skip_to(place).map_err(unreadable)? != hash {
                return Err(notes.of_another());
            }
            tally = earlier;
        } else if notes.exist() {
            return Err(notes.of_another());
        }
    } else if !run.dry_run {
        notes.write(Place::default(), &lines.hash(), tally)?;
    }
    let (read, import) = (&read, &import);
    let work = async |lines: Vec<io::Result<Line>>| -> io::Result<Vec<Worked>> {
        let (mut worked, mut ready) = (Vec::new(), Vec::new());
        for line in lines {
            let Line { bytes, after, hash } = line?;
            let object = bytes.and_then(|bytes| object(&bytes));
            let refused = match object.and_then(|object| object.map(|object| read(after.line, object)).transpose()) {
                Ok(new) => {
                    ready.extend(new.map(|new| (after.line, new)));
                    None
                }
                Err(refused) => Some(Ok(Done::Refused(refused))),
            };
            worked.push(Worked { done: refused, after, hash });
        }
        let mut done = patiently(import, ready).await;
        for line in &mut worked {
            line.done = line.done.take().or_else(|| done.remove(&line.after.line));
        }
        Ok(worked)
    };
    let mut line = lines.place.line;
    let groups = stream::iter(lines).chunks(GROUP);
    let mut results = groups.map(work).buffered(PARALLEL);
    while let Some(group) = results.next().await {
        for Worked { done, after, hash } in group.map_err(unreadable)? {
            match done.transpose() {
                Ok(None) => {}
                Ok(Some(done)) => {
                    if let Done::Refused(refused) = &done {
                        bar.suspend(|| refuse(after.line, refused));
                    }
                    tally.count(&done);
                }
                Err(error) => {
                    bar.abandon();
                    return Err(interrupted(line, run.dry_run, error));
                }
            }
            line = after.line;
            bar.set_position(after.byte);
            if let Some(hash) = hash.filter(|_| !run.dry_run) {
                notes.write(after, &hash, tally)?;
            }
        }
    }
    bar.finish_and_clear();
    if !run.dry_run {
        notes.remove();
    }
    Ok(tally)
}

fn interrupted(line: u64, dry_run: bool, error: Error) -> Failure {
    let next = if dry_run { "Run it again." } else { "Go on with --resume." };
    let cause = Failure::from(error);
    Failure::unreachable("interrupted", format!("Stopped after line {line}. {next} {cause}"))
}

/// Imports what was read from some lines, again while DynamoDB does not answer. Returns
/// what became of each, by the number of its line.
async fn patiently<T>(
    import: &impl AsyncFn(&[T]) -> Vec<Result<Done, Error>>,
    mut left: Vec<(u64, T)>,
) -> HashMap<u64, Result<Done, Error>> {
    let mut done = HashMap::new();
    let mut tries = 0;
    while !left.is_empty() && tries < TRIES {
        if tries > 0 {
            tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(tries - 1)).await;
        }
        tries += 1;
        let (lines, new): (Vec<_>, Vec<_>) = left.drain(..).unzip();
        let results = import(&new).await;
        debug_assert_eq!(results.len(), new.len());
        for ((line, new), result) in lines.into_iter().zip(new).zip(results) {
            if matches!(result, Err(Error::Unavailable { .. })) {
                left.push((line, new));
            }
            done.insert(line, result);
        }
    }
    done
}

/// Reads the object of a line. Returns `None` for a blank line.
fn object(bytes: &[u8]) -> Result<Option<Object>, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refused::because("it is not UTF-8"))?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    // The text of the error is not shown: it may quote the line.
    let fault = |error: serde_json::Error| match error.is_data() {
        true => Refused::because("it is no JSON object, or a member appears twice"),
        false => Refused::because(format!("it is not JSON (column {})", error.column())),
    };
    json::object(text.as_bytes(), MAX_DEPTH).map(Some).map_err(fault)
}

/// A line of a file.
struct Line {
    bytes: Result<Vec<u8>, Refused>,
    /// The place behind it.
    after: Place,
    /// The hash of the file up to there, after every [`STRIDE`] lines.
    hash: Option<String>,
}

/// A line that was worked on.
struct Worked {
    /// What became of it. `None` if it is blank.
    done: Option<Result<Done, Error>>,
    after: Place,
    hash: Option<String>,
}

/// The lines of a file.
struct Lines {
    file: BufReader<File>,
    size: u64,
    place: Place,
    /// The hash of what was read.
    read: Context,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file: BufReader::new(file), size, place: Place::default(), read: Context::new(&SHA256) })
    }

    /// Goes to a place, and returns the hash of what is before it.
    fn skip_to(&mut self, place: Place) -> io::Result<String> {
        let mut left = place.byte;
        while left > 0 {
            let bytes = self.file.fill_buf()?;
            let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                break;
            }
            self.read.update(&bytes[..length]);
            self.file.consume(length);
            left -= length as u64;
        }
        self.place = place;
        Ok(self.hash())
    }

    fn hash(&self) -> String {
        self.read.clone().finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads up to the end of the line, or as much as fits.
    fn part(&mut self) -> io::Result<Vec<u8>> {
        let mut part = Vec::new();
        (&mut self.file).take(MAX_LINE + 1).read_until(b'\n', &mut part)?;
        self.read.update(&part);
        self.place.byte += part.len() as u64;
        Ok(part)
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        let is_first = self.place.byte == 0;
        let mut bytes = self.part()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let is_too_long = bytes.len() as u64 > MAX_LINE && !bytes.ends_with(b"\n");
        let mut is_over = !is_too_long;
        while !is_over {
            let more = self.part()?;
            is_over = more.is_empty() || more.ends_with(b"\n");
        }
        self.place.line += 1;
        let bytes = if is_too_long {
            Err(Refused::because(format!("it has more than {MAX_LINE} bytes")))
        } else {
            let mark = if is_first && bytes.starts_with("\u{feff}".as_bytes()) { '\u{feff}'.len_utf8() } else { 0 };
            Ok(bytes.split_off(mark))
        };
        let hash = self.place.line.is_multiple_of(STRIDE).then(|| self.hash());
        Ok(Some(Line { bytes, after: self.place, hash }))
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().transpose()
    }
}

/// Where the place in a file is written down, for one command and table.
struct Notes<'a> {
    path: PathBuf,
    what: &'a str,
}

impl<'a> Notes<'a> {
    fn beside(file: &Path, what: &'a str) -> Self {
        let mut name = file.as_os_str().to_owned();
        name.push(".progress");
        Self { path: name.into(), what }
    }

    fn exist(&self) -> bool {
        self.path.exists()
    }

    /// Returns the place, the hash of the file up to there, and the tally. `None` when
    /// nothing is written down, or it is about another command or table.
    fn read(&self) -> Option<(Place, String, Tally)> {
        let notes: Value = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        let number = |name: &str| notes[name].as_u64();
        let place = Place { line: number("line")?, byte: number("byte")? };
        let tally = Tally { imported: number("imported")?, there: number("there")?, refused: number("refused")? };
        let is_ours = notes["import"] == self.what;
        is_ours.then(|| Some((place, notes["sha256"].as_str()?.to_owned(), tally)))?
    }

    /// Writes the place down: all of it or nothing.
    fn write(&self, place: Place, hash: &str, tally: Tally) -> Result<(), Failure> {
        let (Place { line, byte }, Tally { imported, there, refused }) = (place, tally);
        let notes = json!({
            "import": self.what, "line": line, "byte": byte, "sha256": hash,
            "imported": imported, "there": there, "refused": refused,
        });
        let new = self.path.with_extension("progress.new");
        let written = fs::write(&new, notes.to_string()).and_then(|()| fs::rename(&new, &self.path));
        written
            .map_err(|error| Failure::usage("progress", format!("{} cannot be written: {error}", self.path.display())))
    }

    fn of_another(&self) -> Failure {
        let path = self.path.display();
        let message = format!("{path} is about another file, command or table. Start without --resume.");
        Failure::usage("progress", message)
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.path);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Imports 260 lines, of which line 2 is blank, line 3 is no JSON and line 4 is refused.
    /// `fails` says whether the import of a line fails, and how often it was tried before.
    /// Returns how it ends, the lines that were refused, and the line that was noted.
    async fn run(fails: impl Fn(u64, u32) -> bool) -> (Result<Tally, String>, Vec<u64>, Option<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lines");
        let line = |number| match number {
            2 => String::new(),
            3 => "?".to_owned(),
            number => json!({ "number": number }).to_string(),
        };
        fs::write(&file, (1..=260).map(|number| line(number) + "\n").collect::<String>()).unwrap();
        let tried = RefCell::new(HashMap::new());
        let read = |number: u64, object: Object| match object["number"].as_u64() {
            Some(4) => Err(Refused::because("it is the fourth")),
            read => {
                assert_eq!(read, Some(number));
                Ok(number)
            }
        };
        let import_ = async |lines: &[u64]| {
            let outcome = |line: &u64| {
                let mut tried = tried.borrow_mut();
                let tries: &mut u32 = tried.entry(*line).or_default();
                *tries += 1;
                if fails(*line, *tries - 1) { Err(Error::unavailable()) } else { Ok(Done::Imported) }
            };
            lines.iter().map(outcome).collect()
        };
        let refused = RefCell::new(Vec::new());
        let how = Run { what: "a test", dry_run: false, resume: false };
        let end = import(&file, how, read, import_, |line, _| refused.borrow_mut().push(line)).await;
        let noted = Notes::beside(&file, "a test").read().map(|(place, ..)| place.line);
        (end.map_err(|failure| failure.to_string()), refused.into_inner(), noted)
    }

    #[tokio::test(start_paused = true)]
    async fn every_line_is_counted_once_however_often_it_is_tried() {
        let tally = Tally { imported: 257, there: 0, refused: 2 };
        assert_eq!(run(|_, _| false).await, (Ok(tally), vec![3, 4], None));
        let recovers = |line: u64, tries| line.is_multiple_of(7) && tries < TRIES - 1;
        assert_eq!(run(recovers).await, (Ok(tally), vec![3, 4], None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_import_that_is_interrupted_says_after_which_line() {
        for (first, noted) in [(1, 0), (5, 0), (60, 0), (130, 100), (201, 200), (260, 200)] {
            let (end, refused, place) = run(|line, _| line >= first).await;
            let message = format!("Stopped after line {}. Go on with --resume.", first - 1);
            assert!(end.as_ref().is_err_and(|said| said.contains(&message)), "{first}: {end:?}");
            let expected: Vec<u64> = [3, 4].into_iter().filter(|line| *line < first).collect();
            assert_eq!((refused, place), (expected, Some(noted)), "{first}");
        }
    }
}
