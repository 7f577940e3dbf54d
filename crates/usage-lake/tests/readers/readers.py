"""Other programs read our lake: the sums that they find are those that were written."""

import json
import sys
from decimal import Decimal

import duckdb
from deltalake import DeltaTable
from duckdb_extensions import import_extension

folder, expected = sys.argv[1], json.loads(sys.argv[2])
cost = Decimal(expected["cost"])

usage = DeltaTable(f"{folder}/usage")
columns = usage.to_pyarrow_table(columns=["total_tokens", "cost", "late", "namespace", "time", "date"])
assert columns.num_rows == expected["rows"], columns.num_rows
assert sum(columns["total_tokens"].to_pylist()) == expected["total_tokens"]
assert sum(value for value in columns["cost"].to_pylist() if value is not None) == cost
assert sum(columns["late"].to_pylist()) == expected["late"]
assert all(time.date() == date for time, date in zip(columns["time"].to_pylist(), columns["date"].to_pylist()))
dates = sorted(set(columns["date"].to_pylist()))
day = usage.to_pyarrow_table(filters=[("date", "=", dates[0])])
assert 0 < day.num_rows == expected["late"], day.num_rows
for table in ("rejected", "too_late", "accounts"):
    found = DeltaTable(f"{folder}/{table}").to_pyarrow_table().num_rows
    assert found == expected[table], (table, found)
print(f"deltalake: {columns.num_rows} rows, cost {cost}, dates {[str(date) for date in dates]}")


def compare(name, relation):
    rows, tokens, total, namespaces = duckdb.sql(
        f"SELECT count(*), sum(total_tokens), sum(cost), list(DISTINCT namespace ORDER BY namespace) FROM {relation}"
    ).fetchall()[0]
    assert (rows, tokens, total) == (expected["rows"], expected["total_tokens"], cost), (name, rows, tokens, total)
    assert namespaces == expected["namespaces"], namespaces
    print(f"duckdb, {name}: {rows} rows, cost {total}")


files = usage.file_uris()
compare("files of the log", f"read_parquet({files!r}, hive_partitioning = true)")
dataset = usage.to_pyarrow_dataset()
compare("dataset", "dataset")
# DuckDB's own reader of Delta tables, from its package: DuckDB would else download it from its own server.
import_extension("delta")
duckdb.sql("LOAD delta")
compare("delta extension", f"delta_scan('{folder}/usage')")
