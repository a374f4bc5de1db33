//! The secret that signs the tokens. It is random, and kept beside the table's
//! file, so that tokens survive a restart if their sessions do.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Why the secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is empty.
    #[error(
        "{path} is empty, but must hold the secret that signs the tokens. Delete it to start with a new secret, which \
         signs everybody out",
        path = .0.display()
    )]
    Empty(PathBuf),
    /// Other users of the machine can access the file.
    #[error("{path} can be read by other users of this machine: make it private with chmod 600", path = .0.display())]
    Open(PathBuf),
}

/// Returns a new secret: 256 random bits.
pub fn generate() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(freshkey::entropy::bytes::<32>())
}

/// Returns the secret that is kept beside the file `data`. Creates it if it does
/// not exist.
///
/// # Errors
///
/// [`Error::File`] if the file cannot be read or created; [`Error::Open`] if other
/// users of the machine can access it; [`Error::Empty`] if it is empty.
pub fn beside(data: &Path) -> Result<String, Error> {
    let path = with_suffix(data, ".secret");
    let secret = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path).and_then(|()| File::open(&path)),
        opened => opened,
    };
    let file = |source| Error::File { path: path.clone(), source };
    let mut secret = secret.map_err(file)?;
    if is_open_to_others(&secret).map_err(file)? {
        return Err(Error::Open(path));
    }
    let mut text = String::new();
    secret.read_to_string(&mut text).map_err(file)?;
    match text.trim() {
        "" => Err(Error::Empty(path)),
        text => Ok(text.to_owned()),
    }
}

/// Creates a new secret at `path`, completely or not at all. Keeps the secret of
/// another process that was faster.
fn create(path: &Path) -> io::Result<()> {
    let draft = with_suffix(path, &format!(".{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    let written = writeln!(file, "{}", generate()).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match placed {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        placed => placed,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(unix)]
fn is_open_to_others(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        (directory, data)
    }

    fn files(directory: &Path) -> Vec<OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_secret_is_created_once_and_kept() {
        let (directory, data) = data();
        let secret = beside(&data).unwrap();
        assert!(secret.len() >= 43, "{}", secret.len());
        assert_eq!(beside(&data).unwrap(), secret);
        assert_eq!(files(directory.path()), ["data.secret"]);
    }

    #[test]
    fn two_secrets_differ() {
        assert_ne!(generate(), generate());
    }

    #[test]
    fn a_secret_that_another_process_has_created_meanwhile_stays() {
        let (_directory, data) = data();
        let secret = beside(&data).unwrap();
        create(&with_suffix(&data, ".secret")).unwrap();
        assert_eq!(beside(&data).unwrap(), secret);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_is_private_and_refused_when_it_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, data) = data();
        beside(&data).unwrap();
        let path = with_suffix(&data, ".secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(beside(&data).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn an_empty_secret_is_refused() {
        let (_directory, data) = data();
        beside(&data).unwrap();
        fs::write(with_suffix(&data, ".secret"), "\n").unwrap();
        assert!(matches!(beside(&data), Err(Error::Empty(_))));
    }

    #[test]
    fn a_secret_that_cannot_be_read_or_created_is_an_error_that_names_its_file() {
        let (directory, data) = data();
        fs::create_dir(with_suffix(&data, ".secret")).unwrap();
        let error = beside(&data).unwrap_err().to_string();
        assert!(error.contains("data.secret"), "{error}");
        let nowhere = directory.path().join("nowhere/data");
        let error = beside(&nowhere).unwrap_err().to_string();
        assert!(error.contains("nowhere/data.secret"), "{error}");
    }
}
