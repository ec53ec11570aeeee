//! The `tenure` program: arguments → controller, shim, or a verb of the command line → exit status.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // A shim starts no runtime and parses no options: there may be hundreds of them.
    if let (Some(first), Some(dir), None) = (args.next(), args.next(), args.next())
        && first == "shim"
    {
        return tenure::shim::run(Path::new(&dir));
    }
    tenure::cli::main()
}
