//! `weir completions SHELL`.

use clap::Args;
use clap_complete::Shell;

use super::failure::Failure;
use super::{command, screen};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir completions bash > /etc/bash_completion.d/weir
  weir completions zsh > \"${fpath[1]}/_weir\"
  weir completions fish > ~/.config/fish/completions/weir.fish")]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "weir", &mut text);
    screen::print(&String::from_utf8_lossy(&text))
}
