//! `pg_catalog` and `information_schema`, made of the columns of a query's tables. What PostgreSQL has and this has not (indexes,
//! constraints, triggers, …) are tables without rows, so that whoever looks there finds none.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int16Type, Int32Type, Schema, SchemaRef};
use datafusion::catalog::{MemTable, MemorySchemaProvider, SchemaProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;

use super::types::{self, TYPES};
use super::{DATABASE, SCHEMA};

/// Numbers of the schemas.
const PG_CATALOG: i32 = 11;
const PUBLIC: i32 = 2200;
const INFORMATION_SCHEMA: i32 = 13000;
/// The number of the one role.
const ROLE: i32 = 10;
/// The number of the one database.
const DATABASE_OID: i32 = 16000;
/// Tables are numbered from here, as what users make in PostgreSQL.
pub(super) const FIRST_TABLE: i32 = 16384;

/// Tables of `pg_catalog` that never have rows: their columns as `name:type`.
#[rustfmt::skip]
pub(super) const EMPTY: &[(&str, &str)] = &[
    ("pg_attrdef", "oid:i adrelid:i adnum:s adbin:t"),
    ("pg_auth_members", "roleid:i member:i grantor:i admin_option:b inherit_option:b set_option:b"),
    ("pg_cast", "oid:i castsource:i casttarget:i castfunc:i castcontext:t castmethod:t"),
    ("pg_collation", "oid:i collname:t collnamespace:i collprovider:t collisdeterministic:b collcollate:t collctype:t"),
    ("pg_constraint", "oid:i conname:t connamespace:i contype:t condeferrable:b condeferred:b convalidated:b conrelid:i contypid:i conindid:i \
        conparentid:i confrelid:i confupdtype:t confdeltype:t confmatchtype:t conislocal:b coninhcount:i connoinherit:b conkey:S confkey:S conbin:t"),
    ("pg_depend", "classid:i objid:i objsubid:i refclassid:i refobjid:i refobjsubid:i deptype:t"),
    ("pg_description", "objoid:i classoid:i objsubid:i description:t"),
    ("pg_enum", "oid:i enumtypid:i enumsortorder:f enumlabel:t"),
    ("pg_event_trigger", "oid:i evtname:t evtevent:t evtowner:i"),
    ("pg_extension", "oid:i extname:t extowner:i extnamespace:i extrelocatable:b extversion:t"),
    ("pg_foreign_data_wrapper", "oid:i fdwname:t fdwowner:i fdwoptions:T"),
    ("pg_foreign_server", "oid:i srvname:t srvowner:i srvfdw:i srvtype:t srvversion:t srvoptions:T"),
    ("pg_foreign_table", "ftrelid:i ftserver:i ftoptions:T"),
    ("pg_index", "indexrelid:i indrelid:i indnatts:s indnkeyatts:s indisunique:b indnullsnotdistinct:b indisprimary:b indisexclusion:b \
        indimmediate:b indisclustered:b indisvalid:b indisready:b indislive:b indisreplident:b indkey:S indcollation:I indclass:I indoption:S \
        indexprs:t indpred:t"),
    ("pg_indexes", "schemaname:t tablename:t indexname:t tablespace:t indexdef:t"),
    ("pg_inherits", "inhrelid:i inhparent:i inhseqno:i inhdetachpending:b"),
    ("pg_language", "oid:i lanname:t lanowner:i lanispl:b"),
    ("pg_locks", "locktype:t database:i relation:i pid:i mode:t granted:b"),
    ("pg_matviews", "schemaname:t matviewname:t matviewowner:t tablespace:t hasindexes:b ispopulated:b definition:t"),
    ("pg_opclass", "oid:i opcmethod:i opcname:t opcnamespace:i opcowner:i opcfamily:i opcintype:i opcdefault:b opckeytype:i"),
    ("pg_operator", "oid:i oprname:t oprnamespace:i oprowner:i oprkind:t oprleft:i oprright:i oprresult:i"),
    ("pg_partitioned_table", "partrelid:i partstrat:t partnatts:s partdefid:i partattrs:S partclass:I partcollation:I partexprs:t"),
    ("pg_policy", "oid:i polname:t polrelid:i polcmd:t polpermissive:b polroles:I polqual:t polwithcheck:t"),
    ("pg_proc", "oid:i proname:t pronamespace:i proowner:i prolang:i prokind:t prosecdef:b proretset:b provolatile:t pronargs:s prorettype:i \
        proargtypes:I proallargtypes:I proargmodes:T proargnames:T prosrc:t proacl:T provariadic:i"),
    ("pg_publication", "oid:i pubname:t pubowner:i puballtables:b"),
    ("pg_publication_namespace", "oid:i pnpubid:i pnnspid:i"),
    ("pg_publication_rel", "oid:i prpubid:i prrelid:i prqual:t prattrs:S"),
    ("pg_range", "rngtypid:i rngsubtype:i rngmultitypid:i rngcollation:i rngsubopc:i"),
    ("pg_rewrite", "oid:i rulename:t ev_class:i ev_type:t ev_enabled:t is_instead:b ev_qual:t ev_action:t"),
    ("pg_seclabel", "objoid:i classoid:i objsubid:i provider:t label:t"),
    ("pg_sequence", "seqrelid:i seqtypid:i seqstart:l seqincrement:l seqmax:l seqmin:l seqcache:l seqcycle:b"),
    ("pg_sequences", "schemaname:t sequencename:t sequenceowner:t data_type:t"),
    ("pg_shdescription", "objoid:i classoid:i description:t"),
    ("pg_stat_activity", "datid:i datname:t pid:i usename:t application_name:t client_addr:t state:t query:t"),
    ("pg_stat_user_tables", "relid:i schemaname:t relname:t n_live_tup:l"),
    ("pg_statistic_ext", "oid:i stxrelid:i stxname:t stxnamespace:i stxowner:i stxstattarget:i stxkeys:S stxkind:T stxexprs:t"),
    ("pg_subscription", "oid:i subdbid:i subname:t subowner:i subenabled:b"),
    ("pg_trigger", "oid:i tgrelid:i tgparentid:i tgname:t tgfoid:i tgtype:s tgenabled:t tgisinternal:b tgconstrrelid:i tgconstraint:i tgdeferrable:b"),
    ("pg_user_mapping", "oid:i umuser:i umserver:i umoptions:T"),
];

/// The same of `information_schema`.
#[rustfmt::skip]
const EMPTY_INFORMATION: &[(&str, &str)] = &[
    ("check_constraints", "constraint_catalog:t constraint_schema:t constraint_name:t check_clause:t"),
    ("constraint_column_usage", "table_catalog:t table_schema:t table_name:t column_name:t constraint_catalog:t constraint_schema:t constraint_name:t"),
    ("key_column_usage", "constraint_catalog:t constraint_schema:t constraint_name:t table_catalog:t table_schema:t table_name:t column_name:t \
        ordinal_position:i position_in_unique_constraint:i"),
    ("referential_constraints", "constraint_catalog:t constraint_schema:t constraint_name:t unique_constraint_catalog:t unique_constraint_schema:t \
        unique_constraint_name:t match_option:t update_rule:t delete_rule:t"),
    ("routines", "specific_catalog:t specific_schema:t specific_name:t routine_catalog:t routine_schema:t routine_name:t routine_type:t data_type:t"),
    ("table_constraints", "constraint_catalog:t constraint_schema:t constraint_name:t table_catalog:t table_schema:t table_name:t constraint_type:t \
        is_deferrable:t initially_deferred:t"),
];

/// A value of a catalog's row.
enum V {
    I(i32),
    T(String),
    B(bool),
    Null,
}

fn t(text: impl Into<String>) -> V {
    V::T(text.into())
}

/// Makes the tables.
pub(super) fn register(context: &SessionContext, tables: &[(String, SchemaRef)], user: &str) -> Result<()> {
    let wrong = || DataFusionError::Internal("a session without its catalog".to_owned());
    let catalog = context.catalog(DATABASE).ok_or_else(wrong)?;
    let (pg, information) = (MemorySchemaProvider::new(), MemorySchemaProvider::new());
    for (name, columns) in EMPTY {
        add(&pg, name, columns, Vec::new())?;
    }
    for (name, columns) in EMPTY_INFORMATION {
        add(&information, name, columns, Vec::new())?;
    }
    schemas(&pg, &information, user)?;
    relations(&pg, &information, tables, user)?;
    columns(&pg, &information, tables)?;
    pg_types(&pg)?;
    catalog.register_schema("pg_catalog", Arc::new(pg))?;
    catalog.register_schema("information_schema", Arc::new(information))?;
    Ok(())
}

fn schemas(pg: &MemorySchemaProvider, information: &MemorySchemaProvider, user: &str) -> Result<()> {
    let names = [(PG_CATALOG, "pg_catalog"), (PUBLIC, SCHEMA), (INFORMATION_SCHEMA, "information_schema")];
    let rows = names.iter().map(|(oid, name)| vec![V::I(*oid), t(*name), V::I(ROLE), V::Null]).collect();
    add(pg, "pg_namespace", "oid:i nspname:t nspowner:i nspacl:T", rows)?;
    let rows = names.iter().map(|(_, name)| vec![t(DATABASE), t(*name), t(user)]).collect();
    add(information, "schemata", "catalog_name:t schema_name:t schema_owner:t", rows)?;
    let database = vec![
        V::I(DATABASE_OID),
        t(DATABASE),
        V::I(ROLE),
        V::I(6),
        t("c"),
        t("C"),
        t("C"),
        V::B(false),
        V::B(true),
        V::I(-1),
        V::Null,
        V::Null,
        V::Null,
        V::I(1663),
    ];
    let of = "oid:i datname:t datdba:i encoding:i datlocprovider:t datcollate:t datctype:t datistemplate:b datallowconn:b datconnlimit:i \
              daticulocale:t daticurules:t datacl:T dattablespace:i";
    add(pg, "pg_database", of, vec![database])?;
    let of = "oid:i rolname:t rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b rolreplication:b rolconnlimit:i \
              rolvaliduntil:t rolbypassrls:b";
    let no = || V::B(false);
    let role = vec![V::I(ROLE), t(user), no(), V::B(true), no(), no(), V::B(true), no(), V::I(-1), V::Null, no()];
    add(pg, "pg_roles", of, vec![role])?;
    let of = "usesysid:i usename:t usecreatedb:b usesuper:b userepl:b usebypassrls:b";
    add(pg, "pg_user", of, vec![vec![V::I(ROLE), t(user), no(), no(), no(), no()]])?;
    add(pg, "pg_am", "oid:i amname:t amtype:t", vec![vec![V::I(2), t("heap"), t("t")]])?;
    // Words that are none of standard SQL: some drivers ask for these.
    let words = ["ilike", "limit", "offset"].map(|word| vec![t(word), t("R"), t("reserved")]);
    add(pg, "pg_get_keywords", "word:t catcode:t catdesc:t", words.into())?;
    add(pg, "pg_tablespace", "oid:i spcname:t spcowner:i", vec![vec![V::I(1663), t("pg_default"), V::I(ROLE)]])?;
    let settings =
        super::functions::SETTINGS.iter().map(|(name, value)| vec![t(*name), t(*value), V::Null, t("")]).collect();
    add(pg, "pg_settings", "name:t setting:t unit:t short_desc:t", settings)
}

/// The views: they are `v` in `pg_class`, so that tools show them and look for no keys.
fn relations(
    pg: &MemorySchemaProvider,
    information: &MemorySchemaProvider,
    tables: &[(String, SchemaRef)],
    user: &str,
) -> Result<()> {
    let class = |(oid, (name, schema)): (i32, &(String, SchemaRef))| {
        let count = i32::try_from(schema.fields().len()).unwrap_or(i32::MAX);
        let no = || V::B(false);
        vec![
            V::I(oid),
            t(name),
            V::I(PUBLIC),
            V::I(0),
            V::I(0),
            V::I(ROLE),
            V::I(0),
            V::I(0),
            V::I(0),
            V::I(-1),
            V::I(0),
            no(),
            no(),
            t("p"),
            t("v"),
            V::I(count),
            V::I(0),
            no(),
            no(),
            no(),
            no(),
            no(),
            V::B(true),
            t("n"),
            no(),
            V::Null,
            V::Null,
            V::Null,
            V::I(0),
            V::I(0),
            V::I(0),
            V::I(0),
            V::I(0),
        ]
    };
    let of = "oid:i relname:t relnamespace:i reltype:i reloftype:i relowner:i relam:i relfilenode:i reltablespace:i reltuples:i relpages:i \
              relhasindex:b relisshared:b relpersistence:t relkind:t relnatts:s relchecks:s relhasrules:b relhastriggers:b relhassubclass:b \
              relrowsecurity:b relforcerowsecurity:b relispopulated:b relreplident:t relispartition:b relacl:T reloptions:T relpartbound:t \
              reltoastrelid:i relallvisible:i relrewrite:i relfrozenxid:i relminmxid:i";
    add(pg, "pg_class", of, (FIRST_TABLE..).zip(tables).map(class).collect())?;
    let views = tables.iter().map(|(name, _)| vec![t(SCHEMA), t(name), t(user), t("")]).collect();
    add(pg, "pg_views", "schemaname:t viewname:t viewowner:t definition:t", views)?;
    let of = "schemaname:t tablename:t tableowner:t tablespace:t hasindexes:b hasrules:b hastriggers:b rowsecurity:b";
    add(pg, "pg_tables", of, Vec::new())?;
    let rows = tables.iter().map(|(name, _)| vec![t(DATABASE), t(SCHEMA), t(name), t("VIEW"), t("NO")]).collect();
    add(information, "tables", "table_catalog:t table_schema:t table_name:t table_type:t is_insertable_into:t", rows)?;
    let rows = tables.iter().map(|(name, _)| vec![t(DATABASE), t(SCHEMA), t(name), t(""), t("NO")]).collect();
    add(information, "views", "table_catalog:t table_schema:t table_name:t view_definition:t is_updatable:t", rows)
}

fn columns(
    pg: &MemorySchemaProvider,
    information: &MemorySchemaProvider,
    tables: &[(String, SchemaRef)],
) -> Result<()> {
    let (mut attributes, mut listed) = (Vec::new(), Vec::new());
    for (oid, (table, schema)) in (FIRST_TABLE..).zip(tables) {
        for (number, field) in (1..).zip(schema.fields()) {
            let (kind, modifier) = types::of_arrow(field.data_type());
            let bytes = types::by_oid(kind.into()).map_or(-1, |kind| i32::from(kind.bytes));
            let no = || V::B(false);
            attributes.push(vec![
                V::I(oid),
                t(field.name()),
                V::I(kind),
                V::I(bytes),
                V::I(number),
                V::I(modifier),
                V::I(0),
                V::B(!field.is_nullable()),
                no(),
                no(),
                t(""),
                t(""),
                no(),
                V::B(true),
                V::I(0),
                V::I(0),
                V::I(-1),
                V::I(-1),
                t("p"),
                t("i"),
                no(),
                t(""),
                V::Null,
                V::Null,
                V::Null,
            ]);
            let (precision, scale) = match modifier {
                4.. => (V::I((modifier - 4) >> 16), V::I((modifier - 4) & 0xffff)),
                _ => (V::Null, V::Null),
            };
            let nullable = if field.is_nullable() { "YES" } else { "NO" };
            let udt = types::by_oid(kind.into()).map_or("text", |kind| kind.name);
            listed.push(vec![
                t(DATABASE),
                t(SCHEMA),
                t(table),
                t(field.name()),
                V::I(number),
                V::Null,
                t(nullable),
                t(types::formatted(kind.into(), -1)),
                V::Null,
                precision,
                scale,
                V::Null,
                t(DATABASE),
                t("pg_catalog"),
                t(udt),
                t("NO"),
                t("NEVER"),
                t("NO"),
            ]);
        }
    }
    let of = "attrelid:i attname:t atttypid:i attlen:s attnum:s atttypmod:i attndims:i attnotnull:b atthasdef:b atthasmissing:b attidentity:t \
              attgenerated:t attisdropped:b attislocal:b attinhcount:i attcollation:i attstattarget:i attcacheoff:i attstorage:t attalign:t \
              attbyval:b attcompression:t attacl:T attoptions:T attfdwoptions:T";
    add(pg, "pg_attribute", of, attributes)?;
    let of = "table_catalog:t table_schema:t table_name:t column_name:t ordinal_position:i column_default:t is_nullable:t data_type:t \
              character_maximum_length:i numeric_precision:i numeric_scale:i datetime_precision:i udt_catalog:t udt_schema:t udt_name:t \
              is_identity:t is_generated:t is_updatable:t";
    add(information, "columns", of, listed)
}

fn pg_types(pg: &MemorySchemaProvider) -> Result<()> {
    let element = |array: i32| TYPES.iter().find(|kind| kind.array == array && array != 0).map_or(0, |kind| kind.oid);
    let row = |kind: &types::PgType| {
        let element = element(kind.oid);
        vec![
            V::I(kind.oid),
            t(kind.name),
            V::I(PG_CATALOG),
            V::I(ROLE),
            V::I(kind.bytes.into()),
            V::B((1..=8).contains(&kind.bytes)),
            t("b"),
            t(kind.category),
            V::B(false),
            V::B(true),
            t(","),
            V::I(0),
            V::I(element),
            V::I(kind.array),
            V::B(false),
            V::I(0),
            V::I(-1),
            V::I(0),
            V::I(0),
            t(if element == 0 { format!("{}in", kind.name) } else { "array_in".to_owned() }),
            V::Null,
            V::Null,
        ]
    };
    let of = "oid:i typname:t typnamespace:i typowner:i typlen:s typbyval:b typtype:t typcategory:t typispreferred:b typisdefined:b typdelim:t \
              typrelid:i typelem:i typarray:i typnotnull:b typbasetype:i typtypmod:i typndims:i typcollation:i typinput:t typdefault:t typacl:T";
    add(pg, "pg_type", of, TYPES.iter().map(row).collect())
}

fn add(schema: &MemorySchemaProvider, name: &str, columns: &str, rows: Vec<Vec<V>>) -> Result<()> {
    let columns: Vec<(&str, &str)> = columns.split_whitespace().filter_map(|column| column.split_once(':')).collect();
    let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, data_type(kind), true)).collect();
    let fields = Arc::new(Schema::new(fields));
    let arrays: Vec<ArrayRef> = columns.iter().enumerate().map(|(at, (_, kind))| array(kind, &rows, at)).collect();
    let batch = RecordBatch::try_new(Arc::clone(&fields), arrays)?;
    schema.register_table(name.to_owned(), Arc::new(MemTable::try_new(fields, vec![vec![batch]])?))?;
    Ok(())
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn data_type(kind: &str) -> DataType {
    match kind {
        "i" => DataType::Int32,
        "s" => DataType::Int16,
        "l" => DataType::Int64,
        "f" => DataType::Float32,
        "b" => DataType::Boolean,
        "T" => list(DataType::Utf8),
        "I" => list(DataType::Int32),
        "S" => list(DataType::Int16),
        _ => DataType::Utf8,
    }
}

fn array(kind: &str, rows: &[Vec<V>], at: usize) -> ArrayRef {
    let integer = |row: &Vec<V>| if let Some(V::I(value)) = row.get(at) { Some(*value) } else { None };
    let text = |row: &Vec<V>| if let Some(V::T(value)) = row.get(at) { Some(value.clone()) } else { None };
    let truth = |row: &Vec<V>| if let Some(V::B(value)) = row.get(at) { Some(*value) } else { None };
    match kind {
        "i" => Arc::new(rows.iter().map(integer).collect::<Int32Array>()),
        "s" => Arc::new(
            rows.iter().map(|row| integer(row).and_then(|value| value.try_into().ok())).collect::<Int16Array>(),
        ),
        "l" => Arc::new(rows.iter().map(|row| integer(row).map(i64::from)).collect::<Int64Array>()),
        "f" => Arc::new(arrow::array::Float32Array::new_null(rows.len())),
        "b" => Arc::new(rows.iter().map(truth).collect::<BooleanArray>()),
        "T" => arrow::array::new_null_array(&list(DataType::Utf8), rows.len()),
        "I" => {
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows.iter().map(|_| None::<Vec<Option<i32>>>)))
        }
        "S" => {
            Arc::new(ListArray::from_iter_primitive::<Int16Type, _, _>(rows.iter().map(|_| None::<Vec<Option<i16>>>)))
        }
        _ => Arc::new(rows.iter().map(text).collect::<StringArray>()),
    }
}
