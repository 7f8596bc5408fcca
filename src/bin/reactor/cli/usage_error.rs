//! A usage error on one line: clap's message, what it suggests, and the variable to blame.
//!
//! Invariant: what a user has written appears escaped. So a value can neither end the line nor
//! control the terminal.

use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::environment;

/// Returns the line for `error`, which these arguments or the environment have caused.
pub(super) fn describe(mut error: clap::Error, arguments: &[OsString]) -> String {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let variable = environment::variable_without_utf8(arguments);
        let culprit = variable.as_deref().unwrap_or("an argument");
        return format!("{culprit} is not valid UTF-8 (try --help)");
    }
    escape_context(&mut error);
    let mut line = message(&error);
    if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
        && let Some(variable) = environment::variable_of(option, arguments)
    {
        line = line.replacen(&format!("'{option}'"), &variable, 1);
    }
    match suggestion(&error) {
        Some(suggestion) => format!("{line}: {suggestion} (try --help)"),
        None => format!("{line} (try --help)"),
    }
}

/// Returns a user's text with control characters, quotation marks and backslashes escaped as in
/// Rust.
fn escape(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Returns a message that may quote a user's text with control characters escaped. The message has
/// quotation marks of its own.
pub(crate) fn escape_controls(message: &str) -> String {
    let escape =
        |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    message.chars().map(escape).collect()
}

/// Escapes the texts from which clap makes its message.
fn escape_context(error: &mut clap::Error) {
    let texts: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| {
            // The other values are lists of our own names, and tips.
            let ContextValue::String(text) = value else { return None };
            Some((kind, escape(text)))
        })
        .collect();
    for (kind, text) in texts {
        error.insert(kind, ContextValue::String(text));
    }
}

/// Returns clap's message without its label, suggestions and usage.
fn message(error: &clap::Error) -> String {
    if let (Some(reason), Some(value), Some(option)) =
        (error.source(), error.get(ContextKind::InvalidValue), error.get(ContextKind::InvalidArg))
    {
        // clap's own message would have the reason unescaped, and it may quote the value.
        let reason = escape_controls(&reason.to_string());
        return format!("invalid value '{value}' for '{option}': {reason}");
    }
    let text = error.to_string();
    // The message ends at an empty line. Suggestions and the usage follow it.
    let message: Vec<&str> =
        text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    message.strip_suffix(" found").unwrap_or(message).to_string()
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
        return tips.first().map(|tip| escape_controls(&tip.to_string()));
    }
    None
}
