//! A PostgreSQL of its own for each server, as it is installed, in a folder that is
//! deleted afterwards.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, Usage};
use crate::statements::Statements;

/// A database that listens on a socket in its folder.
pub struct Postgres {
    process: Process,
    folder: TempDir,
}

impl Postgres {
    /// Makes an empty database, and starts it.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        // It refuses to run as root.
        let user = user_of_postgres().filter(|_| fs::metadata("/proc/self").is_ok_and(|own| is_root(&own)));
        if let Some((uid, gid)) = user {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
        let program = |name: &str| {
            let mut command = Command::new(tool(name));
            command.current_dir(path);
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let made = program("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "--pgdata=data"])
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb");
        let socket = format!("unix_socket_directories={}", path.display());
        let mut command = program("postgres");
        command.args(["-D", "data", "-c", "listen_addresses=", "-c", &socket]);
        let process = Process::start(&mut command, "INT", &path.join("log"));
        let postgres = Self { process, folder };
        while !postgres.psql("SELECT 1").status.success() {
            sleep(Duration::from_millis(50));
        }
        postgres
    }

    /// The folder with its socket.
    pub fn host(&self) -> &Path {
        self.folder.path()
    }

    /// What its processes use.
    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// The value that `sql` returns.
    fn value(&self, sql: &str) -> String {
        String::from_utf8(self.psql(sql).stdout).unwrap().trim().to_owned()
    }

    /// All that it holds, as text.
    pub fn dump(&self) -> String {
        let dump = Command::new(tool("pg_dump")).args(["--username=postgres", "--host"]).arg(self.host()).output();
        String::from_utf8(dump.unwrap().stdout).unwrap()
    }

    /// Logs statements, or no longer.
    pub fn log_statements(&self, on: bool) {
        let level = if on { "all" } else { "none" };
        self.psql(&format!("ALTER SYSTEM SET log_statement = '{level}'"));
        self.psql("SELECT pg_reload_conf()");
        // The other processes read the setting when they get a signal.
        while self.value("SHOW log_statement") != level {
            sleep(Duration::from_millis(50));
        }
        sleep(Duration::from_millis(200));
    }

    /// The rows in all tables.
    pub fn rows(&self) -> usize {
        let count = "SELECT coalesce(sum((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %I', \
                     tablename), false, true, '')))[1]::text::int), 0) FROM pg_tables WHERE schemaname = 'public'";
        self.value(count).parse().unwrap()
    }

    /// The statements in the log, without those of [`Self::log_statements`].
    pub fn statements(&self) -> Statements {
        count(&fs::read_to_string(self.host().join("log")).unwrap())
    }

    fn psql(&self, sql: &str) -> std::process::Output {
        Command::new(tool("psql"))
            .args(["--username=postgres", "--no-psqlrc", "--tuples-only", "--no-align", "--host"])
            .arg(self.host())
            .args(["--command", sql])
            .output()
            .unwrap()
    }
}

fn count(log: &str) -> Statements {
    let mut count = Statements::default();
    for line in log.lines() {
        let Some((_, statement)) = line.split_once("LOG:  ") else { continue };
        let Some((_, sql)) =
            statement.split_once(": ").filter(|(kind, _)| *kind == "statement" || kind.starts_with("execute "))
        else {
            continue;
        };
        match sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "SELECT" if !sql.contains("pg_reload_conf") => count.reads += 1,
            "INSERT" | "UPDATE" | "DELETE" => count.writes += 1,
            "BEGIN" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "START" => count.transactions += 1,
            _ => {}
        }
    }
    count
}

/// Debian keeps the programs of each version in a folder that is not in PATH.
fn tool(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let folder = versions.filter_map(|entry| Some(entry.ok()?.path())).max();
    folder.map_or_else(|| name.into(), |folder| folder.join("bin").join(name))
}

fn is_root(own: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(own) == 0
}

fn user_of_postgres() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let user = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = user.split(':').skip(2).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_by_what_they_do() {
        let log = "\
2026-11-26 07:00:00.000 UTC [7] LOG:  database system is ready to accept connections
2026-11-26 07:00:00.000 UTC [7] LOG:  statement: SELECT pg_reload_conf()
2026-11-26 07:00:00.000 UTC [7] LOG:  statement: SELECT 1 AS \"a\" FROM \"t\" LIMIT 1
2026-11-26 07:00:00.000 UTC [7] LOG:  statement: BEGIN
2026-11-26 07:00:00.000 UTC [7] LOG:  execute <unnamed>: select * from \"user\" where \"id\" = $1
2026-11-26 07:00:00.000 UTC [7] DETAIL:  parameters: $1 = 'delete'
2026-11-26 07:00:00.000 UTC [7] LOG:  execute s1: update \"t\" set \"a\" = $1
2026-11-26 07:00:00.000 UTC [7] LOG:  statement: COMMIT
";
        assert_eq!(count(log), Statements { reads: 2, writes: 1, transactions: 2 });
    }
}
