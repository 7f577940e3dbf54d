//! What a statement is, by its first words: a query for the backend, something of the session, or something that is refused.

use crate::PgError;
use crate::types::state;

/// A statement, as far as it is looked at here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Nothing but space and comments.
    Empty,
    /// For the backend.
    Query,
    /// Begins a transaction; answered by this tag.
    Begin(&'static str),
    /// Ends one.
    Commit,
    /// Ends one, too.
    Rollback,
    /// Shows a setting.
    Show(String),
    /// Sets one, which is taken and has no effect but on what is shown.
    Set(String, String),
    /// Forgets prepared statements: this one, or all.
    Deallocate(Option<String>),
    /// Forgets everything of the session.
    Discard,
    /// Has no effect here; answered by this tag.
    Nothing(&'static str),
    /// Would write.
    Refused(String),
}

/// The statements of a text, without the semicolons between them.
pub(crate) fn split(sql: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while at < sql.len() {
        let skipped = unit(&sql[at..]);
        if &sql[at..at + skipped] == ";" {
            parts.push(&sql[begin..at]);
            begin = at + skipped;
        }
        at += skipped;
    }
    parts.push(&sql[begin..]);
    parts.retain(|part| !after_space(part).is_empty());
    parts
}

/// The length of what begins a text: a quoted text, a comment, or a character.
fn unit(sql: &str) -> usize {
    let up_to = |from: usize, end: &str| sql[from..].find(end).map_or(sql.len(), |at| from + at + end.len());
    let first = sql.chars().next().map_or(0, char::len_utf8);
    match sql.as_bytes() {
        [b'\'', ..] => quoted(sql, 1, b'\'', false),
        [b'e' | b'E', b'\'', ..] => quoted(sql, 2, b'\'', true),
        [b'"', ..] => quoted(sql, 1, b'"', false),
        [b'-', b'-', ..] => up_to(2, "\n"),
        [b'/', b'*', ..] => comment(sql),
        [b'$', ..] => match sql[1..].find('$') {
            // $tag$ … $tag$; a tag is a name, so that `$1` is none.
            Some(end) if sql[1..=end].bytes().enumerate().all(|(at, byte)| is_of_name(byte, at)) => {
                up_to(end + 2, &sql[..end + 2])
            }
            _ => 1,
        },
        // A word as one, so that an `e` at its end begins no quoted text.
        [byte, ..] if is_of_name(*byte, 0) => {
            sql.bytes().enumerate().take_while(|(at, byte)| is_of_name(*byte, *at)).count()
        }
        _ => first,
    }
}

fn is_of_name(byte: u8, at: usize) -> bool {
    byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit())
}

/// The length of a quoted text whose opening is `begin` bytes long; the quote doubled is one within it.
fn quoted(sql: &str, begin: usize, quote: u8, escapes: bool) -> usize {
    let bytes = sql.as_bytes();
    let mut at = begin;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a comment, in which others may be.
fn comment(sql: &str) -> usize {
    let (bytes, mut at, mut depth) = (sql.as_bytes(), 0, 0_u32);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The text from its first word or sign on.
fn after_space(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    while rest.starts_with("--") || rest.starts_with("/*") {
        rest = rest[unit(rest).min(rest.len())..].trim_start();
    }
    rest
}

/// The first words, as they are; quotes and signs are words, too.
fn words(sql: &str, count: usize) -> Vec<&str> {
    let mut rest = after_space(sql);
    let mut words = Vec::new();
    while words.len() < count && !rest.is_empty() {
        let length = unit(rest);
        words.push(&rest[..length]);
        rest = after_space(&rest[length..]);
    }
    words
}

/// What a statement is.
pub(crate) fn command(sql: &str) -> Result<Command, PgError> {
    let words = words(sql, 12);
    let word = |at: usize| words.get(at).map_or(String::new(), |word| word.to_ascii_uppercase());
    let name = |at: usize| words.get(at).map_or(String::new(), |word| unquoted(word));
    Ok(match word(0).as_str() {
        "" => Command::Empty,
        "BEGIN" => Command::Begin("BEGIN"),
        "START" => Command::Begin("START TRANSACTION"),
        "COMMIT" | "END" => Command::Commit,
        "ROLLBACK" | "ABORT" if words.iter().any(|word| word.eq_ignore_ascii_case("to")) => {
            Command::Nothing("ROLLBACK")
        }
        "ROLLBACK" | "ABORT" => Command::Rollback,
        "SAVEPOINT" => Command::Nothing("SAVEPOINT"),
        "RELEASE" => Command::Nothing("RELEASE"),
        "SHOW" => Command::Show(match (word(1).as_str(), word(2).as_str()) {
            ("TRANSACTION", "ISOLATION") => "transaction_isolation".to_owned(),
            ("TIME", "ZONE") => "timezone".to_owned(),
            _ => name(1).to_ascii_lowercase(),
        }),
        "SET" => set(&words),
        "RESET" => Command::Nothing("RESET"),
        "DISCARD" => Command::Discard,
        "DEALLOCATE" => {
            let at = 1 + usize::from(word(1) == "PREPARE");
            Command::Deallocate((word(at) != "ALL").then(|| name(at)))
        }
        "CLOSE" => Command::Nothing("CLOSE CURSOR"),
        "LISTEN" => Command::Nothing("LISTEN"),
        "UNLISTEN" => Command::Nothing("UNLISTEN"),
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "CREATE" | "DROP" | "ALTER" | "TRUNCATE" | "GRANT" | "REVOKE"
        | "COMMENT" | "VACUUM" | "ANALYZE" | "REINDEX" | "CLUSTER" | "REFRESH" | "CALL" | "DO" | "COPY" | "LOCK"
        | "NOTIFY" | "IMPORT" | "SECURITY" | "REASSIGN" | "CHECKPOINT" | "LOAD" => Command::Refused(word(0)),
        other @ ("DECLARE" | "FETCH" | "MOVE" | "PREPARE" | "EXECUTE") => {
            let error = PgError::new(state::FEATURE_NOT_SUPPORTED, format!("{other} is not supported"));
            return Err(error.hint("use the extended protocol, as drivers do: portals and prepared statements"));
        }
        _ => Command::Query,
    })
}

/// `SET [SESSION | LOCAL] name {TO | =} value`, `SET TIME ZONE value`, and what sets a transaction.
fn set(words: &[&str]) -> Command {
    let is = |at: usize, what: &str| words.get(at).is_some_and(|word| word.eq_ignore_ascii_case(what));
    let at = 1 + usize::from(is(1, "SESSION") || is(1, "LOCAL"));
    if is(at, "TRANSACTION") || is(at, "CHARACTERISTICS") || is(at, "AUTHORIZATION") || is(at, "ROLE") {
        return Command::Nothing("SET");
    }
    let (name, value) = if is(at, "TIME") {
        ("timezone".to_owned(), at + 2)
    } else {
        (unquoted(words.get(at).copied().unwrap_or("")), at + 2)
    };
    let value = words.get(value).map_or(String::new(), |word| unquoted(word));
    Command::Set(name.to_ascii_lowercase(), value)
}

fn unquoted(word: &str) -> String {
    let inner = |quote: char| word.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match (inner('"'), inner('\'')) {
        (Some(name), _) => name.replace("\"\"", "\""),
        (_, Some(text)) => text.replace("''", "'"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_split_at_semicolons_that_stand_in_no_text_and_no_comment() {
        for (sql, expected) in [
            ("", &[][..]),
            (" ; -- nothing; at all\n;", &[]),
            ("select 1", &["select 1"]),
            ("select 1; select 2;", &["select 1", " select 2"]),
            (
                "select ';', \"a;b\" /* ; /* ; */ ; */; select 2",
                &["select ';', \"a;b\" /* ; /* ; */ ; */", " select 2"],
            ),
            (r"select E'\';', 'it''s;'; x", &[r"select E'\';', 'it''s;'", " x"]),
            ("select $$;$$, $t$;$$;$t$, $1; x", &["select $$;$$, $t$;$$;$t$, $1", " x"]),
            // No escape: the backslash is a character, and the text ends.
            (r"select 'a\'; x", &[r"select 'a\'", " x"]),
            ("select fine'x;'; é", &["select fine'x;'", " é"]),
            ("select 'no end; x", &["select 'no end; x"]),
        ] {
            assert_eq!(split(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_statement_is_known_by_its_first_words() {
        let set = |name: &str, value: &str| Command::Set(name.into(), value.into());
        for (sql, expected) in [
            ("/* a tool */ select 1", Command::Query),
            ("(select 1) union (select 2)", Command::Query),
            ("with a as (select 1) select * from a", Command::Query),
            ("-- only this", Command::Empty),
            ("begin read only", Command::Begin("BEGIN")),
            ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ", Command::Begin("START TRANSACTION")),
            ("rollback", Command::Rollback),
            ("ROLLBACK TO SAVEPOINT a", Command::Nothing("ROLLBACK")),
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("set session application_name to 'it''s'", set("application_name", "it's")),
            ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("SET TRANSACTION READ ONLY", Command::Nothing("SET")),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Command::Nothing("SET")),
            ("show transaction isolation level", Command::Show("transaction_isolation".into())),
            ("SHOW \"server_version\"", Command::Show("server_version".into())),
            ("deallocate prepare \"s 1\"", Command::Deallocate(Some("s 1".into()))),
            ("DEALLOCATE ALL", Command::Deallocate(None)),
            ("insert into usage values (1)", Command::Refused("INSERT".into())),
        ] {
            assert_eq!(command(sql).unwrap(), expected, "{sql}");
        }
        assert_eq!(command("declare c cursor for select 1").unwrap_err().state, state::FEATURE_NOT_SUPPORTED);
    }
}
