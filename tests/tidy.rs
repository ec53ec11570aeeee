//! The rules of the design that a machine can keep: who may import whom, where `unsafe` may stand, how long a file may be.
//!
//! The sources are parsed, so that an inline `crate::…` path, one inside a macro, and a `super::super::…` that leaves its module are
//! seen as well as a `use`. What is wrong is reported as `file:line: what; what to do`.

#![expect(clippy::expect_used, reason = "a test that can not read the sources has to fail")]

use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// The floors; a module imports from lower ones only. `lib.rs`, `main.rs`, and `bin/` are free.
const FLOORS: &[(u8, &[&str])] = &[
    (1, &["model"]),
    (2, &["manifest", "flow", "plan", "foreign"]),
    (3, &["os"]),
    (4, &["store", "observe", "ledger", "shim"]),
    (5, &["acp", "machine", "web"]),
    (6, &["act"]),
    (7, &["controller"]),
    (8, &["serve"]),
    (9, &["cli"]),
];

/// Modules that touch no clock, file, process, network, runtime, or database.
const PURE: &[&str] = &["model", "manifest", "flow", "plan", "foreign"];

/// The lints that keep them so.
const PURE_LINTS: &[&str] = &["disallowed_methods", "disallowed_types"];

/// What sends a signal, by whatever library: only `os` may, where the never-rules are asked first.
const SENDERS: &[&str] = &["pidfd_send_signal", "killpg", "tgkill", "kill_process", "kill_process_group"];
/// Modules of libraries whose `kill` does.
const SENDING_MODULES: &[&str] = &["signal", "libc"];
/// The file of the kernel's that does.
const SENDING_FILE: &str = "\"cgroup.kill\"";

const MAX_LINES: usize = 600;

/// Split, so that no search finds the words in here.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, modules)| modules.contains(&module)).map(|(floor, _)| *floor)
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What a path names, seen from the crate's root.
enum Named {
    /// `crate::module…`
    Item(String),
    /// `crate::*`
    Everything,
}

/// One file under `src`, and what is wrong with it.
struct Checker<'f> {
    /// Its path below `src`, with `/`.
    file: &'f str,
    /// The modules that it is in, inline ones included, from the root.
    modules: Vec<String>,
    found: Vec<Violation>,
}

/// The modules of a file, from the root; empty for the root itself and for the programs.
fn modules_of(file: &str) -> Vec<String> {
    if matches!(file, "lib.rs" | "main.rs") || file.starts_with("bin/") {
        return Vec::new();
    }
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(String::from).collect()
}

/// Checks one file. `alone` says that its module has no other file.
fn check(file: &str, text: &str, alone: bool) -> Vec<Violation> {
    let mut checker = Checker { file, modules: modules_of(file), found: Vec::new() };
    checker.text(text);
    match syn::parse_file(text) {
        Ok(parsed) => {
            checker.module_is_on_the_map();
            checker.purity(&parsed, alone);
            checker.visit_file(&parsed);
        }
        Err(error) => checker.add(error.span().start().line, format!("does not parse ({error}); repair it")),
    }
    if let Ok(tokens) = text.parse::<TokenStream>() {
        checker.words(tokens);
    }
    checker.found.sort();
    checker.found.dedup();
    checker.found
}

impl Checker<'_> {
    fn add(&mut self, line: usize, what: impl Into<String>) {
        self.found.push(Violation { file: format!("src/{}", self.file), line: line.max(1), what: what.into() });
    }

    /// The top module, if the file is not free.
    fn home(&self) -> Option<&str> {
        modules_of(self.file)
            .first()
            .and_then(|home| FLOORS.iter().flat_map(|(_, all)| *all).find(|m| *m == home))
            .copied()
    }

    fn module_is_on_the_map(&mut self) {
        if let (None, Some(top)) = (self.home(), modules_of(self.file).first()) {
            self.add(
                1,
                format!("module `{top}` has no floor; give it one in tests/tidy.rs, DESIGN.md, and src/lib.rs"),
            );
        }
    }

    /// What is seen without a parser.
    fn text(&mut self, text: &str) {
        if !text.starts_with("//!") {
            self.add(1, "does not open with `//!`; say what the module is for and what it promises");
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            self.add(lines, format!("has {lines} lines, more than {MAX_LINES}; it is two rooms: split it by meaning"));
        }
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            for word in words.filter(|word| UNFINISHED.contains(word)) {
                self.add(number + 1, format!("says {word}; do it now, or file an issue and say what holds today"));
            }
        }
    }

    /// A pure module's `mod.rs` denies the lints, as soon as it holds anything that could break them.
    fn purity(&mut self, parsed: &syn::File, alone: bool) {
        let Some(home) = self.home().filter(|home| PURE.contains(home)) else { return };
        let is_root = self.modules.len() == 1;
        let declares_only = parsed.items.iter().all(|item| {
            matches!(item, syn::Item::Struct(_) | syn::Item::Enum(_) | syn::Item::Type(_) | syn::Item::Use(_))
        });
        if !is_root || (alone && declares_only) {
            return;
        }
        let denied = |lint: &str| {
            parsed.attrs.iter().any(|attr| {
                let syn::Meta::List(list) = &attr.meta else { return false };
                (list.path.is_ident("deny") || list.path.is_ident("forbid"))
                    && idents(&list.tokens).contains(&lint.to_string())
            })
        };
        let missing: Vec<&str> = PURE_LINTS.iter().copied().filter(|lint| !denied(lint)).collect();
        if !missing.is_empty() {
            let lints = PURE_LINTS.iter().map(|lint| format!("clippy::{lint}")).collect::<Vec<_>>().join(", ");
            self.add(
                1,
                format!("`{home}` is pure, but its root does not deny {}; add `#![deny({lints})]`", missing.join(", ")),
            );
        }
    }

    /// Words that may stand only in `os`, wherever they are: in code, attributes, or macros.
    fn words(&mut self, tokens: TokenStream) {
        if self.home() == Some("os") {
            return;
        }
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.words(group.stream()),
                TokenTree::Ident(ident) if ident == "unsafe" => {
                    self.add(ident.span().start().line, "`unsafe` outside of src/os; give `os` a safe function for it");
                }
                TokenTree::Ident(ident) if ident == "target_os" => {
                    let what = "`cfg(target_os)` outside of src/os; put what differs into sibling files there";
                    self.add(ident.span().start().line, what);
                }
                _ if sends(&tokens[at..]) => {
                    let what =
                        "sends a signal outside of src/os; take hold with `os::Held`, which asks the never-rules";
                    self.add(token.span().start().line, what);
                }
                _ => {}
            }
        }
    }

    /// What a path that begins with these segments names, if it leaves its top module by `crate` or `super`.
    fn resolve(&self, path: &[String]) -> Option<Named> {
        let mut here = self.modules.as_slice();
        let mut rest = path;
        match rest.split_first()? {
            (first, after) if first == "crate" => {
                here = &[];
                rest = after;
            }
            (first, _) if first == "super" || first == "self" => {
                while let Some((step, after)) = rest.split_first() {
                    match step.as_str() {
                        "super" => here = here.split_last().map_or(&[], |(_, outer)| outer),
                        "self" => {}
                        _ => break,
                    }
                    rest = after;
                }
            }
            _ => return None,
        }
        if !here.is_empty() {
            return None;
        }
        match rest.first()?.as_str() {
            "*" => Some(Named::Everything),
            item => Some(Named::Item(item.to_string())),
        }
    }

    fn path(&mut self, path: &[String], span: Span) {
        let Some(home) = self.home() else { return };
        let line = span.start().line;
        let above = floor(home).unwrap_or(0);
        match self.resolve(path) {
            None => {}
            Some(Named::Everything) => {
                self.add(line, "takes everything of the crate's root; name the module that is meant");
            }
            Some(Named::Item(target)) if target == home => {}
            Some(Named::Item(target)) => match floor(&target) {
                Some(below) if below < above => {}
                Some(same) if same == above => {
                    let what = "and siblings do not import each other; move what both need to a lower floor";
                    self.add(line, format!("`{home}` uses `{target}`, both on floor {same}, {what}"));
                }
                Some(higher) => {
                    let what = "imports go downwards only; pass the value in, or move what is shared down";
                    self.add(line, format!("`{home}` (floor {above}) uses `{target}` (floor {higher}); {what}"));
                }
                None => {
                    self.add(
                        line,
                        format!("`{home}` uses `crate::{target}`, which is no module of the map; name its module"),
                    );
                }
            },
        }
    }

    /// Each path of a `use`.
    fn use_tree(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        let (name, span) = match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(prefix, &path.tree);
                prefix.pop();
                return;
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(prefix, tree);
                }
                return;
            }
            syn::UseTree::Name(name) => (name.ident.to_string(), name.ident.span()),
            syn::UseTree::Rename(rename) => (rename.ident.to_string(), rename.ident.span()),
            syn::UseTree::Glob(glob) => ("*".to_string(), glob.star_token.spans[0]),
        };
        prefix.push(name);
        self.path(prefix, span);
        prefix.pop();
    }

    /// Paths in the tokens of a macro, which nobody has parsed.
    fn macro_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.macro_tokens(group.stream()),
                TokenTree::Ident(first) if first == "crate" || first == "super" || first == "self" => {
                    let mut path = vec![first.to_string()];
                    while let Some([TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(next)]) =
                        tokens.get(at + 1..at + 4)
                        && a.as_char() == ':'
                        && b.as_char() == ':'
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    self.path(&path, first.span());
                }
                _ => {}
            }
            at += 1;
        }
    }
}

/// Whether what begins here names something that sends a signal.
fn sends(tokens: &[TokenTree]) -> bool {
    match tokens {
        [TokenTree::Literal(literal), ..] => literal.to_string() == SENDING_FILE,
        [TokenTree::Ident(ident), ..] if SENDERS.iter().any(|sender| ident == sender) => true,
        [TokenTree::Ident(module), TokenTree::Punct(a), TokenTree::Punct(b), next, ..]
            if SENDING_MODULES.iter().any(|name| module == name) && a.as_char() == ':' && b.as_char() == ':' =>
        {
            match next {
                TokenTree::Ident(name) => name == "kill",
                TokenTree::Group(group) => idents(&group.stream()).iter().any(|name| name == "kill"),
                _ => false,
            }
        }
        _ => false,
    }
}

fn idents(tokens: &TokenStream) -> Vec<String> {
    tokens
        .clone()
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(group) => idents(&group.stream()),
            TokenTree::Ident(ident) => vec![ident.to_string()],
            _ => Vec::new(),
        })
        .collect()
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.modules.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.modules.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.path(&names, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.macro_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// Every source of the crate: its path below `src`, and its text.
fn sources() -> BTreeMap<String, String> {
    fn walk(dir: &Path, root: &Path, into: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).expect("src can be listed") {
            let path: PathBuf = entry.expect("an entry of src").path();
            if path.is_dir() {
                walk(&path, root, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("a path below src").to_string_lossy().replace('\\', "/");
                into.insert(name, std::fs::read_to_string(&path).expect("a source can be read"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    walk(&root, &root, &mut found);
    found
}

fn messages(file: &str, text: &str) -> Vec<String> {
    check(file, text, false).iter().map(Violation::to_string).collect()
}

#[test]
fn the_sources_keep_the_rules() {
    let sources = sources();
    assert!(sources.contains_key("lib.rs"), "the sources were not found");
    let files_of =
        |module: &str| sources.keys().filter(|file| modules_of(file).first().is_some_and(|top| top == module)).count();
    let mut found = Vec::new();
    for (file, text) in &sources {
        let alone = modules_of(file).first().is_some_and(|top| files_of(top) == 1);
        found.extend(check(file, text, alone));
    }
    let lines: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "{} rules are broken:\n{}", lines.len(), lines.join("\n"));
}

/// The names that a module gives out: its public items, and what it re-exports.
fn exported(text: &str) -> BTreeSet<String> {
    fn leaves(tree: &syn::UseTree, into: &mut BTreeSet<String>) {
        match tree {
            syn::UseTree::Path(path) => leaves(&path.tree, into),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, into)),
            syn::UseTree::Name(name) => drop(into.insert(name.ident.to_string())),
            syn::UseTree::Rename(rename) => drop(into.insert(rename.rename.to_string())),
            syn::UseTree::Glob(_) => drop(into.insert("*".to_string())),
        }
    }
    let public = |visibility: &syn::Visibility| matches!(visibility, syn::Visibility::Public(_));
    let mut names = BTreeSet::new();
    for item in syn::parse_file(text).expect("a source that parses").items {
        match item {
            syn::Item::Use(item) if public(&item.vis) => leaves(&item.tree, &mut names),
            syn::Item::Fn(item) if public(&item.vis) => drop(names.insert(item.sig.ident.to_string())),
            syn::Item::Struct(item) if public(&item.vis) => drop(names.insert(item.ident.to_string())),
            syn::Item::Enum(item) if public(&item.vis) => drop(names.insert(item.ident.to_string())),
            syn::Item::Const(item) if public(&item.vis) => drop(names.insert(item.ident.to_string())),
            _ => {}
        }
    }
    names
}

/// The rest of the crate knows one set of names; that they have the same types is for `scripts/check-other-systems` to say.
#[test]
fn every_system_has_the_same_names() {
    let sources = sources();
    let of = |system: &str| exported(&sources[&format!("os/{system}/mod.rs")]);
    let (linux, sysctl) = (of("linux"), of("sysctl"));
    assert!(linux.contains("ProcRef"), "{linux:?}");
    let missing: Vec<_> = linux.symmetric_difference(&sysctl).collect();
    assert!(missing.is_empty(), "only one of os/linux and os/sysctl has {missing:?}; give the other its sibling");
    let planted =
        exported("pub use a::{B, c::D as E}; use f::G; pub(super) use h::I; pub fn j() {} pub struct K; fn l() {}");
    assert_eq!(planted.into_iter().collect::<Vec<_>>(), ["B", "E", "K", "j"]);
}

/// A pure root that keeps the rules, to plant things in.
const CLEAN: &str = "//! A module.\n#![deny(clippy::disallowed_methods, clippy::disallowed_types)]\n";

#[test]
fn a_planted_violation_is_found() {
    // (file, what is planted on line 3, what the report says)
    let planted = [
        ("flow/mod.rs", "use crate::os::Lock;", "`flow` (floor 2) uses `os` (floor 3)"),
        ("flow/mod.rs", "use crate::plan::Plan;", "both on floor 2"),
        ("flow/mod.rs", "use crate::{model::Time, plan};", "both on floor 2"),
        ("flow/mod.rs", "fn f() { crate::act::go() }", "`flow` (floor 2) uses `act` (floor 6)"),
        ("flow/mod.rs", "fn f() -> crate::store::Store { g() }", "uses `store`"),
        ("flow/mod.rs", "fn f() { println!(\"{}\", crate::store::NAME) }", "uses `store`"),
        ("flow/mod.rs", "fn f() { vec![super::cli::run()]; }", "uses `cli`"),
        ("flow/mod.rs", "use super::cli;", "uses `cli`"),
        ("flow/expr/lexer.rs", "use super::super::super::serve::Api;", "uses `serve`"),
        ("flow/expr/lexer.rs", "mod tests { use super::super::super::super::serve::Api; }", "uses `serve`"),
        ("flow/mod.rs", "use crate::*;", "takes everything"),
        ("flow/mod.rs", "use crate::Store;", "no module of the map"),
        ("flow/mod.rs", "pub use crate::controller as c;", "uses `controller`"),
        ("store/mod.rs", "impl crate::observe::Look for S {}", "both on floor 4"),
        ("plan/mod.rs", "fn f() { unsafe { g() } }", "`unsafe` outside of src/os"),
        ("plan/mod.rs", "unsafe fn f() {}", "`unsafe` outside of src/os"),
        ("plan/mod.rs", "unsafe impl Send for P {}", "`unsafe` outside of src/os"),
        ("plan/mod.rs", "#[unsafe(no_mangle)] fn f() {}", "`unsafe` outside of src/os"),
        ("plan/mod.rs", "fn f() { m!(unsafe { g() }) }", "`unsafe` outside of src/os"),
        ("plan/mod.rs", "#[cfg(target_os = \"linux\")] fn f() {}", "`cfg(target_os)` outside of src/os"),
        ("plan/mod.rs", "#[cfg(any(test, not(target_os = \"macos\")))] fn f() {}", "`cfg(target_os)` outside"),
        ("plan/mod.rs", "fn f() -> bool { cfg!(target_os = \"linux\") }", "`cfg(target_os)` outside of src/os"),
        ("main.rs", "fn f() { unsafe { g() } }", "`unsafe` outside of src/os"),
        ("act/mod.rs", "use nix::sys::signal::{Signal, kill};", "sends a signal outside of src/os"),
        ("act/mod.rs", "fn f() { nix::sys::signal::kill(p, s); }", "sends a signal outside of src/os"),
        ("shim/mod.rs", "use rustix::process::kill_process;", "sends a signal outside of src/os"),
        ("shim/mod.rs", "fn f() { write(d.join(\"cgroup.kill\")) }", "sends a signal outside of src/os"),
        ("tricks/mod.rs", "", "module `tricks` has no floor"),
        ("plan/mod.rs", "fn f( {}", "does not parse"),
    ];
    for (file, line, report) in planted {
        let found = messages(file, &format!("{CLEAN}{line}\n"));
        assert_eq!(found.len(), 1, "{file}: {line}\n{found:#?}");
        assert!(found[0].contains(report), "{file}: {line}\n{found:#?}");
        assert!(found[0].starts_with(&format!("src/{file}:")), "{found:#?}");
        assert!(line.is_empty() || found[0].starts_with(&format!("src/{file}:3: ")), "{found:#?}");
    }
}

#[test]
fn a_planted_violation_of_form_is_found() {
    let unfinished = format!("{CLEAN}// {}: later\n", UNFINISHED[0]);
    assert!(messages("plan/mod.rs", &unfinished)[0].starts_with("src/plan/mod.rs:3: says"));
    assert!(messages("plan/a.rs", "fn f() {}\n")[0].contains("does not open with"));
    let long = format!("//! Long.\n{}", "// line\n".repeat(MAX_LINES));
    assert!(messages("plan/a.rs", &long)[0].contains("split it by meaning"));
    let impure = messages("plan/mod.rs", "//! Pure.\n#![deny(clippy::disallowed_methods)]\nfn f() {}\n");
    assert!(impure[0].contains("does not deny disallowed_types;"), "{impure:#?}");
}

#[test]
fn what_is_allowed_is_not_reported() {
    let allowed = [
        ("flow/mod.rs", "use crate::model::{Time, self};"),
        ("flow/mod.rs", "use crate::flow::expr; use self::expr::Expr; use super::model;"),
        ("flow/expr/lexer.rs", "use super::super::types; pub(super) fn f() {} pub(crate) fn g() {}"),
        ("flow/expr/lexer.rs", "mod tests { use super::*; use super::super::*; use super::super::super::types::*; }"),
        ("flow/expr/lexer.rs", "pub(in crate::flow) fn f() -> u8 { super::error::kind() }"),
        ("cli/run.rs", "use crate::{act, controller::Controller, serve}; fn f() { crate::os::boot_id(); }"),
        ("os/lock.rs", "#[cfg(target_os = \"linux\")] fn f() { unsafe { g() } }"),
        ("os/lock.rs", "fn f() { kill_process(p, s); write(d.join(\"cgroup.kill\")) }"),
        ("act/mod.rs", "use nix::sys::signal::Signal; fn f() { Held::kill(&t, &n); g(\"no cgroup.kill here\") }"),
        ("main.rs", "use tenure::cli; fn f() { tenure::controller::run(); }"),
        ("lib.rs", "pub mod model; pub use crate::cli::run;"),
        ("plan/mod.rs", "// an unsafe idea: mktemp XXXXXX\nfn f() { let s = \"unsafe crate::cli\"; }"),
    ];
    for (file, line) in allowed {
        let found = messages(file, &format!("{CLEAN}{line}\n"));
        assert!(found.is_empty(), "{file}: {line}\n{found:#?}");
    }
    // A root that only declares data has nothing to deny.
    assert!(check("plan/mod.rs", "//! Pure.\npub struct Plan {}\n", true).is_empty());
}
