//! Fills in what the JSON Schemas in a folder have from the types: `cargo run -p usage-intake --example schemas -- schemas`.

mod fill;
mod tree;

use std::path::Path;

fn main() -> Result<(), String> {
    let folder = std::env::args().nth(1).ok_or("name the folder of the schemas")?;
    for file in fill::FILES {
        let path = Path::new(&folder).join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let filled = fill::filled(file, &text)?;
        if filled != text {
            std::fs::write(&path, filled).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}
