//! What an argument vector runs, read by position: through shells, package runners, and interpreters to the program itself.

use crate::model::HostProcess;
use std::borrow::Cow;

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Program<'a> {
    /// Its names: of the program, or of the script, without directory and ending.
    pub names: Vec<Cow<'a, str>>,
    /// The packages that it is of.
    pub packages: Vec<Cow<'a, str>>,
    /// The directory of a script whose name says nothing.
    pub directory: Option<Cow<'a, str>>,
    /// What follows the program.
    pub arguments: Vec<Cow<'a, str>>,
    /// The process itself only starts it: `npm exec`, `sh -c`, `timeout`.
    pub is_wrapper: bool,
}

/// How deep commands are unpacked: `sudo env timeout 5 npx …` is four.
const MAX_LAYERS: usize = 8;

/// A program that runs the rest of its arguments.
struct Runner {
    name: &'static str,
    /// Flags whose value is the next argument.
    with_value: &'static [&'static str],
    /// Arguments before the command that are not flags.
    skip: usize,
}

const RUNNERS: &[Runner] = &[
    Runner { name: "env", with_value: &["-u", "--unset", "-C", "--chdir"], skip: 0 },
    Runner { name: "timeout", with_value: &["-s", "--signal", "-k", "--kill-after"], skip: 1 },
    Runner { name: "gtimeout", with_value: &["-s", "--signal", "-k", "--kill-after"], skip: 1 },
    Runner { name: "nice", with_value: &["-n"], skip: 0 },
    Runner { name: "ionice", with_value: &["-c", "-n"], skip: 0 },
    Runner { name: "nohup", with_value: &[], skip: 0 },
    Runner { name: "setsid", with_value: &[], skip: 0 },
    Runner { name: "stdbuf", with_value: &["-i", "-o", "-e"], skip: 0 },
    Runner { name: "taskset", with_value: &[], skip: 1 },
    Runner { name: "chrt", with_value: &[], skip: 1 },
    Runner { name: "time", with_value: &["-f", "-o"], skip: 0 },
    Runner { name: "exec", with_value: &["-a"], skip: 0 },
    Runner { name: "command", with_value: &[], skip: 0 },
    Runner { name: "sudo", with_value: &["-u", "-g", "-h", "-p", "-C", "-D"], skip: 0 },
    Runner { name: "doas", with_value: &["-u", "-C"], skip: 0 },
    Runner { name: "tini", with_value: &["-p", "-e"], skip: 0 },
    Runner { name: "dumb-init", with_value: &["-r"], skip: 0 },
    Runner { name: "caffeinate", with_value: &["-t", "-w"], skip: 0 },
    Runner { name: "xvfb-run", with_value: &["-n", "-s", "-e", "-f"], skip: 0 },
];

/// Flags of interpreters whose value is the next argument.
const INTERPRETER_VALUES: &[&str] =
    &["-r", "--require", "--import", "--loader", "--experimental-loader", "-W", "-X", "-O", "-o", "--env-file", "-C"];

/// Names of scripts that say nothing about what they are.
const COMMON_SCRIPTS: &[&str] = &["index", "cli", "main", "bin", "start", "server", "__main__"];
/// Directories between a package and its script.
const INNER_DIRECTORIES: &[&str] = &["dist", "build", "bin", "src", "lib", "out", "esm", "cjs"];

/// What a process runs. None: its arguments do not say, or it runs more than one thing.
pub(super) fn program(process: &HostProcess) -> Option<Program<'_>> {
    let mut program = read(words(process), MAX_LAYERS)?;
    if !program.is_wrapper
        && let Some(exe) = process.exe.as_deref()
    {
        let name = stem(base(exe.strip_suffix(" (deleted)").unwrap_or(exe)));
        if interpreter(name).is_none() {
            program.names.push(name.into());
        }
    }
    Some(program)
}

/// Its arguments as words. A program may write its title over them: npm's is its whole command line, in one string.
pub(super) fn words(process: &HostProcess) -> Vec<Cow<'_, str>> {
    let mut argv: &[String] = &process.argv;
    while let [before @ .., last] = argv
        && last.is_empty()
    {
        argv = before;
    }
    if let [title] = argv
        && title.contains(' ')
    {
        let first = title.split(' ').next().unwrap_or_default();
        let rewrites = match process.exe.as_deref() {
            Some(exe) => interpreter(base(exe)).is_some_and(|kind| kind != Interpreter::Shell),
            None => matches!(first, "npm" | "npx" | "pnpm" | "yarn" | "node" | "bun"),
        };
        if rewrites {
            return title.split_whitespace().map(Cow::Borrowed).collect();
        }
    }
    argv.iter().map(|word| Cow::Borrowed(word.as_str())).collect()
}

/// The values of a flag: `--flag value`, `--flag=value`.
pub(super) fn values<'w>(words: &'w [Cow<'_, str>], flag: &str) -> Vec<&'w str> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if word == flag {
            found.extend(words.get(at + 1).map(|value| &**value));
        } else if let Some(value) = word.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            found.push(value);
        }
    }
    found
}

/// What a command line, as a ledger wrote it, runs.
pub(super) fn of_line(line: &str) -> Option<Program<'static>> {
    let words = shell_command(line)?;
    read(words.into_iter().map(Cow::Owned).collect(), MAX_LAYERS)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Interpreter {
    Shell,
    Node,
    Deno,
    Python,
}

fn interpreter(name: &str) -> Option<Interpreter> {
    match name.trim_start_matches('-').trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') {
        "sh" | "bash" | "dash" | "zsh" | "ash" | "ksh" | "busybox" => Some(Interpreter::Shell),
        "node" | "nodejs" | "bun" | "tsx" => Some(Interpreter::Node),
        "deno" => Some(Interpreter::Deno),
        "python" | "pypy" | "ruby" | "perl" => Some(Interpreter::Python),
        _ => None,
    }
}

/// One layer, and what is in it.
fn read(mut words: Vec<Cow<'_, str>>, layers: usize) -> Option<Program<'_>> {
    let layers = layers.checked_sub(1)?;
    let name = stem(base(words.first()?)).to_owned();
    let inner = |words| read(words, layers).map(|program| Program { is_wrapper: true, ..program });
    if let Some(runner) = RUNNERS.iter().find(|runner| runner.name == name) {
        let mut at = past_flags(&words, 1, runner.with_value) + runner.skip;
        while name == "env" && words.get(at).is_some_and(|word| word.contains('=')) {
            at += 1;
        }
        return inner(words.split_off(at.min(words.len())));
    }
    if let Some(at) = package_at(&name, &words) {
        return package_run(words, at, &name, layers);
    }
    match interpreter(&name) {
        Some(Interpreter::Shell) => {
            let at = words
                .iter()
                .skip(1)
                .take_while(|word| word.starts_with(['-', '+']))
                .position(|flag| !flag.starts_with("--") && flag.starts_with('-') && flag.ends_with('c'));
            match at {
                Some(at) => {
                    let rest = words.split_off((at + 3).min(words.len()));
                    let mut command: Vec<Cow<'_, str>> =
                        shell_command(words.get(at + 2)?)?.into_iter().map(Cow::Owned).collect();
                    command.extend(rest);
                    inner(command)
                }
                None => {
                    let at = past_flags(&words, 1, INTERPRETER_VALUES);
                    script(words, at)
                }
            }
        }
        Some(Interpreter::Deno) => {
            let at = past_flags(&words, 1, &[]);
            let at = if words.get(at)? == "run" { past_flags(&words, at + 1, &[]) } else { at };
            if words.get(at)?.starts_with("npm:") {
                return package_run(words, at, "deno", layers);
            }
            script(words, at)
        }
        Some(Interpreter::Node) => {
            if words.iter().skip(1).take_while(|word| word.starts_with('-')).any(|flag| is_code(flag)) {
                return None;
            }
            let mut at = past_flags(&words, 1, INTERPRETER_VALUES);
            if name == "bun" && words.get(at)? == "run" {
                at = past_flags(&words, at + 1, &[]);
            }
            let runner = match stem(base(words.get(at)?)) {
                "npm-cli" | "npm" => "npm",
                "npx-cli" | "npx" => "npx",
                _ => return script(words, at),
            };
            let mut words = words.split_off(at);
            words[0] = Cow::Borrowed(runner);
            inner(words)
        }
        Some(Interpreter::Python) => {
            if let Some(at) =
                words.iter().skip(1).take_while(|word| word.starts_with('-')).position(|word| word == "-m")
            {
                let arguments = words.split_off((at + 3).min(words.len()));
                let module = words.get(at + 2)?.clone();
                return Some(Program { names: vec![module], arguments, ..Program::default() });
            }
            if words.iter().skip(1).take_while(|word| word.starts_with('-')).any(|word| word == "-c") {
                return None;
            }
            let at = past_flags(&words, 1, INTERPRETER_VALUES);
            script(words, at)
        }
        None => {
            let arguments = words.split_off(1);
            let names = vec![part(&words[0], name_of)];
            Some(Program { names, arguments, ..Program::default() })
        }
    }
}

fn is_code(flag: &str) -> bool {
    matches!(flag, "-e" | "-p" | "-pe" | "--eval" | "--print")
}

/// The first argument from here that is no flag, nor the value of one.
fn past_flags(words: &[Cow<'_, str>], from: usize, with_value: &[&str]) -> usize {
    let mut at = from;
    while let Some(word) = words.get(at)
        && word.starts_with('-')
        && word.len() > 1
    {
        at += if with_value.contains(&&**word) { 2 } else { 1 };
        if word == "--" {
            break;
        }
    }
    at
}

/// Where the arguments of a package runner begin, if this is one that runs a package.
fn package_at(name: &str, words: &[Cow<'_, str>]) -> Option<usize> {
    let sub_command = |from: usize, wanted: &[&str]| {
        let at = past_flags(words, from, &["--prefix", "-C", "--dir", "--cwd"]);
        words.get(at).is_some_and(|word| wanted.contains(&&**word)).then_some(at + 1)
    };
    match name {
        "npx" | "pnpx" | "bunx" | "uvx" => Some(1),
        "npm" => sub_command(1, &["exec", "x"]),
        "pnpm" | "yarn" => sub_command(1, &["dlx", "exec"]),
        "bun" => sub_command(1, &["x"]),
        "pipx" => sub_command(1, &["run"]),
        "uv" => sub_command(1, &["run"]).or_else(|| sub_command(sub_command(1, &["tool"])?, &["run"])),
        _ => None,
    }
}

/// What a package runner runs.
fn package_run<'a>(mut words: Vec<Cow<'a, str>>, at: usize, name: &str, layers: usize) -> Option<Program<'a>> {
    let node = !matches!(name, "uvx" | "uv" | "pipx");
    let with_value: &[&str] = if node {
        &["-p", "--package", "-c", "--call", "-w", "--workspace", "--prefix"]
    } else {
        &["-p", "--python", "--from", "--with", "--spec", "--directory", "--project", "--index-url"]
    };
    let end = past_flags(&words, at, with_value);
    let flags: Vec<Cow<'a, str>> = words.get(at..end.min(words.len()))?.to_vec();
    let named: &[&str] = if node { &["-p", "--package"] } else { &["--from", "--spec"] };
    let packages: Vec<Cow<'a, str>> =
        named.iter().flat_map(|flag| values(&flags, flag)).map(|spec| Cow::Owned(package(spec).to_owned())).collect();
    let called =
        if node { ["-c", "--call"].iter().find_map(|flag| values(&flags, flag).first().copied()) } else { None };
    if let Some(line) = called {
        let command = shell_command(line)?.into_iter().map(Cow::Owned).collect();
        return read(command, layers).map(|program| Program { is_wrapper: true, ..program });
    }
    let arguments = words.split_off((end + 1).min(words.len()));
    let spec = part(words.get(end)?, package);
    let names = vec![part(&spec, name_of)];
    let packages = if packages.is_empty() { vec![spec] } else { packages };
    Some(Program { names, packages, directory: None, arguments, is_wrapper: true })
}

/// A script of an interpreter's.
fn script(mut words: Vec<Cow<'_, str>>, at: usize) -> Option<Program<'_>> {
    let arguments = words.split_off((at + 1).min(words.len()));
    let path = words.get(at)?;
    let name = part(path, name_of);
    let packages = match path.rfind("node_modules/") {
        Some(_) => vec![part(path, package_of_path)].into_iter().filter(|package| !package.is_empty()).collect(),
        None => Vec::new(),
    };
    let is_common = COMMON_SCRIPTS.contains(&&*name);
    let directory = is_common.then(|| part(path, outer_directory)).filter(|name| !name.is_empty());
    let names = if is_common { Vec::new() } else { vec![name] };
    Some(Program { names, packages, directory, arguments, is_wrapper: false })
}

/// `@scope/name` of `…/node_modules/@scope/name/dist/index.js`; nothing for `node_modules/.bin/name`.
fn package_of_path(path: &str) -> &str {
    let Some((_, inner)) = path.rsplit_once("node_modules/") else { return "" };
    let slashes = if inner.starts_with('@') { 2 } else { 1 };
    let end = inner.match_indices('/').nth(slashes - 1).map_or(inner.len(), |(at, _)| at);
    let name = &inner[..end];
    if name.starts_with('.') { "" } else { name }
}

fn outer_directory(path: &str) -> &str {
    path.rsplit('/').skip(1).find(|directory| !INNER_DIRECTORIES.contains(directory)).unwrap_or_default()
}

/// A package without its version: `@scope/name@1.2`, `npm:name`, `name==1.2`, `name[extra]`.
fn package(spec: &str) -> &str {
    let spec = spec.strip_prefix("npm:").unwrap_or(spec);
    let end = spec.char_indices().skip(1).find(|(_, c)| matches!(c, '@' | '=' | '[' | '<' | '>')).map(|(at, _)| at);
    &spec[..end.unwrap_or(spec.len())]
}

/// The one command that a shell runs, as words. Before it there may be a change of directory and variables. None: it is a
/// script of several commands, which do not end with the one.
fn shell_command(line: &str) -> Option<Vec<String>> {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(characters.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ';' | '&' | '|' | '\n') => {
                commands.last_mut()?.extend(word.take());
                commands.push(Vec::new());
            }
            (None, c) if c.is_whitespace() => commands.last_mut()?.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut()?.extend(word);
    commands.retain(|command| !command.is_empty());
    let last = commands.pop()?;
    let prelude = |command: &Vec<String>| {
        matches!(command[0].as_str(), "cd" | "export" | "set" | "umask" | "ulimit")
            || command.iter().all(|w| w.contains('='))
    };
    if !commands.iter().all(prelude) {
        return None;
    }
    let start = last.iter().position(|word| !is_assignment(word))?;
    Some(last[start..].to_vec())
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// The same part of a borrowed word, or of an owned one.
fn part<'a>(word: &Cow<'a, str>, of: fn(&str) -> &str) -> Cow<'a, str> {
    match word {
        Cow::Borrowed(word) => Cow::Borrowed(of(word)),
        Cow::Owned(word) => Cow::Owned(of(word).to_owned()),
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Of a path, the name without directory and ending.
fn name_of(path: &str) -> &str {
    stem(base(path))
}

fn stem(name: &str) -> &str {
    [".js", ".mjs", ".cjs", ".ts", ".py", ".exe"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}
