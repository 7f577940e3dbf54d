"""psycopg against Outlay: values, parameters in both forms, transactions, errors, and what ends a query. Arguments: HOST PORT KEY."""

import datetime
import decimal
import sys
import threading

import psycopg

host, port, key = sys.argv[1:4]
address = {"host": host, "port": port, "user": "analyst", "password": key, "dbname": "outlay"}


def connect(**more):
    return psycopg.connect(**{**address, **more})


def state_of(connection, query, *arguments):
    """The SQLSTATE of a query that fails."""
    try:
        connection.execute(query, *arguments)
    except psycopg.Error as error:
        return error.sqlstate
    raise AssertionError(f"{query} was answered")


with connect(autocommit=True) as session:
    one = """select namespace, model, total_tokens, cost, time, late, compute_seconds, tags, date_trunc('day', time)::date as day,
                    array[1, null, 3] as list, interval '1 day 2 hours' as span, 0.5::float8 as share
             from usage where id = %s"""
    expected = None
    for is_binary in (False, True):
        cursor = session.cursor(binary=is_binary)
        row = cursor.execute(one, ("priced",)).fetchone()
        assert row[:4] == ("lab", "gpt-5.1", 1000, decimal.Decimal("0.001250000000")), row
        assert row[4].tzinfo is not None and abs(row[4] - datetime.datetime.now(datetime.timezone.utc)).days < 1, row
        assert row[5] is False and row[6] == 0 and row[7] is None, row
        assert row[8] == row[4].date() and row[9] == [1, None, 3], row
        assert row[10] == datetime.timedelta(days=1, hours=2) and row[11] == 0.5, row
        assert expected in (None, row), (expected, row)
        expected = row
    names = [column.name for column in session.execute("select * from usage limit 0").description]
    assert names[:3] == ["time", "id", "source"] and "user" in names, names

    # Parameters of every kind, bound by the server, where their type is told and where it is not.
    now = datetime.datetime.now(datetime.timezone.utc)
    for query, arguments, found in [
        ("select count(*) from usage where namespace = %s and total_tokens >= %s", ("lab", 10), 3),
        ("select count(*) from usage where time between %s and %s", (now - datetime.timedelta(days=1), now + datetime.timedelta(days=1)), 3),
        ("select count(*) from usage where cost > %b", (decimal.Decimal("0.001"),), 1),
        ("select count(*) from usage where total_tokens = any(%b)", ([10, 11],), 2),
        ("select count(*) from (select * from usage limit %s) as few", (2,), 2),
        ("select %s", ("it's; a \\ text",), "it's; a \\ text"),
        ("select %b + 1", (2**40,), 2**40 + 1),
        ("select %s is null", (None,), True),
        ("select %b", (-12345.5,), -12345.5),
        ("select 5 / %b", (2.0,), 2.5),
        ("select %b", (decimal.Decimal("0.12345678901234567890"),), decimal.Decimal("0.12345678901234567890")),
    ]:
        for is_prepared in (False, True):
            value = session.execute(query, arguments, prepare=is_prepared).fetchone()[0]
            assert value == found, (query, arguments, value)

    # Several statements of the simple protocol, each with its result.
    cursor = session.cursor()
    cursor.execute("select 1; select 'a;b'; -- nothing\n")
    assert cursor.fetchone() == (1,) and cursor.nextset() and cursor.fetchone() == ("a;b",)

    for query, state in [
        ("insert into usage (id) values ('x')", "25006"),
        ("create table mine (a int)", "25006"),
        ("with gone as (delete from usage returning *) select * from gone", "0A000 25006 42000 42601"),
        ("select nothing from usage", "42703"),
        ("select * from nowhere", "42P01"),
        ("select nonsense(1)", "42883"),
        ("selec 1", "42601"),
        ("select 1 / 0", "22012"),
        ("show nothing", "42704"),
        ("select * from '/etc/passwd'", "42601 42P01"),
    ]:
        assert state_of(session, query) in state.split(), (query, state_of(session, query))
    try:
        session.execute("select 1,\n  from usage")
    except psycopg.errors.SyntaxError as error:
        assert error.diag.statement_position is not None, error.diag.message_primary
    assert session.execute("select 1").fetchone() == (1,)

# A transaction: after an error only its end.
with connect() as session:
    assert session.execute("show transaction_read_only").fetchone() == ("on",)
    assert state_of(session, "select 1 / 0") == "22012"
    assert state_of(session, "select 1") == "25P02"
    session.rollback()
    assert session.execute("select 2").fetchone() == (2,)
    with session.transaction():
        assert session.execute("select 3").fetchone() == (3,)
    session.commit()

# A result that is larger than what is read ahead, taken in parts.
with connect(autocommit=True) as session:
    count = 0
    for row in session.cursor().stream("select value, 'a text of some length' from generate_series(1, 200000)"):
        count += 1
    assert count == 200000, count

# Cancelled by the client, which asks until it is: a request that comes before the query is for nothing.
endless = "select count(*) from generate_series(1, 2000000) a, generate_series(1, 2000000) b where a.value + b.value = 3"
with connect(autocommit=True) as session:
    is_over = threading.Event()

    def cancel():
        while not is_over.wait(0.5):
            session.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        session.execute(endless)
        raise AssertionError("an endless query ended")
    except psycopg.errors.QueryCanceled as error:
        assert "user request" in str(error), error
    finally:
        is_over.set()
        canceller.join()
    assert session.execute("select 1").fetchone() == (1,)

try:
    connect(password="another key")
    raise AssertionError("another key was let in")
except psycopg.OperationalError as error:
    assert "password authentication failed" in str(error), error
print("ok")
