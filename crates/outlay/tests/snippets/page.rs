//! `docs/clients.md`, cut into its code blocks, each with what the comment above it says of it.

use crate::common::repository;

/// What a block is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// `<!-- run: NAME -->`: it is run.
    Run(String),
    /// `<!-- save: FILE -->`: others need it beside them.
    Save(String),
    /// `<!-- not run: WHY -->`.
    NotRun(String),
    /// Nothing stands above it.
    Unmarked,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    pub usage: Use,
    pub language: String,
    pub text: String,
}

/// All blocks of the page.
pub fn blocks() -> Vec<Block> {
    let page = std::fs::read_to_string(repository("docs/clients.md")).unwrap();
    let (mut blocks, mut open, mut above) = (Vec::new(), None::<Block>, "");
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            match open.take() {
                Some(block) => blocks.push(block),
                None => open = Some(Block { usage: mark(above), language: language.to_owned(), text: String::new() }),
            }
        } else if let Some(block) = &mut open {
            block.text.push_str(line);
            block.text.push('\n');
        }
        above = line;
    }
    assert!(open.is_none(), "a block that is not closed");
    blocks
}

/// The block that is run under this name.
#[track_caller]
pub fn to_run(name: &str) -> Block {
    the(&Use::Run(name.to_owned()))
}

/// The text to save as this file.
#[track_caller]
pub fn to_save(file: &str) -> String {
    the(&Use::Save(file.to_owned())).text
}

fn mark(line: &str) -> Use {
    let inside = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
    match inside.and_then(|inside| inside.split_once(": ")) {
        Some(("run", name)) => Use::Run(name.to_owned()),
        Some(("save", file)) => Use::Save(file.to_owned()),
        Some(("not run", why)) => Use::NotRun(why.to_owned()),
        _ => Use::Unmarked,
    }
}

#[track_caller]
fn the(usage: &Use) -> Block {
    let mut found: Vec<Block> = blocks().into_iter().filter(|block| block.usage == *usage).collect();
    assert_eq!(found.len(), 1, "blocks of docs/clients.md marked {usage:?}");
    found.remove(0)
}
