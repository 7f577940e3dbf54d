//! Both versions against the specification: which columns there are, their types, what may be null when, and which texts are allowed.
//!
//! The tables are written by hand from the column definitions of the tags `v1.0` and `v1.2` of
//! <https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec> (`specification/columns`, section "Content constraints").
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use focus_report::{Bill, DataType, Entry, Line, Settings, Usage, Value, Version, columns};
use num_bigint::BigInt;
use support::{at, book, event, negated, usage_of, usage_with_cost};
use usage_types::{Dimension, DimensionSet, Tokens};

/// Column, feature level (M mandatory, C conditional, R recommended), type, whether it allows nulls, and the versions that have it.
const SPECIFICATION: &str = "
AvailabilityZone                   R text    null 1.0 1.2
BilledCost                         M decimal -    1.0 1.2
BillingAccountId                   M text    -    1.0 1.2
BillingAccountName                 M text    null 1.0 1.2
BillingAccountType                 C text    -    1.2
BillingCurrency                    M text    -    1.0 1.2
BillingPeriodEnd                   M time    -    1.0 1.2
BillingPeriodStart                 M time    -    1.0 1.2
CapacityReservationId              C text    null 1.2
CapacityReservationStatus          C text    null 1.2
ChargeCategory                     M text    -    1.0 1.2
ChargeClass                        M text    null 1.0 1.2
ChargeDescription                  M text    null 1.0 1.2
ChargeFrequency                    R text    -    1.0 1.2
ChargePeriodEnd                    M time    -    1.0 1.2
ChargePeriodStart                  M time    -    1.0 1.2
CommitmentDiscountCategory         C text    null 1.0 1.2
CommitmentDiscountId               C text    null 1.0 1.2
CommitmentDiscountName             C text    null 1.0 1.2
CommitmentDiscountQuantity         C decimal null 1.2
CommitmentDiscountStatus           C text    null 1.0 1.2
CommitmentDiscountType             C text    null 1.0 1.2
CommitmentDiscountUnit             C text    null 1.2
ConsumedQuantity                   C decimal null 1.0 1.2
ConsumedUnit                       C text    null 1.0 1.2
ContractedCost                     M decimal -    1.0 1.2
ContractedUnitPrice                C decimal null 1.0 1.2
EffectiveCost                      M decimal -    1.0 1.2
InvoiceId                          R text    null 1.2
InvoiceIssuerName                  M text    -    1.0 1.2
ListCost                           M decimal -    1.0 1.2
ListUnitPrice                      C decimal null 1.0 1.2
PricingCategory                    C text    null 1.0 1.2
PricingCurrency                    C text    null 1.2
PricingCurrencyContractedUnitPrice C decimal null 1.2
PricingCurrencyEffectiveCost       C decimal null 1.2
PricingCurrencyListUnitPrice       C decimal null 1.2
PricingQuantity                    M decimal null 1.0 1.2
PricingUnit                        M text    null 1.0 1.2
ProviderName                       M text    -    1.0 1.2
PublisherName                      M text    -    1.0 1.2
RegionId                           C text    null 1.0 1.2
RegionName                         C text    null 1.0 1.2
ResourceId                         C text    null 1.0 1.2
ResourceName                       C text    null 1.0 1.2
ResourceType                       C text    null 1.0 1.2
ServiceCategory                    M text    -    1.0 1.2
ServiceName                        M text    -    1.0 1.2
ServiceSubcategory                 R text    -    1.2
SkuId                              C text    null 1.0 1.2
SkuMeter                           C text    null 1.2
SkuPriceDetails                    C json    null 1.2
SkuPriceId                         C text    null 1.0 1.2
SubAccountId                       C text    null 1.0 1.2
SubAccountName                     C text    null 1.0 1.2
SubAccountType                     C text    null 1.2
Tags                               C json    null 1.0 1.2
";

/// The texts that are allowed where they are given; of the service categories and subcategories, the ones for this.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("ChargeCategory", &["Usage", "Purchase", "Tax", "Credit", "Adjustment"]),
    ("ChargeClass", &["Correction"]),
    ("ChargeFrequency", &["One-Time", "Recurring", "Usage-Based"]),
    ("PricingCategory", &["Standard", "Dynamic", "Committed", "Other"]),
    ("ServiceCategory", &["AI and Machine Learning"]),
    ("ServiceSubcategory", &["Generative AI"]),
];

/// Never null where the charge is usage and no correction of a closed period (`Purchase` does not occur).
const OF_USAGE: [&str; 9] = [
    "ConsumedQuantity",
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "SkuId",
    "SkuPriceId",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyListUnitPrice",
];

/// The first is null exactly where the second is.
const TOGETHER: [(&str, &str); 5] = [
    ("ConsumedUnit", "ConsumedQuantity"),
    ("PricingUnit", "PricingQuantity"),
    ("SubAccountName", "SubAccountId"),
    ("SkuMeter", "SkuId"),
    ("SkuPriceDetails", "SkuPriceId"),
];

/// A unit price, and the cost that it makes with the quantity.
const PRODUCTS: [(&str, &str); 2] = [("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")];

type Cells = BTreeMap<&'static str, Value>;

/// Usage of every kind: priced by the book at each of its terms, with costs of its senders, taken back, adjusted, of closed periods.
fn usages() -> Vec<Usage> {
    let (book, noon) = (book(), at("2026-11-20T13:00:00Z"));
    let all = Tokens { input: 900, cache_read: 300, output: 80, ..Tokens::default() };
    let mut of_team = event("fees", noon, Tokens { cache_read: 0, ..all });
    of_team.dimensions.set(Dimension::Namespace, Some("support".into()));
    of_team.dimensions.set(Dimension::Team, Some("night".into()));
    of_team.dimensions.set(Dimension::Repository, Some("acme/\"runtime\"".into()));
    (of_team.tool_calls, of_team.compute) = (3, usage_types::ComputeNs(1));
    let long = event("long", noon, Tokens { input: 2500, ..all });
    let written = Tokens { cache_write_5m: 5, cache_write_1h: 6, reasoning: 7, ..all };
    let priced = [event("long", noon, all), long, event("changes", noon, written), of_team];
    let mut usages: Vec<Usage> = priced.into_iter().map(|event| usage_of(&book, event)).collect();
    let mut nameless = event("x", noon, Tokens::default());
    nameless.dimensions = support::dimensions(&[(Dimension::Namespace, "research")]);
    let mut nothing = nameless.clone();
    nothing.requests = 0;
    usages.push(usage_with_cost(event("long", noon, all), "0.02"));
    // In a currency that the book does not have for it.
    usages.push(Usage { currency: "JPY".parse().unwrap(), ..usage_with_cost(event("long", noon, all), "3") });
    usages.push(usage_with_cost(event("home-made", noon, all), "0.000000000007"));
    usages.extend([nameless, nothing].map(|event| usage_with_cost(event, "5")));
    let adjusted = usages.iter().map(|usage| Usage { entry: Entry::Adjustment("reprice-x".into()), ..negated(usage) });
    let adjusted: Vec<Usage> = adjusted.collect();
    usages.extend(adjusted);
    let corrected = usages.iter().map(|usage| Usage { is_correction: true, ..negated(usage) });
    let corrected: Vec<Usage> = corrected.collect();
    usages.extend(corrected);
    usages
}

fn rows(version: Version) -> Vec<Cells> {
    let (book, usages) = (book(), usages());
    let tags = DimensionSet::of(&[Dimension::Team, Dimension::Repository]);
    let settings = Settings { billing_account: "acme".into(), tags };
    let mut rows = Vec::new();
    for usage in &usages {
        let bill = Bill::of(&book, usage).unwrap();
        for charge in &bill.charges {
            let line = Line { settings: &settings, bill: &bill, charge };
            rows.push(columns(version).map(|column| (column.id, column.value(&line))).collect());
        }
    }
    rows
}

/// The rows of the table for a version: column, level, type, whether it allows nulls.
fn specified(version: Version) -> Vec<(&'static str, &'static str, &'static str, bool)> {
    let lines = SPECIFICATION.lines().filter(|line| !line.is_empty());
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_version = words.filter(|words| words[4..].contains(&version.name()));
    of_version.map(|words| (words[0], words[1], words[2], words[3] == "null")).collect()
}

fn is_null(cells: &Cells, column: &str) -> bool {
    cells[column] == Value::Null
}

fn text<'a>(cells: &'a Cells, column: &str) -> Option<&'a str> {
    match &cells[column] {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn decimal(cells: &Cells, column: &str) -> Option<i128> {
    match cells[column] {
        Value::Decimal(value) => Some(value),
        _ => None,
    }
}

#[test]
fn every_column_of_the_version_is_there_with_its_type_and_custom_ones_come_after() {
    for version in Version::ALL {
        let specified = specified(version);
        assert_eq!(specified.len(), if version == Version::V1_0 { 43 } else { 57 });
        let written: Vec<_> = columns(version).collect();
        for ((id, _, data_type, allows_null), column) in specified.iter().zip(&written) {
            assert_eq!(column.id, *id, "in the order of the alphabet");
            let is_typed = match *data_type {
                "decimal" => matches!(column.data_type, DataType::Decimal(_)),
                "time" => column.data_type == DataType::Time,
                _ => column.data_type == DataType::Text,
            };
            assert!(is_typed, "{id}: {:?} is no {data_type}", column.data_type);
            assert!(*allows_null || !column.is_nullable, "{id} may not be null in {version}");
        }
        let custom: Vec<&str> = written[specified.len()..].iter().map(|column| column.id).collect();
        let (ours, draft) = custom.split_at(4);
        assert_eq!(ours, ["x_CostOrigin", "x_Meter", "x_Model", "x_PriceBasis"]);
        let names = ["ChargeType", "InvoiceIssuer", "Provider", "Publisher", "ResourceID"];
        assert_eq!(draft, if version == Version::V1_0 { &names[..] } else { &[] });
    }
}

#[test]
fn cells_are_of_their_columns_type_and_null_only_where_they_may_be() {
    for version in Version::ALL {
        for cells in rows(version) {
            for column in columns(version) {
                let fits = match (&cells[column.id], column.data_type) {
                    (Value::Null, _) => column.is_nullable,
                    (Value::Text(text), DataType::Text) => !text.trim().is_empty(),
                    (Value::Decimal(value), DataType::Decimal(_)) => value.unsigned_abs() < 10_u128.pow(38),
                    (Value::Time(_), DataType::Time) => true,
                    _ => false,
                };
                assert!(fits, "{}: {:?} in {cells:?}", column.id, cells[column.id]);
            }
        }
    }
}

#[test]
fn texts_are_of_those_that_are_allowed() {
    for version in Version::ALL {
        for cells in rows(version) {
            for (column, allowed) in ALLOWED.into_iter().filter(|(column, _)| cells.contains_key(column)) {
                if let Some(text) = text(&cells, column) {
                    assert!(allowed.contains(&text), "{column}: {text}");
                }
            }
            let currency = text(&cells, "BillingCurrency").unwrap();
            assert!(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()), "{currency}");
        }
    }
}

#[test]
fn usage_has_prices_and_quantities_and_what_is_no_usage_has_none() {
    for version in Version::ALL {
        let (mut usages, mut others, mut corrections) = (0, 0, 0);
        for cells in rows(version) {
            let is_usage = text(&cells, "ChargeCategory") == Some("Usage");
            let is_correction = !is_null(&cells, "ChargeClass");
            (usages, others, corrections) =
                (usages + u32::from(is_usage), others + u32::from(!is_usage), corrections + u32::from(is_correction));
            for column in OF_USAGE.into_iter().filter(|column| is_usage && !is_correction && cells.contains_key(column))
            {
                assert!(!is_null(&cells, column), "{column} in {cells:?}");
            }
            assert_eq!(text(&cells, "ChargeFrequency") == Some("Usage-Based"), is_usage);
            if !is_usage {
                assert!(is_null(&cells, "ConsumedQuantity"), "{cells:?}");
                assert_eq!(cells["EffectiveCost"], cells["BilledCost"]);
            }
            for (one, other) in TOGETHER.into_iter().filter(|(one, _)| cells.contains_key(one)) {
                assert_eq!(is_null(&cells, one), is_null(&cells, other), "{one} and {other} in {cells:?}");
            }
        }
        assert!(usages > 20 && others > 5 && corrections > 10, "{usages} {others} {corrections}");
    }
}

#[test]
fn a_unit_price_is_not_negative_and_times_the_quantity_it_is_the_cost() {
    for version in Version::ALL {
        for cells in rows(version) {
            for (price, cost) in PRODUCTS {
                let Some(price) = decimal(&cells, price) else {
                    assert_eq!(cells[cost], cells["BilledCost"], "without a price a cost is what was billed");
                    continue;
                };
                assert!(price >= 0);
                let quantity = decimal(&cells, "PricingQuantity").unwrap();
                // 18 and 12 digits make 30; the cost has 12, half of its last one away from zero.
                let product = BigInt::from(price) * quantity;
                let off: BigInt = product - BigInt::from(decimal(&cells, cost).unwrap()) * BigInt::from(10).pow(18);
                assert!(off.magnitude() * 2_u8 <= *BigInt::from(10).pow(18).magnitude(), "{cost} in {cells:?}");
            }
        }
    }
}

#[test]
fn a_sku_price_belongs_to_one_sku_and_has_one_description_of_its_terms() {
    let mut known: BTreeMap<String, (String, String)> = BTreeMap::new();
    for cells in rows(Version::V1_2) {
        let Some(id) = text(&cells, "SkuPriceId") else { continue };
        let details = text(&cells, "SkuPriceDetails").unwrap();
        let terms = (text(&cells, "SkuId").unwrap().to_owned(), details.to_owned());
        assert!(id.starts_with(&format!("{}/", terms.0)), "{id}");
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(details).unwrap();
        assert!(object.iter().all(|(key, value)| key.starts_with("x_") && value.is_string()), "{details}");
        let first = known.entry(id.to_owned()).or_insert_with(|| terms.clone());
        assert_eq!(*first, terms, "{id}");
    }
    let ids: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    for id in ["openai/long/input/standard/above-2000", "anthropic/changes/cache_write_1h/standard", "request/standard"]
    {
        assert!(ids.contains(id), "{id} in {ids:?}");
    }
}

#[test]
fn periods_are_half_open_and_a_day_lies_in_its_month() {
    for cells in rows(Version::V1_2) {
        let time = |column: &str| match cells[column] {
            Value::Time(time) => time,
            _ => panic!("{column} is no time"),
        };
        assert!(time("BillingPeriodStart") <= time("ChargePeriodStart"));
        assert!(time("ChargePeriodStart") < time("ChargePeriodEnd"));
        assert!(time("ChargePeriodEnd") <= time("BillingPeriodEnd"));
    }
}

#[test]
fn tags_are_the_grouped_dimensions_that_have_no_column_of_their_own() {
    let tagged: BTreeSet<String> =
        rows(Version::V1_2).iter().filter_map(|cells| text(cells, "Tags").map(str::to_owned)).collect();
    assert_eq!(tagged.into_iter().collect::<Vec<_>>(), [r#"{"repository":"acme/\"runtime\"","team":"night"}"#]);
}
