//! `tenure validate`: needs no controller.

use super::args::{Format, Validate};
use super::{CliError, Done, output};
use crate::controller;
use crate::manifest;
use crate::model::{Diagnostic, Severity};
use anyhow::Context;
use std::io::IsTerminal;

pub(super) fn validate(args: &Validate) -> Done {
    let mut all: Vec<Diagnostic> = Vec::new();
    let mut objects = 0;
    for path in &args.files {
        let text = std::fs::read(path)
            .with_context(|| format!("failed to read {}", path.display()))
            .map_err(|error| CliError::NotFound(format!("{error:#}")))?;
        let loaded = controller::load(path, &text);
        objects += loaded.objects.len();
        all.extend(loaded.diagnostics);
    }
    let errors = all.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    if args.output == Format::Json {
        let list = serde_json::to_value(&all).context("failed to print")?;
        print!("{}", output::pretty(&list));
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for diagnostic in &all {
            println!("{}", manifest::render(diagnostic, colour));
        }
        let warnings = all.len() - errors;
        println!("{} files, {objects} objects: {errors} errors, {warnings} warnings", args.files.len());
    }
    Ok(u8::from(errors > 0))
}
