//! The switches of the mutants.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The mutant that is switched on.
static ON: LazyLock<Option<usize>> = LazyLock::new(|| std::env::var("MUTANT").ok()?.parse().ok());
/// Where every switch is written down that is passed.
static REACHED: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = std::env::var_os("MUTANTS_REACHED")?;
    Some(OpenOptions::new().create(true).append(true).open(path).unwrap())
});
static SEEN: [AtomicBool; 65536] = [const { AtomicBool::new(false) }; 65536];

pub fn on(number: usize) -> bool {
    if let Some(mut file) = REACHED.as_ref()
        && !SEEN[number].swap(true, Ordering::Relaxed)
    {
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    *ON == Some(number)
}
