//! `freshkey doctor`.

mod ask;
mod checks;
mod facts;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::cli::Options;
use crate::desk;
use crate::failure::Failure;
use crate::output::Output;
use crate::stack::Stack;
use checks::{Finding, Outcome};

pub async fn run(options: &Options, out: &Output) -> Result<(), Failure> {
    let aws = desk::aws(options).await;
    let findings = match (&options.endpoint, options.table.as_deref()) {
        (Some(endpoint), Some(table)) => checks::examine(&ask::about_table(&aws, table, endpoint).await),
        (_, table) => {
            let clock = ask::clock(&aws).await;
            match Stack::read(&aws, &options.stack).await {
                Ok(stack) => checks::examine(&ask::about_stack(&aws, &stack, table, clock).await?),
                // AWS refuses the calls of a machine whose clock is far off.
                Err(failure) => {
                    print(out, &checks::judge("clock", &clock, checks::clock));
                    return Err(failure);
                }
            }
        }
    };
    print(out, &findings);
    verdict(&findings)
}

fn print(out: &Output, findings: &[Finding]) {
    findings.iter().for_each(|finding| out.line_of(&finding.json(), &finding.text()));
}

/// Returns what the exit code says.
///
/// # Errors
///
/// A [`Failure`] when something is wrong, or could not be asked.
fn verdict(findings: &[Finding]) -> Result<(), Failure> {
    let wrong = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Wrong(_))).count();
    let unknown = findings.iter().filter_map(|finding| match &finding.outcome {
        Outcome::Unknown(cause) => Some(cause.as_str()),
        _ => None,
    });
    let unknown: Vec<_> = unknown.collect::<BTreeSet<_>>().into_iter().collect();
    match (wrong, unknown.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => Err(Failure::unreachable("not_checked", unknown.join("; "))),
        _ => Err(Failure::refused("unhealthy", format!("Something is wrong: {wrong} fault(s)."))),
    }
}
