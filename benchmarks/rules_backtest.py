"""What the shipped rules would have said of the made-up company, and what became of it: docs/rules-backtest.md.

    python -m benchmarks.rules_backtest [--opportunities 2000] [--weeks 52] [--write]

The company is the demo's, with its seed; nothing in the rules was chosen by looking at it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from pipesync import rules
from pipesync.adapters import open_adapter
from pipesync.config import Calendar, Config, ConnectionConfig
from pipesync.features import compute
from pipesync.pull import pull
from pipesync.report.trials import replay_table
from pipesync.rules.backtest import MIN_CASES, backtest
from pipesync.rules.evaluate import judge, unread_by
from pipesync.sandbox.company import generate
from pipesync.store.warehouse import Warehouse

PAGE = Path(__file__).parents[1] / "docs" / "rules-backtest.md"
SMALL = 600
EVERY = Config(extends=("pipesync:all",), connections={"demo": ConnectionConfig(adapter="files")})
DECIDING = ("level", "applies_to", "params", "overrides", "when", "measures", "min_n", "supersedes")
HEAD = """# Shipped rules on the demo company

Written by `python -m benchmarks.rules_backtest --write`: the demo's made-up company of {opportunities:,}
opportunities, replayed over {weeks} weeks up to {until}, {rep_weeks:,} rep-weeks, from history only. The company's
shape is made up, so the table shows what a backtest says and that the rules are not deaf; what they are worth is told
by `pipesync rules backtest` on your own history. No threshold was chosen by looking at it. Made from rules and
verdicts `{made_from}`.

*New per rep-week*: findings that were not there the week before, by rep and week. *Slip*: still open when the quarter
of its close date ended; *loss*: lost, of those decided by now; shares of opportunity-weeks, flagged and not.
*Points*: the difference with its 95% interval, from {cases} opportunities on either side; weeks of one opportunity
count as one case. *Lead*: median days from the first flag to the slip. A dash: it never fired on what was open, or
nothing came of it yet.

"""


def made_from(warehouse: Warehouse, connection: str) -> str:
    """Return a fingerprint of what the table follows from: what the rules decide by, and their verdicts.

    The verdicts are those on a company of SMALL, at its end and half a year before. A test holds the page against it;
    the whole page is made again by a campaign.
    """
    told = hashlib.sha256()
    ruleset = rules.load(EVERY)
    for rule in sorted(ruleset, key=lambda r: r.id):
        told.update(json.dumps([rule.document.data.get(name) for name in DECIDING], default=str).encode())
    own = [rule for rule in ruleset if rule.level == "opportunity"]
    verdicts = ", ".join(f"a{i}, v{i}" for i in range(len(own)))
    until = warehouse.pulled_to(connection)
    for moment in (until, until - timedelta(weeks=26)):
        computed = compute(warehouse, connection, moment, Calendar())
        judge(warehouse, own, "features", unread_by(warehouse, computed, own))
        told.update(repr(warehouse.rows(f"SELECT subject, {verdicts} FROM judged ORDER BY subject")).encode())
    return told.hexdigest()[:12]


@contextmanager
def company(opportunities: int) -> Iterator[Warehouse]:
    with tempfile.TemporaryDirectory() as folder, Warehouse() as warehouse:
        exports = Path(folder) / "exports"
        generate(exports, opportunities=opportunities)
        settings = {"data": str(exports), "outbox": str(Path(folder) / "outbox")}
        adapter = open_adapter("demo", ConnectionConfig(adapter="files", options=settings), Path(folder))
        pull(adapter, warehouse)
        adapter.close()
        yield warehouse


def page(opportunities: int, weeks: int) -> str:
    with company(SMALL) as warehouse:
        fingerprint = made_from(warehouse, "demo")
    with company(opportunities) as warehouse:
        until = warehouse.pulled_to("demo")
        found = backtest(warehouse, "demo", Calendar(), list(rules.load(EVERY)), until=until, weeks=weeks)
    head = HEAD.format(
        opportunities=opportunities, weeks=weeks, until=f"{until:%Y-%m-%d}", rep_weeks=found.rep_weeks,
        cases=MIN_CASES, made_from=fingerprint,
    )  # fmt: skip
    return head + replay_table(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="the shipped rules replayed on the made-up company")
    parser.add_argument("--opportunities", type=int, default=2000)
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--write", action="store_true", help="write docs/rules-backtest.md")
    options = parser.parse_args()
    text = page(options.opportunities, options.weeks)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
