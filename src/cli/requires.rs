//! What flows require, asked directly: `tenure validate --check-requires`.

use crate::controller;
use crate::flow;
use crate::model::{AnyObject, Diagnostic, Severity};
use std::path::Path;
use std::process::{Command, Stdio};

/// The requirements of a text's flows that do not hold.
pub fn missing(file: &str, text: &[u8], dir: &Path) -> Vec<Diagnostic> {
    let loaded = controller::load_text(file, text, Some(dir));
    let flows = loaded.objects.iter().filter_map(|object| match object {
        AnyObject::Flow(flow) => Some(&flow.spec),
        AnyObject::Job(job) => job.spec.flow.as_deref(),
        _ => None,
    });
    let requires = flows.filter_map(|value| flow::compile(value).flow).flat_map(|flow| flow.requires);
    requires
        .filter_map(|requirement| {
            let why = why_not(requirement.check.as_deref()?, dir)?;
            let install = requirement.install.map(|install| format!("install it: {install}"));
            let help: Vec<String> = install.into_iter().chain(requirement.url).collect();
            let message = format!("requirement `{}` is missing ({why})", requirement.name);
            let help = (!help.is_empty()).then(|| help.join("; see "));
            Some(Diagnostic { help, ..Diagnostic::of_file(Severity::Error, file, message) })
        })
        .collect()
}

/// Why a check fails, if it does.
fn why_not(check: &str, dir: &Path) -> Option<String> {
    let output = Command::new("sh")
        .arg("-c")
        .arg(check)
        .env("STEPWISE_FLOW_DIR", dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) => Some(format!("failed to start sh: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim()));
            Some(format!("{}{}", output.status, last.unwrap_or_default()))
        }
    }
}
