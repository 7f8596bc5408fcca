//! The environment: which variables set which options, and which set nothing.
//!
//! clap reads the variables. This module adds what clap lacks: only the server has them, an empty
//! one counts as not set, and a misspelt one is reported.

use std::any::TypeId;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, CommandFactory};

use super::{Cli, escape_controls};

/// What the names of all variables begin with.
const PREFIX: &str = "REACTOR_";

/// Returns the definition of the command line for these arguments, the first of which is the
/// program's name.
///
/// The options of `serve` stand at the top, too, since that is the default command. With another
/// command they are not used, and a wrong variable must not be an error there.
pub(super) fn command_for(arguments: &[OsString]) -> Command {
    let command = Cli::command();
    let is_top = is_default_command(&command, arguments);
    // `-h` has one line for each option, which the variable would not fit in.
    let is_short_help = arguments.iter().any(|argument| argument == "-h");
    let configure = move |arg: Arg, reads_variable: bool| {
        let is_empty = arg
            .get_env()
            .is_some_and(|name| env::var_os(name).is_some_and(|value| value.is_empty()));
        let arg = arg.hide_env(is_short_help).hide_env_values(true);
        if is_empty || !reads_variable { arg.env(Resettable::Reset) } else { arg }
    };
    let command = command
        .mut_args(|arg| configure(arg, is_top))
        .mut_subcommand("serve", |serve| serve.mut_args(|arg| configure(arg, true)));
    if arguments.iter().any(is_negative) { with_negative_values(command) } else { command }
}

/// Returns whether the argument is a negative value, such as `-1s`.
fn is_negative(argument: &OsString) -> bool {
    let bytes = argument.as_encoded_bytes();
    bytes.first() == Some(&b'-') && bytes.get(1).is_some_and(u8::is_ascii_digit)
}

/// Lets every option take a value that begins with a dash.
///
/// No option allows a negative value, but only so can the error say what is allowed. If that were
/// always so, an option whose value was left out would take the next option as its value.
fn with_negative_values(command: Command) -> Command {
    let configure = |arg: Arg| {
        let takes_value = arg.get_long().is_some() && arg.get_action().takes_values();
        if takes_value { arg.allow_hyphen_values(true) } else { arg }
    };
    ["serve", "send", "blast", "try"]
        .into_iter()
        .fold(command.mut_args(configure), |command, name| {
            command.mut_subcommand(name, |command| command.mut_args(configure))
        })
}

/// Returns whether the arguments name no command, so that those of `serve` are at the top.
fn is_default_command(command: &Command, arguments: &[OsString]) -> bool {
    arguments.get(1).is_none_or(|first| command.find_subcommand(first).is_none())
}

/// Returns the variable from which the value of an option comes. `option` is written as in the
/// help, such as `--log <LEVEL>`.
pub(super) fn variable_of(option: &str, arguments: &[OsString]) -> Option<String> {
    let mut command = Cli::command();
    command.build(); // fills in what the help shows of an option's value
    let arg = command.get_arguments().find(|arg| arg.to_string() == option)?;
    variable_in_effect(arg, arguments).map(|(name, _)| name)
}

/// Returns the variable whose value is not valid UTF-8, although its option needs text.
pub(super) fn variable_without_utf8(arguments: &[OsString]) -> Option<String> {
    let command = Cli::command();
    let is_path = |arg: &&Arg| arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let mut texts = command.get_arguments().filter(|arg| !is_path(arg));
    texts.find_map(|arg| {
        let (name, value) = variable_in_effect(arg, arguments)?;
        value.to_str().is_none().then_some(name)
    })
}

/// Returns the variable of `arg` and its value, if it is in effect: clap reads it only for an
/// option that is not among the arguments.
fn variable_in_effect(arg: &Arg, arguments: &[OsString]) -> Option<(String, OsString)> {
    let option = format!("--{}", arg.get_long()?);
    let is_given = arguments.iter().map(|argument| argument.to_string_lossy()).any(|argument| {
        argument.strip_prefix(&option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let name = arg.get_env().filter(|_| !is_given)?;
    Some((name.to_string_lossy().into_owned(), env::var_os(name)?))
}

/// Returns a line for each name that looks like a variable of the program, and is none. A service
/// file with a misspelt name would otherwise change nothing, in silence.
pub(crate) fn describe_unknown(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = Cli::command();
    let is_known = |name: &OsStr| command.get_arguments().any(|arg| arg.get_env() == Some(name));
    let unknown = names.filter(|name| !is_known(name));
    let mut lines: Vec<String> = unknown
        .filter_map(|name| {
            let option = name.to_str()?.strip_prefix(PREFIX)?.to_lowercase().replace('_', "-");
            let similar = similar_variable(&option)
                .map_or_else(String::new, |similar| format!("; similar: {similar}"));
            Some(format!(
                "environment: no option reads {}{similar}",
                escape_controls(name.to_str()?)
            ))
        })
        .collect();
    lines.sort();
    lines
}

/// Returns the variable of the option that clap suggests in place of `option`.
fn similar_variable(option: &str) -> Option<String> {
    let error = Cli::command().try_get_matches_from(["reactor", &format!("--{option}")]).err()?;
    let Some(ContextValue::String(suggested)) = error.get(ContextKind::SuggestedArg) else {
        return None;
    };
    let command = Cli::command();
    let named = |arg: &&Arg| arg.get_long() == suggested.strip_prefix("--");
    let variable = command.get_arguments().find(named)?.get_env()?;
    Some(variable.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_serve_option_has_the_variable_of_its_name() {
        let command = Cli::command();
        let options: Vec<&Arg> = command.get_arguments().collect();
        assert!(options.len() > 15, "the options of serve stand at the top, too");
        for option in options {
            let long = option.get_long().expect("every option has a long name");
            let variable = format!("{PREFIX}{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(option.get_env(), Some(OsStr::new(&variable)), "--{long}");
        }
    }

    #[test]
    fn unknown_variable_is_reported_with_a_similar_one() {
        let names = ["REACTOR_IDEL_TIMEOUT", "REACTOR_TCP", "REACTOR_XYZZY", "PATH", "REACTOR_\n"];
        assert_eq!(
            describe_unknown(names.into_iter().map(OsString::from)),
            [
                "environment: no option reads REACTOR_IDEL_TIMEOUT; similar: REACTOR_IDLE_TIMEOUT",
                "environment: no option reads REACTOR_XYZZY",
                "environment: no option reads REACTOR_\\n",
            ]
        );
    }
}
