"""What `doctor` looks at beside the connections: rules, stores, files of secrets, the schedule, notices."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pipesync.adapters.base import Adapter, Check
from pipesync.config import Config
from pipesync.errors import PipesyncError, StoreError
from pipesync.notices.delivery import addresses_of
from pipesync.notices.sending import usable
from pipesync.pull import understood
from pipesync.rules.ruleset import load
from pipesync.store.ledger import Ledger
from pipesync.store.warehouse import Warehouse

_LONGEST_SKEW = timedelta(minutes=5)
_LONGEST_PAUSE = timedelta(hours=26)
_LEAST_SPACE = 500_000_000


def checks(config: Config, now: datetime) -> Iterator[Check]:
    """Yield what concerns the installation as a whole."""
    yield _rules(config)
    yield from _stores(config)
    yield from _secret_files(config)
    yield _schedule(config, now)
    yield from _notices(config)


def of_connection(config: Config, adapter: Adapter, now: datetime) -> Iterator[Check]:
    """Yield what an adapter tells of its connection, and what it does not look at itself: zone and clock."""
    told = []
    try:
        with understood("the checks"):
            for check in adapter.checks():
                told.append(check)
                yield check
    except PipesyncError as error:
        yield Check("checks", "failed", str(error).splitlines()[0], getattr(error, "fix", ""))
        return
    try:
        with understood("the account"):
            crm_zone, crm_time = adapter.connection().timezone, adapter.clock()
    except PipesyncError as error:
        if not any(check.status == "failed" for check in told):
            yield Check("account", "failed", str(error).splitlines()[0], getattr(error, "fix", ""))
        return
    ours = config.calendar.timezone
    if ours == "UTC" and crm_zone not in ("UTC", "GMT", "Etc/UTC"):
        fix = f"say `calendar: {{timezone: {crm_zone}}}`, or whose business days count"
        yield Check("zone", "warning", f"the CRM's is {crm_zone}, the calendar's is UTC", fix)
    else:
        yield Check("zone", "ok", f"calendar {ours}, CRM {crm_zone}")
    if not any(check.name == "clock" for check in told):
        skew = abs(now - crm_time)
        if skew > _LONGEST_SKEW:
            fix = "fine against a sandbox with a clock of its own; otherwise set this machine's clock"
            yield Check(
                "clock", "warning", f"{skew.total_seconds() / 3600:,.1f} hours from this machine's", fix
            )
        else:
            yield Check("clock", "ok", f"{crm_time:%Y-%m-%dT%H:%M:%SZ}")


def _rules(config: Config) -> Check:
    try:
        found = load(config)
    except PipesyncError as error:
        return Check("rules", "failed", str(error).splitlines()[0], "`pipesync rules lint` shows all of it")
    if found.problems:
        first = str(found.problems[0]).splitlines()[0]
        return Check(
            "rules", "failed", f"{len(found.problems)} mistakes; the first: {first}", "`pipesync rules lint`"
        )
    return Check("rules", "ok", f"{len(found.rules)} are on")


def _stores(config: Config) -> Iterator[Check]:
    folder = config.warehouse.parent
    try:
        if config.warehouse.exists():
            with Warehouse(config.warehouse):
                pass
        elif not os.access(next(p for p in (folder, *folder.parents) if p.exists()), os.W_OK):
            raise StoreError(f"{folder} cannot be written")
        yield Check("warehouse", "ok", str(config.warehouse))
    except StoreError as error:
        in_use = "is in use" in str(error)
        fix = "fine while a run works" if in_use else "let the schedule's user own the folder"
        yield Check("warehouse", "warning" if in_use else "failed", str(error), fix)
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    needed = max(_LEAST_SPACE, 3 * (config.warehouse.stat().st_size if config.warehouse.exists() else 0))
    if free < needed:
        yield Check(
            "disk",
            "warning",
            f"{free / 1e9:,.1f} GB are free",
            f"keep {needed / 1e9:,.1f} GB: runs copy the store",
        )
    else:
        yield Check("disk", "ok", f"{free / 1e9:,.1f} GB are free")
    try:
        with Ledger(config.ledger_url) as ledger:
            yield Check("ledger", "ok", ledger.told())
    except PipesyncError as error:
        yield Check("ledger", "failed", str(error).splitlines()[0], "check `store.ledger` or PIPESYNC_LEDGER")


def _secret_files(config: Config) -> Iterator[Check]:
    named = [
        (f"{name}.{key}", config.path(Path(str(value))))
        for name, connection in config.connections.items()
        for key, value in connection.options.items()
        if key.endswith("_file") and value
    ]
    for name, file in named:
        if file.exists() and os.name != "nt" and file.stat().st_mode & 0o077:
            yield Check(f"secret {name}", "warning", f"{file} can be read by others", f"chmod 600 {file}")
        elif file.exists():
            yield Check(f"secret {name}", "ok", str(file))


def _schedule(config: Config, now: datetime) -> Check:
    """Judge by the runs: a unit that is there and does not run is worth nothing. Say which unit can be seen."""
    fix = "`pipesync schedule systemd` (or cron, kubernetes, ...) prints one"
    try:
        with Ledger(config.ledger_url) as ledger:
            runs = [run for run in ledger.runs(limit=200) if run.kind == "sync"]
    except PipesyncError:
        return Check("schedule", "warning", "the ledger cannot tell", "mend the ledger first")
    unit = _unit(config)
    seen = f"{unit} has one" if unit else "neither this user's crontab nor systemd has one"
    if not runs:
        return Check(
            "schedule", "ok" if unit else "warning", f"no sync has run yet; {seen}", "" if unit else fix
        )
    age = now - runs[0].started_at
    if age > _LONGEST_PAUSE:
        why = f"the last sync began {age.total_seconds() / 3600:,.0f} hours ago; {seen}"
        asked = {"crontab": "look at cron's mail or log", "systemd": "`systemctl status pipesync.timer`"}
        return Check("schedule", "failed", why, asked.get(unit, fix))
    began = f"the last sync began {runs[0].started_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return Check("schedule", "ok", f"{began}; {seen}")


def _unit(config: Config) -> str:
    """Return which scheduler of this machine names the configuration's folder; "" where none is seen."""
    folder = str(config.folder.resolve())

    def runs_here(text: str) -> bool:
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
        return any("pipesync" in line and f"{folder}/" in line for line in lines)

    if crontab := shutil.which("crontab"):
        try:
            told = subprocess.run([crontab, "-l"], capture_output=True, text=True, timeout=5, check=False)  # noqa: S603  # crontab itself
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            pass
        else:
            if runs_here(told.stdout):
                return "crontab"
    for units in (Path.home() / ".config/systemd/user", Path("/etc/systemd/system")):
        for unit in sorted(units.glob("*.service")):
            try:
                if runs_here(unit.read_text(encoding="utf-8")):
                    return "systemd"
            except (OSError, UnicodeDecodeError):
                continue
    return ""


def _notices(config: Config) -> Iterator[Check]:
    for name, asked in (("notify.digest", config.notify.digest), ("notify.failures", config.notify.failures)):
        if asked is None:
            continue
        try:
            found = addresses_of(config, asked, name)
        except PipesyncError as error:
            yield Check(name, "failed", str(error).splitlines()[0], "see docs/how-to/operate.md, Notices")
            continue
        for number, address in enumerate(found, 1):
            yield _reachable(f"{name} {number}", address)


def _reachable(name: str, address: str) -> Check:
    """Try the address's own host, where it names one; nothing is sent, and nothing of it is told but its kind."""
    parts = urlsplit(address)
    if not usable(address):
        return Check(name, "failed", f"{parts.scheme} cannot be used like this", "see Apprise's page for it")
    host = parts.hostname or ""
    if "." not in host and host != "localhost":
        return Check(name, "ok", f"{parts.scheme}: well formed")  # the service's host is Apprise's to know
    secure = parts.scheme.endswith("s")
    port = parts.port or {"mailto": 25, "mailtos": 587}.get(parts.scheme, 443 if secure else 80)
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return Check(
            name, "failed", f"{parts.scheme}: no answer ({type(error).__name__})", "check host and port"
        )
    return Check(name, "ok", f"{parts.scheme}: answers")
