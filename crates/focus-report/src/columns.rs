//! The columns of FOCUS, and what a charge has in each.
//!
//! All columns of a version are written, in alphabetical order, also those that never apply here (commitment discounts, regions, …) and
//! so are null: a loader with a fixed table takes the file. Custom columns follow, with the prefix that the specification asks for.

use std::fmt;
use std::str::FromStr;

use num_bigint::BigInt;
use usage_types::{CostOrigin, Dimension, DimensionSet, TimeUs};

use crate::FocusError;
use crate::bill::{Basis, Bill, Charge, UnitPrices, priced_quantity};
use crate::number::{CONSUMED_DIGITS, COST_DIGITS, PRICE_DIGITS, PRICED_DIGITS, fitting, ten_to};
use crate::text;
use crate::usage::Entry;

/// A version of the specification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// 1.0, with the columns besides that the public validator 1.0.0 asks for by names of the draft.
    V1_0,
    /// 1.2.
    #[default]
    V1_2,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::V1_0, Self::V1_2];

    /// As it is asked for.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_2 => "1.2",
        }
    }
}

impl FromStr for Version {
    type Err = FocusError;
    fn from_str(text: &str) -> Result<Self, FocusError> {
        let found = Self::ALL.into_iter().find(|version| version.name() == text);
        found.ok_or_else(|| FocusError::Version(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// A text; an object of key and value is one, too, as JSON.
    Text,
    /// A decimal of so many digits after the point, 38 in all.
    Decimal(u32),
    /// A point in time.
    Time,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A text.
    Text(String),
    /// An integer in the last digit of its column.
    Decimal(i128),
    /// A point in time.
    Time(TimeUs),
}

/// What holds for all charges of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The billing account: the organisation that this runs for, as identifier and name.
    pub billing_account: String,
    /// The dimensions that become tags.
    pub tags: DimensionSet,
}

/// A charge with all that its cells are made of.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// What holds for all.
    pub settings: &'a Settings,
    /// What it belongs to.
    pub bill: &'a Bill<'a>,
    /// The charge: one of the bill's.
    pub charge: &'a Charge,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The column ID of the specification, or a name of ours that begins with `x_`.
    pub id: &'static str,
    /// Its type.
    pub data_type: DataType,
    /// Whether a cell may be null.
    pub is_nullable: bool,
    /// Since which version.
    since: Since,
    cell: fn(&Line<'_>) -> Value,
}

impl Column {
    /// The cell of a charge.
    #[must_use]
    pub fn value(&self, line: &Line<'_>) -> Value {
        (self.cell)(line)
    }
}

/// The columns of a version, in the order in which they are written.
pub fn columns(version: Version) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| match column.since {
        Since::V1_0 => true,
        Since::V1_2 => version == Version::V1_2,
        Since::Draft => version == Version::V1_0,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    V1_0,
    /// 1.1 or 1.2: 1.1 is not written.
    V1_2,
    /// Names of the draft of 1.0, which the rules of the public validator 1.0.0 still have.
    Draft,
}

const TEXT: DataType = DataType::Text;
const TIME: DataType = DataType::Time;
const COST: DataType = DataType::Decimal(COST_DIGITS);
const PRICE: DataType = DataType::Decimal(PRICE_DIGITS);

const fn column(id: &'static str, data_type: DataType, cell: fn(&Line<'_>) -> Value) -> Column {
    Column { id, data_type, is_nullable: false, since: Since::V1_0, cell }
}

impl Column {
    const fn or_null(self) -> Self {
        Self { is_nullable: true, ..self }
    }

    const fn since(self, since: Since) -> Self {
        Self { since, ..self }
    }
}

/// A column that never applies here.
const fn absent(id: &'static str, data_type: DataType) -> Column {
    column(id, data_type, |_| Value::Null).or_null()
}

const COLUMNS: &[Column] = &[
    absent("AvailabilityZone", TEXT),
    column("BilledCost", COST, |line| Value::Decimal(line.charge.billed.0)),
    column("BillingAccountId", TEXT, billing_account),
    column("BillingAccountName", TEXT, billing_account).or_null(),
    column("BillingAccountType", TEXT, |_| plain("Organization")).since(Since::V1_2),
    column("BillingCurrency", TEXT, |line| plain(line.bill.usage.currency.as_str())),
    column("BillingPeriodEnd", TIME, |line| Value::Time(line.bill.usage.billing_period.1)),
    column("BillingPeriodStart", TIME, |line| Value::Time(line.bill.usage.billing_period.0)),
    absent("CapacityReservationId", TEXT).since(Since::V1_2),
    absent("CapacityReservationStatus", TEXT).since(Since::V1_2),
    column("ChargeCategory", TEXT, |line| plain(category(line))),
    column("ChargeClass", TEXT, |line| if line.bill.usage.is_correction { plain("Correction") } else { Value::Null })
        .or_null(),
    column("ChargeDescription", TEXT, |line| Value::Text(text::description(line.bill, line.charge))).or_null(),
    column("ChargeFrequency", TEXT, |line| plain(if is_metered(line) { "Usage-Based" } else { "One-Time" })),
    column("ChargePeriodEnd", TIME, |line| Value::Time(line.bill.usage.charge_period.1)),
    column("ChargePeriodStart", TIME, |line| Value::Time(line.bill.usage.charge_period.0)),
    absent("CommitmentDiscountCategory", TEXT),
    absent("CommitmentDiscountId", TEXT),
    absent("CommitmentDiscountName", TEXT),
    absent("CommitmentDiscountQuantity", DataType::Decimal(PRICED_DIGITS)).since(Since::V1_2),
    absent("CommitmentDiscountStatus", TEXT),
    absent("CommitmentDiscountType", TEXT),
    absent("CommitmentDiscountUnit", TEXT).since(Since::V1_2),
    column("ConsumedQuantity", DataType::Decimal(CONSUMED_DIGITS), consumed).or_null(),
    column("ConsumedUnit", TEXT, |line| of_class(line, |class| text::unit(class).to_owned())).or_null(),
    column("ContractedCost", COST, |line| cost(line, |prices| prices.contracted_cost)),
    column("ContractedUnitPrice", PRICE, |line| price(line, |prices| prices.contracted)).or_null(),
    column("EffectiveCost", COST, |line| Value::Decimal(line.charge.billed.0)),
    absent("InvoiceId", TEXT).since(Since::V1_2),
    column("InvoiceIssuerName", TEXT, provider),
    column("ListCost", COST, |line| cost(line, |prices| prices.list_cost)),
    column("ListUnitPrice", PRICE, |line| price(line, |prices| prices.list)).or_null(),
    column("PricingCategory", TEXT, pricing_category).or_null(),
    column("PricingCurrency", TEXT, pricing_currency).or_null().since(Since::V1_2),
    column("PricingCurrencyContractedUnitPrice", PRICE, |line| price(line, |prices| prices.pricing_contracted))
        .or_null()
        .since(Since::V1_2),
    column("PricingCurrencyEffectiveCost", COST, |line| cost(line, |prices| prices.pricing_cost))
        .or_null()
        .since(Since::V1_2),
    column("PricingCurrencyListUnitPrice", PRICE, |line| price(line, |prices| prices.pricing_list))
        .or_null()
        .since(Since::V1_2),
    column("PricingQuantity", DataType::Decimal(PRICED_DIGITS), priced).or_null(),
    column("PricingUnit", TEXT, |line| of_class(line, text::pricing_unit)).or_null(),
    column("ProviderName", TEXT, provider),
    column("PublisherName", TEXT, provider),
    absent("RegionId", TEXT),
    absent("RegionName", TEXT),
    absent("ResourceId", TEXT),
    absent("ResourceName", TEXT),
    absent("ResourceType", TEXT),
    column("ServiceCategory", TEXT, |_| plain("AI and Machine Learning")),
    column("ServiceName", TEXT, |_| plain("Model Inference")),
    column("ServiceSubcategory", TEXT, |_| plain("Generative AI")).since(Since::V1_2),
    column("SkuId", TEXT, |line| of_class(line, |class| text::sku_id(line.bill, class))).or_null(),
    column("SkuMeter", TEXT, |line| of_class(line, |class| text::sku_meter(class).to_owned()))
        .or_null()
        .since(Since::V1_2),
    column("SkuPriceDetails", TEXT, |line| of_class(line, |class| text::sku_price_details(line.bill, class)))
        .or_null()
        .since(Since::V1_2),
    column("SkuPriceId", TEXT, |line| of_class(line, |class| text::sku_price_id(line.bill, class))).or_null(),
    column("SubAccountId", TEXT, namespace).or_null(),
    column("SubAccountName", TEXT, namespace).or_null(),
    column("SubAccountType", TEXT, |line| match namespace(line) {
        Value::Null => Value::Null,
        _ => plain("Namespace"),
    })
    .or_null()
    .since(Since::V1_2),
    column("Tags", TEXT, |line| text::tags(line.bill, line.settings.tags).map_or(Value::Null, Value::Text)).or_null(),
    column("x_CostOrigin", TEXT, cost_origin),
    column("x_Meter", TEXT, |line| of_class(line, |class| class.name().to_owned())).or_null(),
    column("x_Model", TEXT, |line| dimension(line, Dimension::Model)).or_null(),
    column("x_PriceBasis", TEXT, |line| line.charge.prices.map_or(Value::Null, |prices| plain(prices.basis.name())))
        .or_null(),
    column("ChargeType", TEXT, |line| plain(category(line))).since(Since::Draft),
    column("InvoiceIssuer", TEXT, provider).since(Since::Draft),
    column("Provider", TEXT, provider).since(Since::Draft),
    column("Publisher", TEXT, provider).since(Since::Draft),
    absent("ResourceID", TEXT).since(Since::Draft),
];

fn plain(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn is_metered(line: &Line<'_>) -> bool {
    line.charge.class.is_some()
}

/// A cost that is not for usage is the one category that is left; what an adjustment changes is the cost of usage, not usage.
fn category(line: &Line<'_>) -> &'static str {
    if is_metered(line) { "Usage" } else { "Adjustment" }
}

fn of_class(line: &Line<'_>, text: impl Fn(price_book::PriceClass) -> String) -> Value {
    line.charge.class.map_or(Value::Null, |class| Value::Text(text(class)))
}

fn billing_account(line: &Line<'_>) -> Value {
    plain(&line.settings.billing_account)
}

fn dimension(line: &Line<'_>, dimension: Dimension) -> Value {
    line.bill.usage.dimensions.get(dimension).map_or(Value::Null, plain)
}

fn namespace(line: &Line<'_>) -> Value {
    dimension(line, Dimension::Namespace)
}

/// Usage that names no provider was served by the organisation itself, as far as anybody knows.
fn provider(line: &Line<'_>) -> Value {
    plain(line.bill.provider.as_deref().unwrap_or(&line.settings.billing_account))
}

fn price(line: &Line<'_>, price: fn(&UnitPrices) -> i128) -> Value {
    line.charge.prices.as_ref().map_or(Value::Null, |prices| Value::Decimal(price(prices)))
}

/// A cost that is never null: without a unit price it is what was billed.
fn cost(line: &Line<'_>, cost: fn(&UnitPrices) -> i128) -> Value {
    Value::Decimal(line.charge.prices.as_ref().map_or(line.charge.billed.0, cost))
}

fn consumed(line: &Line<'_>) -> Value {
    line.charge.class.map_or(Value::Null, |class| {
        let digits = match class {
            price_book::PriceClass::ComputeSecond => 0,
            _ => CONSUMED_DIGITS,
        };
        decimal(&(BigInt::from(line.charge.count) * ten_to(digits)))
    })
}

fn priced(line: &Line<'_>) -> Value {
    line.charge.class.map_or(Value::Null, |class| decimal(&priced_quantity(class, line.charge.count)))
}

/// A count is a sum of 64 bits with twelve digits more at most: it fits.
fn decimal(number: &BigInt) -> Value {
    fitting(number).map_or(Value::Null, Value::Decimal)
}

fn pricing_category(line: &Line<'_>) -> Value {
    let Some(prices) = &line.charge.prices else { return Value::Null };
    // Who gave the cost agreed on a price that nobody told us.
    let is_unknown = prices.basis == Basis::Average && line.bill.usage.origin == CostOrigin::Event;
    plain(if is_unknown { "Other" } else { "Standard" })
}

fn pricing_currency(line: &Line<'_>) -> Value {
    let currency = line.charge.prices.as_ref().map_or(line.bill.usage.currency, |prices| prices.pricing_currency);
    plain(currency.as_str())
}

fn cost_origin(line: &Line<'_>) -> Value {
    plain(match (&line.bill.usage.entry, line.bill.usage.origin) {
        (Entry::Adjustment(_), _) => "adjustment",
        (_, CostOrigin::Event) => "event",
        (_, CostOrigin::PriceBook) => "price_book",
    })
}
