"""What a pull loads: a process that only mirrors a CRM is small and starts at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipesync.sandbox.process import Sandbox

NEEDLESS = (
    "pandas", "sklearn", "scipy", "lifelines", "sqlglot", "jinja2", "starlette", "uvicorn", "pipesync.forecast",
    "pipesync.rules", "pipesync.analysis", "pipesync.features", "pipesync.report.html", "pipesync.sandbox",
    "sqlalchemy",
)  # fmt: skip
OF_CRM = {
    "salesforce": ("hubspot",),
    "hubspot": ("simple_salesforce", "zeep", "jwt", "cryptography"),
}
PULL = """
import sys
from pipesync.cli import main
main(["pull", "--config", sys.argv[1], "-q"], standalone_mode=False)
print(*sorted(sys.modules))
"""


@pytest.mark.parametrize(
    ("crm", "options"),
    [("salesforce", {}), ("salesforce", {"bulk_from": 20}), ("hubspot", {})],
    ids=["salesforce", "salesforce by Bulk", "hubspot"],
)
def test_a_pull_loads_what_it_needs_and_no_more(
    crm: str, options: dict[str, int], sandbox: Sandbox, tmp_path: Path
) -> None:
    """No frames, models, templates or servers, and nothing of another CRM's client."""
    config = tmp_path / "pipesync.yaml"
    config.write_text(yaml.safe_dump({"connections": {"crm": sandbox.settings(crm, tmp_path) | options}}))

    done = subprocess.run(
        [sys.executable, "-c", PULL, str(config)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"duckdb", "pyarrow"} <= loaded
    assert sorted(loaded & {*NEEDLESS, *OF_CRM[crm]}) == []
