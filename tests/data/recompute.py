#!/usr/bin/env python3
"""What the demo's trace uses and costs, computed a second time.

Usage: recompute.py [--events | --timeline]

Reads llm-trace.csv and prices/default.yaml, does the assignment that README.md describes, and prints JSON: for each
namespace, team and repository the events, the tokens by class, the cost in USD (exact; a decimal text) and how many events
have no price. It shares no code with Outlay, on purpose: tests compare the two.

  (nothing)   one object for each namespace, team and repository, in this order, and their totals
  --events    one line for each event: [index, namespace, team, repository, user, session, model, [tokens by class], cost]
  --timeline  one line for each namespace: what it had used after each tenth of the trace's time
"""

import csv
import json
import re
import sys
from decimal import Decimal, getcontext
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLASSES = ["input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"]
WORD = 1 << 64

# namespace, team, requests of a thousand, users, repositories
TEAMS = [
    ("checkout", "payments", 190, 6, ["acme/payments-api", "acme/fraud-rules"]),
    ("checkout", "storefront", 110, 4, ["acme/storefront"]),
    ("search", "ranking", 130, 5, ["acme/ranker", "acme/query-parser"]),
    ("search", "indexing", 90, 3, ["acme/indexer"]),
    ("support", "helpdesk", 150, 5, ["acme/helpdesk-bot", "acme/macros"]),
    ("support", "triage", 100, 3, ["acme/triage"]),
    ("data-platform", "pipelines", 70, 4, ["acme/pipelines", "acme/dbt-models", "acme/airflow-dags"]),
    ("data-platform", "warehouse", 50, 3, ["acme/warehouse"]),
    ("data-platform", "governance", 30, 2, ["acme/catalog"]),
    ("research", "evals", 50, 3, ["acme/evals", "acme/prompt-lab"]),
    ("research", "agents", 30, 2, ["acme/agent-runtime"]),
]
# provider, model, sessions of a hundred
MODELS = [
    ("openai", "gpt-6.1-sol", 22),
    ("openai", "gpt-5.1", 18),
    ("openai", "gpt-5-mini", 10),
    ("anthropic", "claude-sonnet-5", 24),
    ("anthropic", "claude-haiku-4-5", 10),
    ("gcp.gemini", "gemini-2.5-pro", 10),
    ("gcp.gemini", "gemini-3.5-flash", 6),
]
REASONING = {"gpt-6.1-sol", "gpt-5.1", "gemini-2.5-pro"}


def draw(key, salt, n):
    z = ((key + 1) * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) % WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % WORD
    return (z ^ (z >> 31)) % n


def expand(items, weight):
    """Each item as often as its weight: another way to the same choice."""
    return [item for item in items for _ in range(weight(item))]


def events():
    """Goes through the rows once, remembering the sessions it has seen."""
    teams = expand(range(len(TEAMS)), lambda at: TEAMS[at][2])
    models = expand(MODELS, lambda model: model[2])
    assert len(teams) == 1000 and len(models) == 100
    first_user = [1 + sum(team[3] for team in TEAMS[:at]) for at in range(len(TEAMS))]
    seen = set()
    with open(HERE / "llm-trace.csv", newline="") as file:
        for index, row in enumerate(csv.DictReader(file)):
            context, generated = int(row["context"]), int(row["generated"])
            at = teams[draw(index, 1, 1000)]
            namespace, team, _, users, repositories = TEAMS[at]
            user = first_user[at] + draw(index, 2, users)
            session = f"s-{user:02}-{index // 400:02}"
            key = user * 1000 + index // 400
            repository = repositories[draw(key, 3, len(repositories))]
            provider, model, _ = models[draw(key, 5, 100)]
            if draw(index, 6, 1000) == 0:
                provider, model = "acme", "acme-internal-llm"
            read = context * 40 // 100 if session in seen and provider != "acme" else 0
            written = (context - read) * 25 // 100 if provider == "anthropic" else 0
            hour = draw(index, 7, 8) == 0
            reasoning = generated * 30 // 100 if model in REASONING else 0
            seen.add(session)
            tokens = [
                context - read - written,
                read,
                0 if hour else written,
                written if hour else 0,
                generated - reasoning,
                reasoning,
            ]
            yield {
                "index": index,
                "offset_us": int(row["offset_us"]),
                "namespace": namespace,
                "team": team,
                "repository": repository,
                "user": f"u-{user:02}",
                "session": session,
                "provider": provider,
                "model": model,
                "tokens": dict(zip(CLASSES, tokens)),
            }


def prices():
    """Prices per million by provider and model, for the models of the trace.

    Reads the lines of prices/default.yaml as that file writes them, not YAML in general, so that nothing need be
    installed. An entry with dates is of no use here: the trace ends whenever it is replayed.
    """
    text = (HERE.parent.parent / "prices" / "default.yaml").read_text()
    wanted = {model: provider for provider, model, _ in MODELS}
    found = {}
    for entry in re.split(r"^  - model: ", text, flags=re.M)[1:]:
        model = entry.split("\n", 1)[0].strip('"')
        fields = dict(re.findall(r"^    (\w+): (.*)$", entry, flags=re.M))
        if wanted.get(model) not in re.split(r"[\[\], ]+", fields.get("provider", "")):
            continue
        if model in found or "from" in fields or "to" in fields:
            sys.exit(f"{model}: one price without dates is expected")
        rates = dict(re.findall(r'(\w+): "([0-9.]+)"', fields["per_million"]))
        rates.setdefault("reasoning", rates["output"])
        found[model] = {name: Decimal(rate) for name, rate in rates.items()}
    if set(found) != set(wanted):
        sys.exit(f"no price for {sorted(set(wanted) - set(found))}")
    return found


def with_costs():
    book = prices()
    for event in events():
        rates = book.get(event["model"])
        used = [(name, count) for name, count in event["tokens"].items() if count]
        event["cost"] = None if rates is None else sum((rates[name] * count for name, count in used), Decimal(0)) / 10**6
        yield event


def empty():
    return {"events": 0, "unpriced": 0, "tokens": dict.fromkeys(CLASSES, 0), "cost": Decimal(0)}


def add(total, event):
    total["events"] += 1
    for name, count in event["tokens"].items():
        total["tokens"][name] += count
    if event["cost"] is None:
        total["unpriced"] += 1
    else:
        total["cost"] += event["cost"]


def plain(value):
    """A decimal without an exponent and without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(total):
    return {**total, "cost": plain(total["cost"]), "total_tokens": sum(total["tokens"].values())}


def summary():
    groups, by_namespace, everything = {}, {}, empty()
    for event in with_costs():
        group = (event["namespace"], event["team"], event["repository"])
        add(groups.setdefault(group, empty()), event)
        add(by_namespace.setdefault(event["namespace"], empty()), event)
        add(everything, event)
    return {
        "currency": "USD",
        "groups": [
            {"namespace": n, "team": t, "repository": r, **shown(total)} for (n, t, r), total in sorted(groups.items())
        ],
        "namespaces": [{"namespace": n, **shown(total)} for n, total in sorted(by_namespace.items())],
        "total": shown(everything),
    }


def timeline():
    """Spent so far at each tenth of the trace's time, by namespace."""
    every = list(with_costs())
    last = every[-1]["offset_us"]
    for namespace in sorted({event["namespace"] for event in every}):
        mine = [event for event in every if event["namespace"] == namespace]
        parts = []
        for tenth in range(1, 11):
            until = [e for e in mine if e["offset_us"] * 10 <= last * tenth]
            cost = sum((e["cost"] for e in until if e["cost"] is not None), Decimal(0))
            parts.append({"events": len(until), "tokens": sum(sum(e["tokens"].values()) for e in until), "cost": plain(cost)})
        print(json.dumps({"namespace": namespace, "tenths": parts}))


def main():
    getcontext().prec = 60
    match sys.argv[1:]:
        case []:
            print(json.dumps(summary(), indent=1))
        case ["--timeline"]:
            timeline()
        case ["--events"]:
            for e in with_costs():
                names = ["index", "namespace", "team", "repository", "user", "session", "model"]
                cost = None if e["cost"] is None else plain(e["cost"])
                print(json.dumps([e[name] for name in names] + [list(e["tokens"].values()), cost]))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
