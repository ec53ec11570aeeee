//! `tenure validate`: what is wrong with manifests, as a compiler says it. Needs no controller.

use super::console::Console;
use super::failure::{Done, Exit};
use super::get::{Format, whole_as_text};
use super::names;
use super::requires;
use crate::controller;
use crate::manifest::render;
use crate::model::{Diagnostic, Severity};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Check manifests and flows, without a controller; exit status 1 if one has errors
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files, directories, or `-` for standard input
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
    let files = names::files(&args.files)?;
    let is_for_people = !matches!(args.output, Format::Json | Format::Yaml);
    let mut all = Vec::new();
    let mut all_ok = true;
    for file in &files {
        let (diagnostics, ok) = check(&file.name, &file.text, &file.dir);
        all_ok &= ok;
        if is_for_people {
            for diagnostic in &diagnostics {
                console.say(&render(diagnostic, console.colour_err));
                console.say("");
            }
            let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
            console.line(&format!("{}: {}", file.name, verdict(count(Severity::Error), count(Severity::Warning))))?;
        }
        if args.check_requires {
            let missing = requires::missing(&file.name, &file.text, &file.dir);
            all_ok &= missing.is_empty();
            for diagnostic in missing.iter().filter(|_| is_for_people) {
                console.say(&render(diagnostic, console.colour_err));
            }
            all.extend(missing);
        }
        all.extend(diagnostics);
    }
    if !is_for_people {
        console.print(&whole_as_text(&json!({"ok": all_ok, "diagnostics": all}), args.output)?)?;
    }
    Ok(if all_ok { Exit::Done } else { Exit::Failed })
}

fn verdict(errors: usize, warnings: usize) -> String {
    let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, 0) => "ok".to_owned(),
        (0, warnings) => format!("ok, {}", counted(warnings, "warning")),
        (errors, 0) => counted(errors, "error"),
        (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    }
}

/// All that is wrong with a text, and whether it could be used all the same.
fn check(file: &str, text: &[u8], dir: &Path) -> (Vec<Diagnostic>, bool) {
    let loaded = controller::load_text(file, text, Some(dir));
    let ok = loaded.first_error().is_none();
    (loaded.diagnostics, ok)
}
