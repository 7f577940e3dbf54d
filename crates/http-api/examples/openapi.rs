//! Writes the OpenAPI document to standard output: `cargo run -p http-api --example openapi > schemas/openapi.json`.

#[allow(clippy::print_stdout, reason = "its whole purpose")]
fn main() {
    print!("{}", http_api::openapi::text());
}
