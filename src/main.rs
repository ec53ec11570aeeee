//! The `tenure` program: arguments → controller, shim, or a verb of the command line → exit status.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Neither a shim nor a keeper starts a runtime or parses options: there may be hundreds of them.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "keep") {
        return tenure::shim::run_keeper(args);
    }
    let mut args = std::env::args_os().skip(1);
    if let (Some(first), Some(dir), None) = (args.next(), args.next(), args.next())
        && first == "shim"
    {
        return tenure::shim::run(Path::new(&dir));
    }
    tenure::cli::main()
}
