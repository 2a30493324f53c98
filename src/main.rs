//! Parses nothing itself: hands over to `cli`, turns its answer into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    canaryd::cli::main(std::env::args_os())
}
