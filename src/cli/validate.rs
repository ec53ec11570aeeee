//! `tenure validate`: what is wrong with manifests, as a compiler says it. Needs no controller.

use super::console::Console;
use super::failure::{Done, Exit, Failure};
use super::get::{Format, whole_as_text};
use super::names;
use super::requires;
use crate::controller;
use crate::manifest::render;
use crate::model::{Diagnostic, Severity};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Check manifests and flows, without a controller; exit status 1 if one has errors
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files, directories (each manifest in them, or their FLOW.yaml), or `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also run the checks of what the flows require
    #[arg(long)]
    check_requires: bool,
    /// How it is shown: table (for people), json, or yaml
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub fn main(args: Args, console: &mut Console) -> Done {
    let is_for_people = !matches!(args.output, Format::Json | Format::Yaml);
    let mut all = Vec::new();
    let mut exit = Exit::Done;
    let mut checked = 0;
    for file in names::each_file(&args.files) {
        let (name, diagnostics) = match file {
            Ok(file) => {
                let mut diagnostics = controller::load_text(&file.name, &file.text, Some(&file.dir)).diagnostics;
                if args.check_requires {
                    diagnostics.extend(requires::missing(&file.name, &file.text, &file.dir));
                }
                if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
                    exit = Exit::Failed;
                }
                (Some(file.name), diagnostics)
            }
            Err((name, failure)) => {
                // That a file is not there is the answer only where nothing else is wrong.
                if exit == Exit::Done {
                    exit = failure.exit;
                }
                (None, vec![unread(&name, failure)])
            }
        };
        checked += 1;
        if is_for_people {
            for diagnostic in &diagnostics {
                console.say(&render(diagnostic, console.colour_err));
                console.say("");
            }
            if let Some(name) = name {
                console.line(&format!("{name}: {}", verdict(&diagnostics)))?;
            }
        }
        all.extend(diagnostics);
    }
    if is_for_people && checked > 1 {
        console.line(&format!("{checked} files: {}", verdict(&all)))?;
    }
    if !is_for_people {
        let list: Vec<Value> = all.iter().map(for_machines).collect();
        console.print(&whole_as_text(&Value::Array(list), args.output)?)?;
    }
    Ok(exit)
}

/// A file that could not be read.
fn unread(name: &str, failure: Failure) -> Diagnostic {
    let message = format!("the file can not be read: {}", failure.why);
    Diagnostic { help: failure.help, ..Diagnostic::of_file(Severity::Error, name, message) }
}

fn for_machines(found: &Diagnostic) -> Value {
    json!({
        "file": found.file,
        "line": found.line,
        "column": found.column,
        "endColumn": found.end_column,
        "severity": found.severity,
        "message": found.message,
        "help": found.help,
        "path": found.path,
    })
}

fn verdict(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => "ok".to_owned(),
        (0, warnings) => format!("ok, {}", counted(warnings, "warning")),
        (errors, 0) => counted(errors, "error"),
        (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    }
}
