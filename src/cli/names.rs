//! What people name on the command line: kinds, objects, runs, pairs, files.

use super::failure::Failure;
use super::source::Source;
use super::text::at;
use crate::model::Kind;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A kind in any of its spellings.
pub fn kind(text: &str) -> Result<Kind, Failure> {
    Kind::parse(text).ok_or_else(|| {
        let plurals = Kind::ALL.map(Kind::plural);
        let failure = Failure::usage(format!("there is no kind `{text}`"));
        match crate::manifest::similar(text, plurals) {
            Some(similar) => failure.help(format!("did you mean `{similar}`?")),
            None => failure.help(format!("the kinds are {}", plurals.join(", "))),
        }
    })
}

/// A kind and perhaps a name: `job x`, or `job/x`.
pub fn kind_and_name(text: &str, name: Option<String>) -> Result<(Kind, Option<String>), Failure> {
    match (text.split_once('/'), name) {
        (Some((kind_text, name)), None) => Ok((kind(kind_text)?, Some(name.to_owned()))),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("`{text}` names an object already")).help("name one object at a time"))
        }
        (None, name) => Ok((kind(text)?, name)),
    }
}

/// The name of a job: `x` or, as other verbs print it, `job/x`.
pub fn job_name(text: &str) -> &str {
    match text.split_once('/') {
        Some((kind, name)) if Kind::parse(kind) == Some(Kind::Job) => name,
        _ => text,
    }
}

/// `key=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not key=value")),
    }
}

/// A value that is JSON if it parses, and else a string.
pub fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Pairs whose values are JSON if they parse, and else strings.
pub fn values(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(key, text)| (key.clone(), value(text))).collect()
}

/// The runs that a text names: one run by its name, the runs of a job, or those of one step of it. In order, and never none.
pub async fn runs(source: &Source, text: &str) -> Result<Vec<Value>, Failure> {
    let text = match text.split_once('/') {
        // A job that is called as a kind is: its step is meant.
        Some((job, _)) if source.find(Kind::Job, job).await?.is_some() => text,
        Some((kind, name)) if Kind::parse(kind) == Some(Kind::StepRun) => name,
        _ => job_name(text),
    };
    if !text.contains('/')
        && let Some(run) = source.find(Kind::StepRun, text).await?
    {
        return Ok(vec![run]);
    }
    let (job, step) = text.split_once('/').map_or((text, None), |(job, step)| (job, Some(step)));
    let mut found = runs_of(source, job).await?;
    if found.is_empty() {
        source.get(Kind::Job, job).await?;
    }
    let steps: Vec<String> = found.iter().map(|run| at(run, "/spec/step")).collect();
    if let Some(step) = step {
        found.retain(|run| run.pointer("/spec/step").and_then(Value::as_str) == Some(step));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let Some(step) = step else {
        return Err(Failure::not_found(format!("job `{job}` has no runs yet"))
            .help(format!("`tenure describe job {job}` says why")));
    };
    let failure = Failure::not_found(format!("job `{job}` has no run of a step `{step}`"));
    Err(match crate::manifest::similar(step, steps.iter().map(String::as_str)) {
        Some(similar) => failure.help(format!("did you mean `{job}/{similar}`?")),
        None => failure.help(format!("`tenure describe job {job}` shows its runs")),
    })
}

/// The runs of a job, in the order in which they were made.
pub async fn runs_of(source: &Source, job: &str) -> Result<Vec<Value>, Failure> {
    let mut runs = source.list(Kind::StepRun, &[]).await?;
    runs.retain(|run| run.pointer("/spec/job").and_then(Value::as_str) == Some(job));
    let number = |run: &Value, path| run.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    runs.sort_by_key(|run| (number(run, "/spec/order"), at(run, "/status/createdAt"), number(run, "/spec/attempt")));
    Ok(runs)
}

/// A file that was named, with its text.
#[derive(Debug)]
pub struct NamedFile {
    /// As it was named; `stdin` for standard input.
    pub name: String,
    /// What relative paths in it are relative to. Absolute.
    pub dir: PathBuf,
    /// Its content.
    pub text: Vec<u8>,
}

/// The files that are named: `-` is standard input; a directory stands for the manifests in it.
pub fn files(names: &[PathBuf]) -> Result<Vec<NamedFile>, Failure> {
    let unread = |(name, failure)| Failure { what: Some(format!("read {name}")), ..failure };
    each_file(names).map(|file| file.map_err(unread)).collect()
}

/// The same, one by one: a file, or its name and why it can not be read.
pub fn each_file(names: &[PathBuf]) -> impl Iterator<Item = Result<NamedFile, (String, Failure)>> {
    names.iter().flat_map(|name| {
        let failed = |failure| vec![Err((name.display().to_string(), failure))];
        if name == Path::new("-") {
            return vec![stdin().map_err(|error| ("stdin".to_owned(), failure(&error)))];
        }
        if !name.is_dir() {
            return vec![file(name)];
        }
        match manifests_in(name) {
            Err(error) => failed(failure(&error)),
            Ok(found) if found.is_empty() => {
                let empty = Failure::not_found("it holds no manifest");
                failed(empty.help("a manifest's name ends in .yaml, .yml, or .json"))
            }
            Ok(found) => found.iter().map(|path| file(path)).collect(),
        }
    })
}

fn failure(error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => super::failure::Exit::NotFound,
        _ => super::failure::Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

fn stdin() -> std::io::Result<NamedFile> {
    let text = whole(std::io::stdin())?;
    Ok(NamedFile { name: "stdin".to_owned(), dir: std::env::current_dir()?, text })
}

fn file(path: &Path) -> Result<NamedFile, (String, Failure)> {
    let name = path.display().to_string();
    let read = || {
        let text = whole(std::fs::File::open(path)?)?;
        let dir = std::path::absolute(path)?.parent().map(Path::to_owned).unwrap_or_default();
        Ok(NamedFile { name: name.clone(), dir, text })
    };
    read().map_err(|error: std::io::Error| (name.clone(), failure(&error)))
}

/// As much as a manifest may have, and one byte more: that one tells that there is more.
fn whole(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(crate::manifest::LONGEST as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The manifests of a directory and of those below it, by name; what begins with a dot is passed over. Beside a `FLOW.yaml`
/// are the files of that flow.
fn manifests_in(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let flow = dir.join("FLOW.yaml");
    if flow.is_file() {
        return Ok(vec![flow]);
    }
    let mut entries = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        // A link to a directory could lead round in a circle.
        if path.is_dir() && !path.is_symlink() {
            found.extend(manifests_in(&path)?);
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_named_in_two_ways() {
        assert_eq!(kind_and_name("job", Some("x".into())).unwrap(), (Kind::Job, Some("x".into())));
        assert_eq!(kind_and_name("jobs/x", None).unwrap(), (Kind::Job, Some("x".into())));
        assert_eq!(kind_and_name("runs", None).unwrap(), (Kind::StepRun, None));
        assert!(kind_and_name("job/x", Some("y".into())).is_err());
        let failure = kind("workloda").unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        insta::assert_snapshot!(failure, @r"
        there is no kind `workloda`
        did you mean `workloads`?
        ");
        assert_eq!([job_name("job/x"), job_name("x"), job_name("x/step")], ["x", "x", "x/step"]);
    }

    #[test]
    fn values_are_json_if_they_parse() {
        let pairs = ["n=482", "s=hello there", "l=[1, 2]", "q=\"482\"", "e=", "x=a=b"].map(|text| pair(text).unwrap());
        let expected = json!({"n": 482, "s": "hello there", "l": [1, 2], "q": "482", "e": "", "x": "a=b"});
        assert_eq!(Value::Object(values(&pairs)), expected);
        assert!(pair("=x").is_err() && pair("x").is_err());
    }

    #[test]
    fn a_directory_stands_for_its_manifests() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["b.yaml", "a.json", ".hidden.yaml", "notes.txt", "sub/c.yml", "sub/flow/FLOW.yaml", "sub/flow/data.json"]
        {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let files = files(&[dir.path().to_owned()]).unwrap();
        let texts: Vec<_> = files.iter().map(|file| String::from_utf8_lossy(&file.text).into_owned()).collect();
        assert_eq!(texts, ["a.json", "b.yaml", "sub/c.yml", "sub/flow/FLOW.yaml"]);
        assert_eq!(files[2].dir, dir.path().join("sub"));
    }
}
