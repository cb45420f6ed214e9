//! `mcp-policy completion`: a script that makes a shell complete what is typed.

use std::io;

use clap::Command;
use clap_complete::Shell;

/// Prints the script for a shell.
pub fn run(shell: Shell, command: &mut Command) {
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, command, name, &mut io::stdout());
}
