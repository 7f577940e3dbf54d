//! Asking whoever sits at the terminal.

use std::io::IsTerminal as _;

use anyhow::Result;

/// Asks; without a terminal the answer is no, and `otherwise` says what to do instead.
pub fn confirm(question: &str, otherwise: &str) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        eprintln!("no terminal to ask at; {otherwise}");
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
