"""What the shipped rules would have said of the made-up company, and what became of it: docs/rules-backtest.md.

    python -m benchmarks.rules_backtest [--opportunities 2000] [--weeks 52] [--write]

The company is the demo's, with its seed; nothing in the rules was chosen by looking at it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import yaml

from pipesync import rules
from pipesync._paths import shipped
from pipesync.adapters import open_adapter
from pipesync.config import Calendar, Config, ConnectionConfig
from pipesync.pull import pull
from pipesync.report.trials import replay_table
from pipesync.rules.backtest import MIN_CASES, backtest
from pipesync.rules.ruleset import rule_files
from pipesync.sandbox.company import generate
from pipesync.store.warehouse import Warehouse

PAGE = Path(__file__).parents[1] / "docs" / "rules-backtest.md"
FOLDERS = (("src/pipesync/features", "*.sql"), ("src/pipesync/sandbox/company", "*.py"))
DECIDING = ("level", "applies_to", "params", "overrides", "when", "measures", "min_n", "supersedes")
HEAD = """# Shipped rules on the demo company

Written by `python -m benchmarks.rules_backtest --write`: the demo's made-up company of {opportunities:,}
opportunities, replayed over {weeks} weeks up to {until}, {rep_weeks:,} rep-weeks, from history only. The company's
shape is made up, so the table shows what a backtest says and that the rules are not deaf; what they are worth is told
by `pipesync rules backtest` on your own history. No threshold was chosen by looking at it. Made from rules, features
and company `{made_from}`.

*New per rep-week*: findings that were not there the week before, by rep and week. *Slip*: still open when the quarter
of its close date ended; *loss*: lost, of those decided by now; shares of opportunity-weeks, flagged and not.
*Points*: the difference with its 95% interval, from {cases} opportunities on either side; weeks of one opportunity
count as one case. *Lead*: median days from the first flag to the slip. A dash: it never fired on what was open, or
nothing came of it yet.

"""


def made_from() -> str:
    """Return a fingerprint of what the table follows from: what rules decide by, how features are made, the company.

    A test holds the page against it; the whole page is made again by a campaign.
    """
    told = hashlib.sha256()
    for path in sorted(rule_files(shipped("rules")).values()):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        told.update(json.dumps([document.get(name) for name in DECIDING], default=str).encode())
    for folder, pattern in FOLDERS:
        for path in sorted((PAGE.parents[1] / folder).glob(pattern)):
            code = [line.split("--")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
            told.update("\n".join(filter(None, code)).encode())
    return told.hexdigest()[:12]


def page(opportunities: int, weeks: int) -> str:
    every = Config(extends=("pipesync:all",), connections={"demo": ConnectionConfig(adapter="files")})
    with tempfile.TemporaryDirectory() as folder, Warehouse() as warehouse:
        exports = Path(folder) / "exports"
        generate(exports, opportunities=opportunities)
        settings = {"data": str(exports), "outbox": str(Path(folder) / "outbox")}
        adapter = open_adapter("demo", ConnectionConfig(adapter="files", options=settings), Path(folder))
        pull(adapter, warehouse)
        adapter.close()
        until = warehouse.pulled_to("demo")
        found = backtest(warehouse, "demo", Calendar(), list(rules.load(every)), until=until, weeks=weeks)
    head = HEAD.format(
        opportunities=opportunities, weeks=weeks, until=f"{until:%Y-%m-%d}", rep_weeks=found.rep_weeks,
        cases=MIN_CASES, made_from=made_from(),
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
