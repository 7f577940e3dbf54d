//! Who asks a server for a change, and why: for its audit log.

/// The headers that say so; where nobody is named, the user who runs this.
pub fn stated(actor: Option<String>, reason: Option<String>) -> Vec<(&'static str, String)> {
    let stated = [("x-outlay-actor", actor.or_else(user)), ("x-outlay-reason", reason)];
    stated.into_iter().filter_map(|(name, words)| Some((name, one_line(&words?)))).collect()
}

/// Words as a header can have them: a commit's message has lines.
fn one_line(words: &str) -> String {
    words.split(char::is_control).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Who runs this, as the system says.
fn user() -> Option<String> {
    ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()))
}
