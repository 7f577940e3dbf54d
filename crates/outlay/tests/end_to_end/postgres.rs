//! PostgreSQL's protocol, with the clients that people use: psql, psycopg, SQLAlchemy, JDBC, and what Grafana's data source sends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::events::{event, event_with};
use crate::common::{Server, python, repository, wait_for, wait_until_eq};

/// A server with three rows, one of them with a price.
fn start(data: &Path, args: &[&str]) -> Server {
    let server = Server::start(data, &[&["--pg", "127.0.0.1:0"], args].concat());
    let priced = json!({"provider": "openai", "model": "gpt-5.1"});
    server.post_event(&event_with("priced", "lab", 1000, priced));
    server.post_event(&event("plain", "lab", 10));
    server.post_event(&event("other", "lab", 10));
    wait_until_eq("rows", &3, || server.sql("select id from usage").len());
    server
}

/// Where it serves PostgreSQL's protocol.
fn port(server: &Server) -> String {
    let addresses: serde_json::Value =
        serde_json::from_slice(&std::fs::read(server.data.join("server.json")).unwrap()).unwrap();
    addresses["pg"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
}

/// A command whose user is not asked for anything.
fn psql_command(server: &Server, more: &str) -> Command {
    let mut command = Command::new("psql");
    let target = format!("host=127.0.0.1 port={} user=me dbname=outlay {more}", port(server));
    command.args(["-X", "-w", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", &target]);
    command.env("PGPASSWORD", &server.key).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// What psql prints of a command.
#[track_caller]
fn psql(server: &Server, arguments: &[&str]) -> String {
    let output =
        psql_command(server, "").args(arguments).output().expect("psql runs; Debian's package is `postgresql-client`");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert!(!said.contains("ERROR") && !said.contains("WARNING"), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn passes(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim_end().ends_with("ok"), "{command:?}:\n{said}");
}

#[track_caller]
fn python_passes(server: &Server, script: &str) {
    let mut command = Command::new(python());
    command.arg(repository(script)).args(["127.0.0.1", &port(server), &server.key]);
    passes(command);
}

#[test]
fn psql_lists_the_views_describes_them_and_queries_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir.path().join("data"), &[]);
    for list in ["\\d", "\\dv"] {
        let views = psql(&server, &["-c", list]);
        for view in ["usage", "balances", "decisions", "alerts", "budgets", "prices", "audit", "rejected"] {
            assert!(views.contains(&format!("| {view} ")), "{list}: {views}");
        }
    }
    let usage = psql(&server, &["-c", "\\d usage"]);
    for column in
        ["time", "timestamp with time zone", "not null", "numeric(38,12)", "total_tokens", "bigint", "boolean"]
    {
        assert!(usage.contains(column), "{column}: {usage}");
    }
    assert!(psql(&server, &["-c", "\\l"]).contains("outlay"));
    assert!(psql(&server, &["-c", "\\dn"]).contains("public"));
    assert!(psql(&server, &["-c", "\\du"]).contains("admin"));
    for nothing in ["\\di", "\\dt", "\\ds", "\\df", "\\dx", "\\dT", "\\d+ prices", "\\d audit"] {
        psql(&server, &["-c", nothing]);
    }
    let query =
        "select id, cost, \"user\" is null from usage where namespace = 'lab' order by total_tokens desc, id limit 2";
    assert_eq!(psql(&server, &["-At", "-c", query]), "priced|0.001250000000|t\nother||t\n");
    // The names of our columns that are words of SQL need no quotes where they can only be columns.
    assert_eq!(psql(&server, &["-At", "-c", "select count(usage.user), max(usage.offset) >= 0 from usage"]), "0|t\n");
    // Columns without a name have PostgreSQL's.
    let unnamed = psql(&server, &["-A", "-c", "select count(*), 1, sum(total_tokens)::bigint, 2 from usage"]);
    assert!(unnamed.starts_with("count|?column?|sum|?column?\n3|1|1020|2\n"), "{unnamed}");
    // Several statements, a transaction, settings; and the text form of values.
    let script = "begin; set local statement_timeout = 0; select 1.50, true, null, '2026-01-02'::date, array['a b', null]; commit; show server_version";
    assert_eq!(psql(&server, &["-At", "-q", "-c", script]), "1.50|t||2026-01-02|{\"a b\",NULL}\n16.0\n");
}

#[test]
fn psycopg_reads_exact_values_binds_parameters_and_sees_postgresqls_errors() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir.path().join("data"), &[]);
    python_passes(&server, "tests/postgres/session.py");
}

#[test]
fn sqlalchemy_reflects_the_views_and_charts_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir.path().join("data"), &[]);
    python_passes(&server, "tests/postgres/reflect.py");
}

#[test]
fn jdbc_finds_the_views_prepares_statements_and_takes_rows_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir.path().join("data"), &[]);
    let jar = Command::new(repository("scripts/pgjdbc.sh")).arg("install").stderr(Stdio::inherit()).output().unwrap();
    assert!(jar.status.success(), "scripts/pgjdbc.sh install failed");
    let mut command = Command::new("java");
    command.arg("-cp").arg(String::from_utf8(jar.stdout).unwrap().trim());
    command.arg(repository("tests/postgres/Jdbc.java")).args(["127.0.0.1", &port(&server), &server.key]);
    passes(command);
}

/// As the data source of Grafana 12 sends them: its editor's lists, and a panel's query with its macros written out.
#[test]
fn what_grafanas_data_source_sends_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir.path().join("data"), &[]);
    let ask = |query: &str| psql(&server, &["-At", "-c", query]);
    assert_eq!(ask("SELECT current_setting('server_version_num')::int/100 as version"), "1600\n");
    assert_eq!(ask("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"), "");
    let schemas = "SELECT schema_name AS \"name\" FROM information_schema.schemata WHERE schema_name NOT IN ('information_schema', 'pg_catalog', \
                   'pg_toast') ORDER BY schema_name";
    assert_eq!(ask(schemas), "public\n");
    let path = "quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END \
                FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1), \
                array_upper(string_to_array(current_setting('search_path'),','),1)) as i, \
                string_to_array(current_setting('search_path'),',') s)";
    let tables = format!(
        "SELECT CASE WHEN {path} THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\" \
         FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') \
         ORDER BY CASE WHEN {path} THEN 0 ELSE 1 END, 1"
    );
    assert!(ask(&tables).lines().any(|line| line == "usage"), "{}", ask(&tables));
    let of_schema = "SELECT quote_ident(table_name) AS \"table\" FROM information_schema.tables WHERE quote_ident(table_schema) = 'public' ORDER BY 1";
    assert!(ask(of_schema).lines().any(|line| line == "usage"));
    let columns = format!(
        "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns WHERE \
         CASE WHEN array_length(parse_ident('usage'),1) = 2 THEN quote_ident(table_schema) = (parse_ident('usage'))[1] \
         AND quote_ident(table_name) = (parse_ident('usage'))[2] ELSE quote_ident(table_name) = 'usage' AND {path} END"
    );
    let columns = ask(&columns);
    for column in ["time|timestamp with time zone", "total_tokens|bigint", "cost|numeric", "\"user\"|text"] {
        assert!(columns.lines().any(|line| line == column), "{column}: {columns}");
    }
    // $__timeGroupAlias(time, 5m), $__timeFilter(time), $__unixEpochFilter, and a variable's values.
    let panel = "SELECT floor(extract(epoch from time)/300)*300 AS \"time\", namespace AS metric, sum(total_tokens) AS tokens \
                 FROM usage WHERE time BETWEEN now() - interval '6 hours' AND '2100-01-01T00:00:00Z' AND namespace IN ('lab','other') \
                 GROUP BY 1, namespace ORDER BY 1";
    let rows = ask(panel);
    let tokens: i64 = rows.lines().map(|line| line.rsplit('|').next().unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!(tokens, 1020, "{rows}");
    let epoch = "SELECT count(*) FROM usage WHERE extract(epoch from time) >= 1700000000 AND extract(epoch from time) <= 4102444800";
    assert_eq!(ask(epoch), "3\n");
}

#[test]
fn a_session_that_leaves_ends_its_query_and_tls_guards_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let script = "import sys, datetime, ipaddress\nfrom cryptography import x509\nfrom cryptography.hazmat.primitives import hashes, serialization\n\
                  from cryptography.hazmat.primitives.asymmetric import ec\nkey = ec.generate_private_key(ec.SECP256R1())\n\
                  name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'localhost')])\nnow = datetime.datetime.now(datetime.timezone.utc)\n\
                  day = datetime.timedelta(days=1)\n\
                  cert = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)\
                  .not_valid_before(now - day).not_valid_after(now + day)\
                  .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address('127.0.0.1'))]), False)\
                  .add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())\n\
                  open(sys.argv[1], 'wb').write(cert.public_bytes(serialization.Encoding.PEM))\n\
                  open(sys.argv[2], 'wb').write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))\n\
                  print('ok')";
    let mut command = Command::new(python());
    command.args(["-c", script]).args([&cert, &key]);
    passes(command);
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let args = ["--pg-tls-cert", cert, "--pg-tls-key", key, "--sql-timeout-s", "3600"];
    let server = start(&dir.path().join("data"), &args);
    // By TLS, with the certificate checked; and a key that is wrong is refused by either way.
    let over_tls = format!("sslmode=verify-full sslrootcert={cert}");
    let output = psql_command(&server, &over_tls).args(["-At", "-c", "select count(*) from usage"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n", "{}", String::from_utf8_lossy(&output.stderr));
    for mode in ["sslmode=require", "sslmode=disable"] {
        let output =
            psql_command(&server, mode).env("PGPASSWORD", "another-key").args(["-c", "select 1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("password authentication failed"), "{mode}: {said}");
    }
    // psql is killed while its query computes: the child has nobody left to compute for.
    let children = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        tasks
            .flat_map(|task| of(task.unwrap()).split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    wait_until_eq("one child that waits", &1, || children().len());
    let idle = children();
    let endless =
        "select count(*) from generate_series(1, 2000000) a, generate_series(1, 2000000) b where a.value + b.value = 3";
    let mut running = psql_command(&server, &over_tls)
        .args(["-c", endless])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until_eq("the query's child and the next one", &2, || children().len());
    running.kill().unwrap();
    running.wait().unwrap();
    wait_for("the end of the query's child", || (!Path::new(&format!("/proc/{}", idle[0])).exists()).then_some(()));
    // A session that waits does not hold up the end of the server, and is told.
    let mut waiting = psql_command(&server, &over_tls);
    waiting.arg("-At").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waiting = waiting.spawn().unwrap();
    let mut input = waiting.stdin.take().unwrap();
    writeln!(input, "select 'here';").unwrap();
    let mut line = String::new();
    BufReader::new(waiting.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    assert!(server.stop().success());
    let _broken = writeln!(input, "select 'still here';");
    drop(input);
    let said = String::from_utf8(waiting.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("the server stops") || said.contains("connection to server was lost"), "{said}");
}
