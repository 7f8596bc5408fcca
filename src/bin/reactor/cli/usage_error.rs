//! A usage error on one line: clap's message, what it suggests, and the variable to blame.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::environment;

/// Returns the line for `error`, which these arguments or the environment have caused.
pub(super) fn describe(error: &clap::Error, arguments: &[OsString]) -> String {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let variable = environment::variable_without_utf8(arguments);
        let culprit = variable.as_deref().unwrap_or("an argument");
        return format!("{culprit} is not valid UTF-8 (try --help)");
    }
    let text = error.to_string();
    // The message ends at an empty line. Suggestions and the usage follow it.
    let message: Vec<&str> =
        text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let mut line = message.strip_suffix(" found").unwrap_or(message).to_string();
    if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
        && let Some(variable) = environment::variable_of(option, arguments)
    {
        line = line.replace(&format!("'{option}'"), &variable);
    }
    match suggestion(error) {
        Some(suggestion) => format!("{line}: {suggestion} (try --help)"),
        None => format!("{line} (try --help)"),
    }
}

/// Returns what clap suggests: similar names, or else its tip.
fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    for kind in kinds {
        if let Some(ContextValue::String(name)) = error.get(kind) {
            return Some(format!("similar: '{name}'"));
        }
        if let Some(ContextValue::Strings(names)) = error.get(kind) {
            return Some(format!("similar: '{}'", names.join("', '")));
        }
    }
    if let Some(ContextValue::StyledStrs(tips)) = error.get(ContextKind::Suggested) {
        return tips.first().map(ToString::to_string);
    }
    None
}
