//! `tenure apply` and `tenure delete`.

use super::args::{Apply, Delete};
use super::client::{self, API, escaped};
use super::{CliError, Done, get};
use crate::os::StateDir;
use anyhow::Context;
use hyper::Method;
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) async fn apply(args: &Apply, state: &StateDir) -> Done {
    for path in &args.file {
        for path in manifests(path)? {
            let (file, text, dir) = read(&path)?;
            let body = json!({"file": file, "text": text, "dir": dir});
            let applied = client::call(state, Method::POST, "/apply", Some(&body)).await?;
            for object in applied["items"].as_array().into_iter().flatten() {
                let kind = object["kind"].as_str().unwrap_or_default().to_ascii_lowercase();
                println!("{kind}/{} applied", object["metadata"]["name"].as_str().unwrap_or_default());
            }
        }
    }
    Ok(0)
}

/// A file itself; of a directory, the manifests in it.
fn manifests(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = || format!("failed to read {}", path.display());
    let entries = std::fs::read_dir(path).with_context(failed)?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<(String, String, PathBuf), CliError> {
    let here = std::env::current_dir().context("failed to find the working directory")?;
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
        return Ok(("(standard input)".into(), text, here));
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let dir = path.parent().map_or_else(|| here.clone(), |dir| here.join(dir));
    Ok((path.display().to_string(), text, dir))
}

pub(super) async fn delete(args: &Delete, state: &StateDir) -> Done {
    let kind = get::kind(&args.kind)?;
    for name in &args.names {
        let path = format!("{API}/{}/{}", kind.plural(), escaped(name));
        client::call(state, Method::DELETE, &path, None).await?;
        println!("{}/{name} deleted", kind.as_str().to_ascii_lowercase());
    }
    Ok(0)
}
