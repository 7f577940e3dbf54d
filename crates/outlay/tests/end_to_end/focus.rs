//! The report `focus` through the real binary: the public validator takes it, and other readers add it up to the chargeback's total.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::Utc;
use serde_json::{Value, json};

use crate::common::events::{event, event_with, month};
use crate::common::server::run;
use crate::common::{Server, pico, python, repository, wait_until_eq};

/// With a fee and a discount that leaves parts of a pico-dollar to round: one token of input is 12,500 pico-dollars, for `lab` 4,166.625.
const PRICES: &str = r#"
currency: USD
source: https://example.com/prices
as_of: 2026-11-01
prices:
  - model: tiny-1
    provider: acme
    per_million: { input: "0.0125", cache_read: "0.00125", output: "0.1" }
    per_request: "0.000001"
    tiers:
      - { above_input_tokens: 1000, multiply: "2" }
    service_tiers:
      batch: { multiply: "0.5" }
adjustments:
  - { match: { namespace: lab }, multiply: "0.33333" }
"#;

/// A month that is over, whenever this runs.
const CLOSED: &str = "2026-03";

/// A row by the names of its columns.
type Row = BTreeMap<String, Value>;

fn start(dir: &Path) -> Server {
    let prices = dir.join("prices.yaml");
    std::fs::write(&prices, PRICES).unwrap();
    Server::start(&dir.join("data"), &["--prices", prices.to_str().unwrap()])
}

fn usage(id: &str, namespace: &str, input: u64, more: Value) -> Value {
    let mut event = event_with(id, namespace, input, json!({"source": "gw", "team": "web", "repository": "acme/shop"}));
    let members = event.as_object_mut().unwrap();
    members.extend(json!({"provider": "acme", "model": "tiny-1"}).as_object().unwrap().clone());
    members.extend(more.as_object().unwrap().clone());
    event
}

fn closed(mut event: Value) -> Value {
    event["time"] = format!("{CLOSED}-31T23:59:59.5Z").into();
    event
}

/// Usage of now of each kind, and usage of a closed month with everything that restates it; how many rows the lake then has.
fn send(server: &Server) -> usize {
    let events = [
        usage("short", "shop", 900, json!({"tokens": {"input": 900, "cache_read": 100, "output": 80}})),
        usage("long", "shop", 1001, json!({"user": "u-1"})),
        usage("batch", "shop", 7, json!({"service_tier": "batch"})),
        usage("odd", "lab", 1, json!({"tokens": {"input": 1, "cache_read": 1, "output": 1}, "team": "a \"b\", c"})),
        usage("odd too", "lab", 3, json!({})),
        usage(
            "own cost",
            "shop",
            5,
            json!({"model": "home-made", "cost": {"amount": "0.000000000007", "currency": "USD"}}),
        ),
        usage("fee", "shop", 0, json!({"tokens": {}, "model": "image", "cost": {"amount": "0.04", "currency": "EUR"}})),
        event("no price", "shop", 11),
        closed(usage("past", "shop", 100, json!({"backfill": true}))),
        closed(usage("wrong", "shop", 50, json!({"backfill": true}))),
        closed(json!({"id": "contract", "source": "gw", "namespace": "shop", "adjusts": "contract-7",
            "cost": {"amount": "-0.000000000003", "currency": "USD"}})),
    ];
    events.iter().for_each(|event| server.post_event(event));
    let rows = || server.sql("select id from usage").len();
    wait_until_eq("rows", &events.len(), rows);
    server.post_event(&usage("right", "shop", 51, json!({"corrects": "wrong"})));
    // A reversal and an amendment.
    wait_until_eq("rows after the correction", &(events.len() + 2), rows);
    events.len() + 2
}

fn report(server: &Server, period: &str, version: &str, format: &str) -> Vec<u8> {
    let path = format!("/v1/reports/focus?period={period}&version={version}&format={format}&billing_account=Acme");
    server.get(&path).expect(200).body
}

fn rows(server: &Server, period: &str) -> Vec<Row> {
    serde_json::from_slice(&report(server, period, "1.2", "json")).unwrap()
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} in {row:?}"))
}

/// Costs by namespace and currency, in pico-units.
type Costs = BTreeMap<(String, String), i128>;

fn billed(rows: &[Row]) -> Costs {
    let mut costs = Costs::new();
    for row in rows {
        let key = (text(row, "SubAccountId").to_owned(), text(row, "BillingCurrency").to_owned());
        *costs.entry(key).or_default() += pico(text(row, "BilledCost"));
    }
    costs
}

fn charged_back(server: &Server, period: &str) -> Costs {
    let path = format!("/v1/reports/chargeback?period={period}&group_by=namespace&format=json");
    let rows: Vec<Row> = serde_json::from_slice(&server.get(&path).expect(200).body).unwrap();
    let priced = rows.iter().filter(|row| !row["cost"].is_null());
    priced.map(|row| ((text(row, "namespace").into(), text(row, "currency").into()), pico(text(row, "cost")))).collect()
}

/// What the public validator says of a file. Its environment is one of its own: it needs versions that other tests do not have.
fn validated(file: &Path) -> String {
    let bin = repository(".venv-focus/bin");
    let help =
        "in the repository run:\n  python3 -m venv .venv-focus && .venv-focus/bin/pip install -r tests/focus.txt";
    assert!(bin.join("focus-validator").exists(), "{} has no focus-validator; {help}", bin.display());
    let find = "import focus_validator, pathlib; print(pathlib.Path(focus_validator.__file__).parent.parent)";
    let found = Command::new(bin.join("python")).args(["-c", find]).output().unwrap();
    let packages = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    // It looks for its list of currencies beneath the working directory.
    let mut validator = Command::new(bin.join("focus-validator"));
    validator.current_dir(packages).args(["--validate-version", "1.0", "--data-file"]).arg(file);
    let output = validator.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_validator_takes_version_1_0_and_charges_add_up_to_the_chargeback_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    send(&server);
    let now = month(Utc::now());
    for period in [now.as_str(), CLOSED] {
        let rows = rows(&server, period);
        assert_eq!(billed(&rows), charged_back(&server, period), "{period}");
        let csv = dir.path().join(format!("{period}.csv"));
        std::fs::write(&csv, report(&server, period, "1.0", "csv")).unwrap();
        assert!(validated(&csv).contains("Validation succeeded."), "{}", validated(&csv));
        let parquet = dir.path().join(format!("{period}.parquet"));
        std::fs::write(&parquet, report(&server, period, "1.2", "parquet")).unwrap();
        read_by_duckdb(&csv, &parquet, &billed(&rows));
    }
    // It would say so if something were missing.
    let broken = dir.path().join("broken.csv");
    let whole = std::fs::read_to_string(dir.path().join(format!("{now}.csv"))).unwrap();
    std::fs::write(&broken, whole.replace("AI and Machine Learning", "Thinking")).unwrap();
    assert!(validated(&broken).contains("ServiceCategory_Enum failed"), "{}", validated(&broken));
    the_command_gives_the_same_file(&server, &now, &whole);
}

/// DuckDB reads both files with exact decimals and finds the same sums.
fn read_by_duckdb(csv: &Path, parquet: &Path, expected: &Costs) {
    let script = "
import duckdb, json, sys
csv, parquet = sys.argv[1:]
sums = 'select SubAccountId, BillingCurrency, sum(BilledCost)::varchar, sum(EffectiveCost)::varchar from %s group by 1, 2'
exact = {name: 'DECIMAL(38,12)' for name in ('BilledCost', 'EffectiveCost')}
of_csv = duckdb.sql(sums % f\"read_csv('{csv}', types={exact})\").fetchall()
of_parquet = duckdb.sql(sums % f\"'{parquet}'\").fetchall()
types = dict(duckdb.sql(f\"select column_name, column_type from (describe select * from '{parquet}')\").fetchall())
print(json.dumps([of_csv, of_parquet, types]))
";
    let output = Command::new(python()).args(["-c", script]).args([csv, parquet]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [csv, parquet, types]: [Value; 3] = serde_json::from_slice(&output.stdout).unwrap();
    for rows in [csv, parquet] {
        let sums: Vec<[String; 4]> = serde_json::from_value(rows).unwrap();
        let billed: Costs = sums.iter().map(|row| ((row[0].clone(), row[1].clone()), pico(&row[2]))).collect();
        let effective: Costs = sums.iter().map(|row| ((row[0].clone(), row[1].clone()), pico(&row[3]))).collect();
        assert_eq!((&billed, &effective), (expected, expected));
    }
    for (column, data_type) in [
        ("BilledCost", "DECIMAL(38,12)"),
        ("ListUnitPrice", "DECIMAL(38,18)"),
        ("ConsumedQuantity", "DECIMAL(38,9)"),
        ("ChargePeriodStart", "TIMESTAMP WITH TIME ZONE"),
        ("CommitmentDiscountId", "VARCHAR"),
    ] {
        assert_eq!(types[column], data_type, "{column}");
    }
}

fn the_command_gives_the_same_file(server: &Server, period: &str, expected: &str) {
    let asked = ["--period", period, "--version", "1.0", "--billing-account", "Acme", "--format", "csv"];
    let output = run("report", &[&["focus", "--url", &server.url, "--key", &server.key], &asked[..]].concat());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning: 1 events of the period with 11 tokens have no price"), "{said}");
}

/// The rows of a namespace and a model, by what they are for.
fn by_meter<'a>(rows: &'a [Row], namespace: &str, model: &str) -> BTreeMap<&'a str, &'a Row> {
    let of = rows.iter().filter(|row| text(row, "SubAccountId") == namespace && row["x_Model"] == model);
    of.map(|row| (text(row, "SkuPriceId"), row)).collect()
}

#[test]
fn a_charge_says_whose_it_is_what_it_is_for_and_at_which_price() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    send(&server);
    let rows = rows(&server, &month(Utc::now()));
    let shop = by_meter(&rows, "shop", "tiny-1");
    let ids: Vec<&str> = shop.keys().copied().collect();
    let expected = [
        "acme/tiny-1/cache_read/standard",
        "acme/tiny-1/input/batch",
        "acme/tiny-1/input/standard",
        "acme/tiny-1/input/standard/above-1000",
        "acme/tiny-1/output/standard",
        "acme/tiny-1/request/batch",
        "acme/tiny-1/request/standard",
        "acme/tiny-1/request/standard/above-1000",
    ];
    assert_eq!(ids, expected);
    let input = shop["acme/tiny-1/input/standard"];
    for (column, expected) in [
        ("BilledCost", "0.00001125"),
        ("ListCost", "0.00001125"),
        ("ListUnitPrice", "0.0125"),
        ("ConsumedQuantity", "900"),
        ("ConsumedUnit", "Tokens"),
        ("PricingQuantity", "0.0009"),
        ("PricingUnit", "1000000 Tokens"),
        ("BillingAccountName", "Acme"),
        ("SubAccountName", "shop"),
        ("ProviderName", "acme"),
        ("SkuMeter", "Input Tokens"),
        ("ChargeCategory", "Usage"),
        ("Tags", r#"{"repository":"acme/shop","team":"web"}"#),
    ] {
        assert_eq!(text(input, column), expected, "{column}");
    }
    assert!(input["ChargeClass"].is_null() && input["RegionId"].is_null());
    assert_eq!(text(shop["acme/tiny-1/input/standard/above-1000"], "ListUnitPrice"), "0.025");

    // A third of the list price, nearly.
    let lab = by_meter(&rows, "lab", "tiny-1");
    assert_eq!(text(lab["acme/tiny-1/input/standard"], "ContractedUnitPrice"), "0.004166625");
    assert_eq!(text(lab["acme/tiny-1/input/standard"], "ListUnitPrice"), "0.0125");
    // A cost that the sender gave: no price of the book, but what a million of its tokens would have cost.
    let own = &by_meter(&rows, "shop", "home-made")["acme/home-made/input/standard"];
    assert_eq!((text(own, "x_PriceBasis"), text(own, "PricingCategory")), ("average", "Other"));
    assert_eq!((text(own, "BilledCost"), text(own, "ContractedUnitPrice")), ("0.000000000007", "0.0000014"));
    let fee = &by_meter(&rows, "shop", "image")["acme/image/request/standard"];
    assert_eq!(
        (text(fee, "BillingCurrency"), text(fee, "PricingUnit"), text(fee, "BilledCost")),
        ("EUR", "Requests", "0.04")
    );
    assert!(rows.iter().all(|row| row["ConsumedQuantity"] != "11"), "what has no price is no charge");
}

#[test]
fn what_restates_a_closed_month_is_a_correction_and_a_change_of_cost_an_adjustment() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    send(&server);
    let rows = rows(&server, CLOSED);
    assert!(rows.iter().all(|row| text(row, "ChargeClass") == "Correction"), "{rows:?}");
    assert!(rows.iter().all(|row| text(row, "BillingPeriodStart") == "2026-03-01T00:00:00Z"));
    assert!(rows.iter().all(|row| text(row, "ChargePeriodEnd") == "2026-04-01T00:00:00Z"));
    let mut inputs: Vec<(&str, &str)> = rows
        .iter()
        .filter(|row| row["x_Meter"] == "input")
        .map(|row| (text(row, "ConsumedQuantity"), text(row, "BilledCost")))
        .collect();
    inputs.sort_unstable();
    // 100 + 50 backfilled with the 51 that stand for the 50, which are taken back.
    assert_eq!(inputs, [("-50", "-0.000000625"), ("201", "0.0000025125")]);
    let adjusted: Vec<&Row> = rows.iter().filter(|row| row["ChargeCategory"] == "Adjustment").collect();
    assert_eq!(adjusted.len(), 1);
    assert_eq!(
        (text(adjusted[0], "BilledCost"), text(adjusted[0], "ListCost")),
        ("-0.000000000003", "-0.000000000003")
    );
    assert_eq!(text(adjusted[0], "ChargeDescription"), "Correction: Adjustment of the cost by contract-7");
    assert!(adjusted[0]["ConsumedQuantity"].is_null() && adjusted[0]["SkuId"].is_null());
    // In a zone east of UTC it was April already.
    let april = "/v1/reports/focus?period=2026-04&zone=Asia/Tokyo&format=json";
    let east: Vec<Row> = serde_json::from_slice(&server.get(april).expect(200).body).unwrap();
    assert_eq!(east.len(), rows.len());
    assert_eq!(text(&east[0], "BillingPeriodStart"), "2026-03-31T15:00:00Z");
    assert_eq!(text(&east[0], "ChargePeriodEnd"), "2026-04-01T15:00:00Z");
}

#[test]
fn a_parameter_that_is_none_of_the_report_or_wrong_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    for (query, field, says) in [
        ("period=2026-03&version=1.3", "version", "use 1.0 or 1.2"),
        ("period=2026-03&billing_account=%20", "billing_account", "identifier"),
        ("period=2026-3-1-1", "period", "2026-11"),
        ("period=2026-03&group_by=tema", "group_by", "is no dimension"),
        ("period=2026-03&zone=Mars", "zone", "IANA"),
        ("period=2026-03&verison=1.2", "verison", "version, billing_account"),
    ] {
        let problem = server.get(&format!("/v1/reports/focus?{query}")).expect(400).json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    let problem = server.get("/v1/reports/chargeback?period=2026-03&version=1.2").expect(400).json();
    assert_eq!(problem["field"], "version", "{problem}");
    let empty = server.get("/v1/reports/focus?period=2026-03&format=csv").expect(200).text();
    assert_eq!(empty.lines().count(), 1, "a header: {empty}");
}
