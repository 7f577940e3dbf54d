#!/usr/bin/env python3
"""Makes llm-trace.csv from the Azure LLM inference trace 2023 (code).

Usage: make-trace.py AzureLLMInferenceTrace_code.csv > llm-trace.csv

Takes the data's TIMESTAMP, ContextTokens and GeneratedTokens; writes the microseconds since the first request, and the
two counts as they are. README.md says where the data is from and what was changed.
"""

import csv
import sys
from datetime import datetime, timedelta


def time_of(text: str) -> datetime:
    """The data has seven digits after the second, of which the last is always 0: microseconds lose nothing."""
    if len(text) != len("2023-11-16 18:17:03.9799600") or not text.endswith("0"):
        sys.exit(f"{text!r}: not a time with microseconds and a 0")
    return datetime.strptime(text[:-1], "%Y-%m-%d %H:%M:%S.%f")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], newline="") as file:
        rows = [(time_of(row["TIMESTAMP"]), int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]
    if rows != sorted(rows, key=lambda row: row[0]):
        sys.exit("the rows are not in the order of their times")
    first = rows[0][0]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["offset_us", "context", "generated"])
    for time, context, generated in rows:
        out.writerow([(time - first) // timedelta(microseconds=1), context, generated])


if __name__ == "__main__":
    main()
