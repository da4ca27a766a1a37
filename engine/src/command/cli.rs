//! What can be written on the command line.

use clap::{Args, Parser, Subcommand};

use super::failure::EXIT_CODES;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "trialog", version, after_help = EXIT_CODES)]
#[command(about = "A Kafka-compatible event log. Without a command: serve.")]
pub struct Cli {
    /// Print results as JSON, one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker until Ctrl-C or SIGTERM
    Serve(Serve),
}

impl Default for Command {
    fn default() -> Self {
        Command::Serve(Serve::default())
    }
}

/// Arguments of `serve`.
#[derive(Args, Debug, Default)]
#[command(after_help = EXIT_CODES)]
pub struct Serve {
    /// The folder for everything that is stored (setting log.dirs) [default: ./trialog-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Where to listen (setting listeners); port 0 lets the system choose
    /// [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// A setting of the broker, by Kafka's name, such as num.partitions=4; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Print every setting with its default and what it does, and end
    #[arg(long)]
    pub settings_help: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_means_serve() {
        let cli = Cli::try_parse_from(["trialog"]).expect("legal");
        assert!(matches!(cli.command.unwrap_or_default(), Command::Serve(_)));
    }
}
