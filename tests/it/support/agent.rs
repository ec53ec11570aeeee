//! The agent that a case is played with: the bundled fake, or the real adapter against a Messages API of the test's own.

use super::World;
use super::messages_api::{self, MessagesApi};
use std::path::{Path, PathBuf};

/// An agent.
pub enum Agent {
    /// `tenure-echo`, with flags that set its manners.
    Fake(&'static [&'static str]),
    /// npm's `@agentclientprotocol/claude-agent-acp`, the whole chain.
    Real(MessagesApi),
}

/// What a turn should do.
pub enum Turn {
    /// Say "done" and end.
    Done,
    /// Not end.
    Hold,
}

impl Agent {
    pub fn fake() -> Agent {
        Agent::Fake(&[])
    }

    pub fn real() -> Agent {
        Agent::Real(MessagesApi::start())
    }

    /// Drops its class, named `agent`, into the watched directory.
    pub fn install(&self, world: &World, more: &str) {
        let (command, env) = match self {
            Agent::Fake(flags) => {
                let words: Vec<String> = std::iter::once(env!("CARGO_BIN_EXE_tenure-echo"))
                    .chain(flags.iter().copied())
                    .map(quoted)
                    .collect();
                (words.join(", "), String::new())
            }
            Agent::Real(api) => {
                let prefix = installed("claude-agent-acp");
                let words: Vec<String> = messages_api::real_command(&prefix).iter().map(|word| quoted(word)).collect();
                let mut env = format!("\n    ANTHROPIC_BASE_URL: {}", quoted(&api.url()));
                for (name, value) in messages_api::REAL_ENV {
                    env.push_str(&format!("\n    {name}: {}", quoted(value)));
                }
                env.push_str(&format!("\n    HOME: {}", quoted(&world.path().join("home").display().to_string())));
                (words.join(", "), format!("  env:{env}\n"))
            }
        };
        world.drop_file(
            "agent.yaml",
            &format!(
                "apiVersion: tenure.dev/v1alpha1\nkind: AgentClass\nmetadata: {{name: agent}}\nspec:\n  command: [{command}]\n{env}{more}"
            ),
        );
    }

    /// Whether a turn that is to hold has arrived, as far as this agent can tell.
    pub fn is_held(&self) -> bool {
        match self {
            Agent::Fake(_) => true,
            Agent::Real(api) => api.asked(messages_api::HOLD) > 0,
        }
    }

    /// The prompt, as one line, that makes a turn do that.
    pub fn prompt(&self, turn: &Turn) -> &'static str {
        match (self, turn) {
            (Agent::Fake(_), Turn::Done) => "@say done",
            (Agent::Fake(_), Turn::Hold) => "@hang",
            (Agent::Real(_), Turn::Done) => "Say done.",
            (Agent::Real(_), Turn::Hold) => "Say HOLD.",
        }
    }
}

/// Where `scripts/install-adapter` put this program of npm's, and what comes with it.
pub fn installed(program: &str) -> PathBuf {
    let prefix = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/adapter");
    assert!(prefix.join("node_modules/.bin").join(program).exists(), "no {program}: run scripts/install-adapter first");
    prefix
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
