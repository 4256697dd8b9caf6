"""Ready schedules: one complete unit each for cron, systemd, Kubernetes, GitHub Actions and Windows.

Pure text from a `Schedule`. Every unit runs `pipesync sync`, starts a little late at random so that many
installations do not meet at the CRM at once, never starts a second run beside the first (the ledger's lease
refuses one as well, whatever the scheduler does), makes up for a missed start where the scheduler can, and stops
with SIGTERM, on which sync ends at its next checkpoint.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from xml.sax.saxutils import escape

from pipesync.errors import InputError, Problem

GRACE_SECONDS = 120
"""How long a scheduler waits after SIGTERM: longer than any single request with its retries."""


@dataclass(frozen=True)
class Schedule:
    """What is to run: `command` is an absolute path to pipesync, `secrets` the variables the configuration names."""

    config: PurePath
    command: PurePath
    every_minutes: int = 60
    """A divisor of an hour, or whole hours that divide a day."""
    jitter_seconds: int = 300
    secrets: tuple[str, ...] = ()
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        minutes = self.every_minutes
        if minutes < 5 or not (60 % minutes == 0 or (minutes % 60 == 0 and 1440 % minutes == 0)):
            raise InputError(
                Problem(
                    f"a run every {minutes} minutes cannot be scheduled", fix="use 5 to 30, 60, 120, ... 1440"
                )
            )
        for path in (self.config, self.command):
            if any(c in str(path) for c in "\n\r\0"):
                raise InputError(
                    Problem("a path with a line break cannot be scheduled", fix="rename the folder")
                )


def render(kind: str, schedule: Schedule) -> str:
    """Return the unit's text; InputError for a kind that is not in `KINDS`."""
    if kind not in KINDS:
        raise InputError(Problem(f"no schedule of kind {kind!r}", fix="one of " + ", ".join(KINDS)))
    return KINDS[kind](schedule)


def _cron_times(every_minutes: int) -> str:
    if every_minutes < 60:
        return f"*/{every_minutes} * * * *"
    hours = every_minutes // 60
    return "0 * * * *" if hours == 1 else "0 0 * * *" if hours == 24 else f"0 */{hours} * * *"


def _cron(schedule: Schedule) -> str:
    run = f"{shlex.quote(str(schedule.command))} sync --config {shlex.quote(str(schedule.config))} --quiet"
    late = f"sleep $(($(od -An -N2 -tu2 /dev/urandom) \\% {max(schedule.jitter_seconds, 1)}))"
    secrets = "".join(f"# {name} must be set here, or come from a file that the configuration names\n" for name in
                      schedule.secrets)  # fmt: skip
    return (
        "# pipesync: add with `crontab -e`. cron mails what a failing run prints to MAILTO.\n"
        f'MAILTO=""\nCRON_TZ={schedule.timezone}\nSHELL=/bin/sh\n{secrets}'
        f"{_cron_times(schedule.every_minutes)} {late}; {run.replace('%', chr(92) + '%')}\n"
    )


def _systemd_quoted(path: PurePath) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'


def _systemd_path(path: PurePath) -> str:
    """A path setting is not split at spaces and takes no quotes; only specifiers must be escaped."""
    return str(path).replace("%", "%%")


def _calendar(every_minutes: int) -> str:
    if every_minutes < 60:
        return f"*-*-* *:0/{every_minutes}:00"
    hours = every_minutes // 60
    return "*-*-* *:00:00" if hours == 1 else "*-*-* 00:00:00" if hours == 24 else f"*-*-* 0/{hours}:00:00"


def _systemd(schedule: Schedule) -> str:
    folder = schedule.config.parent
    return f"""\
# /etc/systemd/system/pipesync.service
[Unit]
Description=pipesync: one sync of the sales pipeline
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={_systemd_path(folder)}
EnvironmentFile=-/etc/pipesync/environment
ExecStart={_systemd_quoted(schedule.command)} sync --config {_systemd_quoted(schedule.config)} --quiet
# 4: some records failed and are listed by `pipesync status`; the run itself is good
SuccessExitStatus=4
KillSignal=SIGTERM
TimeoutStopSec={GRACE_SECONDS}
UMask=0077
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=full

# /etc/systemd/system/pipesync.timer
[Unit]
Description=pipesync: when to sync

[Timer]
OnCalendar={_calendar(schedule.every_minutes)} {schedule.timezone}
RandomizedDelaySec={schedule.jitter_seconds}
Persistent=true

[Install]
WantedBy=timers.target
"""


def _kubernetes(schedule: Schedule) -> str:
    secrets = "".join(
        f"""
                - name: {name}
                  valueFrom:
                    secretKeyRef: {{name: pipesync, key: {name}}}"""
        for name in schedule.secrets
    )
    environment = f"\n              env:{secrets}" if secrets else ""
    return f"""\
# kubectl create configmap pipesync --from-file=pipesync.yaml
# kubectl create secret generic pipesync --from-literal=NAME=value
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: pipesync
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests: {{storage: 5Gi}}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: pipesync
spec:
  schedule: "{_cron_times(schedule.every_minutes)}"
  timeZone: "{schedule.timezone}"
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {schedule.every_minutes * 60}
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 5
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: {GRACE_SECONDS}
          securityContext: {{runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001}}
          containers:
            - name: pipesync
              image: pipesync:latest
              args: [sync, --config, /etc/pipesync/pipesync.yaml, --jitter, "{schedule.jitter_seconds}s"]{environment}
              securityContext:
                readOnlyRootFilesystem: true
                allowPrivilegeEscalation: false
                capabilities: {{drop: [ALL]}}
              resources:
                requests: {{cpu: 250m, memory: 512Mi}}
                limits: {{memory: 2Gi}}
              volumeMounts:
                - {{name: config, mountPath: /etc/pipesync, readOnly: true}}
                - {{name: data, mountPath: /var/lib/pipesync}}
                - {{name: tmp, mountPath: /tmp}}
          volumes:
            - name: config
              configMap: {{name: pipesync}}
            - name: data
              persistentVolumeClaim: {{claimName: pipesync}}
            - name: tmp
              emptyDir: {{}}
"""


def _github_actions(schedule: Schedule) -> str:
    secrets = "".join(
        f"\n          {n}: ${{{{ secrets.{n} }}}}" for n in (*schedule.secrets, "PIPESYNC_LEDGER")
    )
    return f"""\
# .github/workflows/pipesync.yml; the warehouse travels in the cache, the ledger must be a PostgreSQL by URL
name: pipesync
on:
  schedule:
    - cron: "{_cron_times(schedule.every_minutes)}"
  workflow_dispatch:
permissions:
  contents: read
concurrency:
  group: pipesync
  cancel-in-progress: false
jobs:
  sync:
    runs-on: ubuntu-latest
    timeout-minutes: {min(schedule.every_minutes, 360)}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - uses: actions/cache@v4
        with:
          path: warehouse.duckdb
          key: pipesync-${{{{ github.run_id }}}}
          restore-keys: pipesync-
      - run: python -m pip install "pipesync[postgres]"
      - run: pipesync sync --config {schedule.config.name} --jitter {schedule.jitter_seconds}s
        env:{secrets}
"""


def _duration(minutes: int) -> str:
    return f"PT{minutes}M" if minutes < 60 else f"PT{minutes // 60}H"


def _windows(schedule: Schedule) -> str:
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<!-- schtasks /Create /TN pipesync /XML pipesync.xml /RU DOMAIN\\account /RP -->
<Task version="1.4" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>pipesync: one sync of the sales pipeline</Description>
  </RegistrationInfo>
  <Triggers>
    <TimeTrigger>
      <Enabled>true</Enabled>
      <StartBoundary>2026-01-01T00:00:00Z</StartBoundary>
      <Repetition>
        <Interval>{_duration(schedule.every_minutes)}</Interval>
      </Repetition>
      <RandomDelay>PT{schedule.jitter_seconds}S</RandomDelay>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <LogonType>Password</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>true</RunOnlyIfNetworkAvailable>
    <Enabled>true</Enabled>
    <ExecutionTimeLimit>PT6H</ExecutionTimeLimit>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(str(schedule.command))}</Command>
      <Arguments>sync --config "{escape(str(schedule.config))}" --quiet</Arguments>
      <WorkingDirectory>{escape(str(schedule.config.parent))}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


KINDS: dict[str, Callable[[Schedule], str]] = {
    "cron": _cron,
    "systemd": _systemd,
    "kubernetes": _kubernetes,
    "github-actions": _github_actions,
    "windows": _windows,
}

UNIT_FILE = re.compile(r"^# /etc/systemd/system/(?P<name>[\w.-]+)$", re.MULTILINE)
"""Divides the two units of the systemd text."""
