//! Who is an agent: argument vectors by position, with those that only look like one.

use super::*;

/// The executable (empty: as the first word says), the arguments, and the class. None: no agent.
type Case = (&'static str, &'static [&'static str], Option<&'static str>);

const CLI: &str = "/opt/acp/node_modules/@anthropic-ai/claude-agent-sdk-linux-x64/claude";

const CASES: &[Case] = &[
    // Claude Code and its adapters.
    ("", &["claude"], Some("claude")),
    ("/home/u/.local/share/claude/versions/2.1.3", &["claude", "-p", "hello"], Some("claude")),
    ("/usr/bin/node", &["claude"], Some("claude")),
    ("", &[CLI, "--output-format", "stream-json"], Some("claude")),
    ("", &["node", "/home/u/.npm/_npx/1f/node_modules/.bin/claude-agent-acp"], Some("claude")),
    ("", &["node", "/opt/acp/node_modules/@agentclientprotocol/claude-agent-acp/dist/index.js"], Some("claude")),
    (
        "",
        &[
            "node",
            "--max-old-space-size=4096",
            "-r",
            "x.js",
            "/opt/node_modules/@zed-industries/claude-code-acp/dist/index.js",
        ],
        Some("claude"),
    ),
    ("", &["node", "/home/u/src/claude-agent-acp/dist/index.js"], Some("claude")),
    ("/usr/bin/node", &["npm exec @agentclientprotocol/claude-agent-acp --model opus", "", ""], Some("claude")),
    ("/usr/bin/node", &["npm", "exec", "--yes", "@zed-industries/claude-agent-acp@0.24.0"], Some("claude")),
    (
        "",
        &["node", "/usr/lib/node_modules/npm/bin/npx-cli.js", "-y", "@zed-industries/claude-code-acp"],
        Some("claude"),
    ),
    ("", &["npx", "-p", "@anthropic-ai/claude-code", "claude", "-p", "x"], Some("claude")),
    ("", &["bunx", "@zed-industries/claude-code-acp"], Some("claude")),
    ("", &["deno", "run", "-A", "npm:@agentclientprotocol/claude-agent-acp@1"], Some("claude")),
    ("", &["sh", "-c", "'claude-agent-acp' --model opus"], Some("claude")),
    ("", &["sh", "-c", "claude-agent-acp", "--model", "opus"], Some("claude")),
    ("", &["/bin/bash", "-lc", "cd '/srv/a b' && FOO=1 exec claude --continue"], Some("claude")),
    ("", &["/bin/sh", "/opt/bin/claude-agent-acp"], Some("claude")),
    ("", &["python3", "-u", "/opt/bin/claude-agent-acp"], Some("claude")),
    ("", &["env", "-u", "X", "A=1", "timeout", "-k", "5", "30m", "claude", "-p", "x"], Some("claude")),
    ("", &["sudo", "-u", "bob", "claude"], Some("claude")),
    ("", &["claude", "daemon", "run"], Some("claude")),
    // Others.
    ("", &["node", "/x/node_modules/@agentclientprotocol/codex-acp/bin/codex-acp.js"], Some("codex")),
    ("", &["/x/node_modules/@openai/codex-linux-x64/vendor/codex/codex", "app-server"], Some("codex")),
    ("", &["codex"], Some("codex")),
    ("", &["node", "/usr/bin/gemini", "--acp"], Some("gemini")),
    ("", &["node", "/x/node_modules/@google/gemini-cli/dist/index.js", "--experimental-acp"], Some("gemini")),
    ("", &["opencode", "acp"], Some("opencode")),
    ("/usr/bin/node", &["npm exec opencode-ai acp"], Some("opencode")),
    ("", &["goose", "acp"], Some("goose")),
    ("", &["qwen", "--acp"], Some("qwen")),
    ("", &["copilot", "--acp"], Some("copilot")),
    ("", &["qodercli", "--acp"], Some("qoder")),
    ("", &["junie", "--acp=true"], Some("junie")),
    ("", &["iflow", "--experimental-acp"], Some("iflow")),
    ("", &["kimi", "--config", "x", "acp"], Some("kimi")),
    ("", &["kiro-cli-chat", "acp"], Some("kiro")),
    ("", &["cursor-agent", "acp"], Some("cursor")),
    ("", &["npx", "pi-acp"], Some("pi")),
    ("", &["npx", "-y", "mux", "acp"], Some("mux")),
    ("", &["uvx", "--from", "fast-agent-mcp==0.3", "fast-agent-acp", "acp"], Some("fast-agent")),
    ("", &["openclaw", "acp"], Some("openclaw")),
    ("", &["aloop", "serve"], Some("aloop")),
    ("", &["node", "/x/node_modules/acpx/dist/cli.js", "__queue-owner"], Some("acpx")),
    // What agents use.
    ("/usr/bin/node", &["npm exec @upstash/context7-mcp"], Some("mcp")),
    ("", &["npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv"], Some("mcp")),
    ("", &["node", "/x/node_modules/.bin/mcp-server-supabase"], Some("mcp")),
    ("", &["uvx", "mcp-server-git"], Some("mcp")),
    ("", &["/x/bin/python", "/x/bin/mcp-server-git"], Some("mcp")),
    ("", &["chroma-mcp", "--client-type", "persistent"], Some("mcp")),
    ("", &["firecracker", "--api-sock", "/run/fc.sock"], Some("firecracker")),
    ("", &["cloud-hypervisor", "--kernel", "k"], Some("cloud-hypervisor")),
    ("", &["qemu-system-x86_64", "-M", "microvm"], Some("qemu")),
    // What only looks like one.
    ("", &["vim", "claude-agent-acp.md"], None),
    ("", &["grep", "-r", "claude", "."], None),
    ("", &["tail", "-f", "/var/log/claude-agent-acp.log"], None),
    ("/usr/bin/sleep", &["tail -F /var/log/claude-agent-acp.log", "99999"], None),
    ("", &["man", "claude"], None),
    ("", &["vim", "codex-acp"], None),
    (
        "",
        &[
            "python3",
            "/opt/lab/editor.py",
            "node",
            "/opt/node_modules/@agentclientprotocol/claude-agent-acp/dist/index.js",
        ],
        None,
    ),
    ("", &["sh", "-c", "tail -f claude-agent-acp.log"], None),
    ("", &["sh", "-c", "claude -p x > out; make deploy"], None),
    ("", &["sh", "-c", "pgrep -f claude | xargs kill"], None),
    ("", &["bash"], None),
    ("", &["timeout", "5", "grep", "claude", "x"], None),
    ("", &["node", "-e", "require('claude-agent-acp')"], None),
    ("", &["node", "/home/u/claude/index.js"], None),
    ("", &["node", "/home/u/codex/server.js"], None),
    ("", &["npm", "install", "@anthropic-ai/claude-code"], None),
    ("", &["npm", "run", "claude"], None),
    ("", &["goose", "up"], None),
    ("", &["copilot", "svc", "deploy"], None),
    ("", &["kimi"], None),
    ("", &["python3", "-m", "http.server"], None),
    ("", &["python3", "-u", "-c", "/x/claude"], None),
    ("", &["ssh", "host", "claude"], None),
    ("", &["tmux", "new-session", "claude"], None),
    ("", &["/Applications/Claude.app/Contents/MacOS/Claude"], None),
    ("", &["code", "--folder", "/home/u/claude"], None),
    ("", &["qemu-system-x86_64", "-name", "guest=desktop,debug-threads=on"], None),
    ("", &["less", "mcp-server-git.md"], None),
    ("", &["git", "clone", "https://example.org/claude-code-acp"], None),
    ("", &["docker", "run", "claude"], None),
    ("", &[], None),
];

fn class(catalogue: &Catalogue, exe: &str, argv: &[&str]) -> Option<String> {
    let mut one = process(100, 1, argv);
    if !exe.is_empty() {
        one.exe = Some(exe.to_owned());
    }
    let trees = attribute(&census([one]), catalogue, &[], &terms());
    trees.first().map(|tree| tree.class.clone())
}

#[test]
fn an_agent_is_known_by_its_program_and_its_arguments_at_their_places() {
    let catalogue = Catalogue::built_in();
    let wrong: Vec<String> = CASES
        .iter()
        .map(|(exe, argv, expected)| (argv, *expected, class(&catalogue, exe, argv)))
        .filter(|(_, expected, found)| *expected != found.as_deref())
        .map(|(argv, expected, found)| format!("{argv:?}: expected {expected:?}, found {found:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_executable_that_can_not_be_read_leaves_the_arguments() {
    let one =
        HostProcess { exe: None, ..process(100, 1, &["npm exec @agentclientprotocol/claude-agent-acp --model x"]) };
    assert_eq!(judged(&census([one]), &[])[0].class, "claude");
}

#[test]
fn a_class_of_a_users_adds_to_the_catalogue_and_comes_first() {
    let own = Match { cmdline: vec!["my-agent".to_owned(), "helper acp".to_owned(), "@me/agent".to_owned()] };
    let taken = Match { cmdline: vec!["codex".to_owned()] };
    let catalogue = Catalogue::built_in().with([("mine", &own), ("theirs", &taken)].into_iter());
    let class = |argv| class(&catalogue, "", argv);
    assert_eq!(class(&["my-agent", "--x"]).as_deref(), Some("mine"));
    assert_eq!(class(&["node", "/x/node_modules/@me/agent/dist/cli.js"]).as_deref(), Some("mine"));
    assert_eq!(class(&["helper", "acp"]).as_deref(), Some("mine"));
    assert_eq!(class(&["helper", "other"]), None);
    assert_eq!(class(&["cat", "my-agent"]), None);
    assert_eq!(class(&["codex"]).as_deref(), Some("theirs"));
    assert_eq!(class(&["claude"]).as_deref(), Some("claude"));
}
