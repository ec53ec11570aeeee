//! The bundled example agent: speaks ACP (version 1) on stdio, says what it is told, and misbehaves on request. It needs no
//! account and no network; demos and tests run on it.

mod conversation;
mod manners;
mod memory;
mod script;

use conversation::Conversation;
use manners::Manners;
use std::process::ExitCode;

const HELP: &str = "\
tenure-echo: an example agent that speaks ACP on stdio

It echoes each prompt, unless lines of the prompt are directives, which it follows in order:
  @say TEXT             say this (instead of the echo)
  @think TEXT           think this
  @sleep 500ms          take that long
  @hang                 never answer, unless cancelled
  @wait-for PATH        go on when this file is there
  @count PATH           append a line to this file: proves how often a turn ran
  @write PATH TEXT      write a file, without asking the client
  @file JSON            write this to the file that the prompt names as `output file: PATH`
  @permission           ask for permission; say what was chosen
  @read PATH            read a file through the client; say what is in it
  @put PATH TEXT        write a file through the client
  @terminal COMMAND     run a command through the client; say what it printed
  @cost 0.25            cost this much (USD); the sum of the session is reported
  @recall               say what was asked in this session before, a line each
  @fail MESSAGE         answer with an error
  @die                  exit with status 1 in mid-prompt
  @spawn-grandchild     start a child that stays
  @spawn-escaper        start a process that leaves the session and its parents
  @bare-escaper         the same, with an empty environment; also @spawn-bare-escaper

Options:
  --ignore-term         ignore SIGTERM
  --ignore-eof          stay when stdin ends
  --no-handshake        never answer `initialize`
  --fail-handshake      answer it with an error
  --no-fork             offer no forks of sessions
  --grandchild, --escaper, --bare-escaper
                        start such a process at once
  --slow-exit 200ms     take that long to exit

Environment:
  TENURE_ECHO_MEMORY    remember sessions in this directory, and offer to go on with them
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let manners = match Manners::parse(&args) {
        Ok(manners) => manners,
        Err(message) => {
            eprintln!("error: {message}; see tenure-echo --help");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = manners.settle_in() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    Conversation::new(manners.clone()).listen(std::io::stdin().lock());
    manners.stay();
    ExitCode::SUCCESS
}
