"""SQLAlchemy against Outlay, as Superset uses it: what there is, then a query of a chart. Arguments: HOST PORT KEY."""

import sys

import sqlalchemy
from sqlalchemy import text

host, port, key = sys.argv[1:4]
url = sqlalchemy.URL.create("postgresql+psycopg", "superset", key, host, int(port), "outlay")
engine = sqlalchemy.create_engine(url)
inspector = sqlalchemy.inspect(engine)
assert "public" in inspector.get_schema_names(), inspector.get_schema_names()
views = {"usage", "balances", "decisions", "alerts", "budgets", "prices", "audit", "rejected", "too_late", "accounts"}
found = set(inspector.get_view_names("public")) | set(inspector.get_table_names("public"))
assert views <= found, found
assert inspector.has_table("usage") and not inspector.has_table("nothing")
columns = {column["name"]: column for column in inspector.get_columns("usage", schema="public")}
assert isinstance(columns["time"]["type"], sqlalchemy.TIMESTAMP) and columns["time"]["type"].timezone, columns["time"]
assert isinstance(columns["total_tokens"]["type"], sqlalchemy.BIGINT), columns["total_tokens"]
cost = columns["cost"]["type"]
assert isinstance(cost, sqlalchemy.NUMERIC) and (cost.precision, cost.scale) == (38, 12), cost
assert isinstance(columns["late"]["type"], sqlalchemy.BOOLEAN) and not columns["late"]["nullable"] and columns["team"]["nullable"]
assert not inspector.get_pk_constraint("usage", schema="public")["constrained_columns"]
assert inspector.get_foreign_keys("usage", schema="public") == [] and inspector.get_indexes("usage", schema="public") == []
assert inspector.get_table_comment("usage", schema="public") == {"text": None}
assert inspector.get_unique_constraints("usage", schema="public") == []

usage = sqlalchemy.Table("usage", sqlalchemy.MetaData(), schema="public", autoload_with=engine)
day = sqlalchemy.func.date_trunc("day", usage.c.time).label("__timestamp")
chart = (
    sqlalchemy.select(day, usage.c.user, sqlalchemy.func.sum(usage.c.total_tokens).label("SUM(total_tokens)"))
    .where(usage.c.namespace == "lab")
    .group_by(day, usage.c.user)
    .order_by(sqlalchemy.desc("SUM(total_tokens)"))
    .limit(10000)
)
with engine.connect() as connection:
    rows = connection.execute(chart).all()
    assert sum(row[2] for row in rows) == 1020, rows
    # A chart over a virtual dataset.
    rows = connection.execute(text(
        'SELECT "namespace" AS "namespace", sum(cost) AS "SUM(cost)" FROM (SELECT * FROM public.usage\n) AS virtual_table '
        "WHERE \"time\" >= TO_TIMESTAMP('2020-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') "
        'GROUP BY "namespace" ORDER BY "SUM(cost)" DESC LIMIT 1000'
    )).all()
    assert rows[0][0] == "lab", rows
    assert connection.execute(text("select version()")).scalar().startswith("PostgreSQL 16")
print("ok")
