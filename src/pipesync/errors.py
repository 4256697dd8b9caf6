"""Every error pipesync raises on purpose, classed by what to do next.

    PipesyncError
    ├── InputError            mend the input (configuration, mapping, rule, dataset, option)   exit 2
    ├── StoreError            mend or free a store (locked, damaged, newer than this program)  exit 2
    ├── CrmError              the CRM said no, or nothing                                      exit 3
    │   ├── RetryLater        the same request may pass later (429, 5xx, lock, lost connection)
    │   ├── SignInRefused     credentials or the app's set-up
    │   ├── PermissionMissing a scope, a permission or a field that this user cannot see
    │   ├── BudgetSpent       our share of the CRM's daily limit is used; stop at a checkpoint
    │   └── RequestRefused    the request itself is wrong for this CRM; repeating cannot help
    ├── Stopped               somebody asked for it; run again, it goes on                     exit 4
    └── RecordRefused         one record cannot be read or written; skip it, keep the others   exit 4

Messages name the place and the mend, carry the CRM's request id where there is one, and never a response
body or a field's value: those hold customers' data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Place:
    """A position in a text file, as people count: lines and columns from 1. `line` 0: the file as a whole."""

    file: str
    line: int = 0
    column: int = 0
    text: str = ""
    """The source line itself, for the caret; empty where it could hold customers' data."""

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input: where, what, and how to mend it."""

    message: str
    place: Place | None = None
    fix: str = ""

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}" if self.place else self.message]
        if self.place and self.place.text and self.place.column:
            lines += [f"    {self.place.text}", "    " + " " * (self.place.column - 1) + "^"]
        if self.fix:
            lines.append(f"    {self.fix}")
        return "\n".join(lines)


class PipesyncError(Exception):
    """Base of all; `exit_code` is what a command ends with."""

    exit_code: ClassVar[int] = 2


class InputError(PipesyncError):
    """The input is wrong; `problems` holds all of them at once, not only the first."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems: Sequence[Problem] = tuple(
            p if isinstance(p, Problem) else Problem(p) for p in problems
        )
        super().__init__("\n".join(map(str, self.problems)))


class StoreError(PipesyncError):
    """The warehouse or the ledger cannot be used as it is."""


class CrmError(PipesyncError):
    """The CRM refused or could not be reached. `request_id` is the CRM's own, for its support."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, fix: str = "", code: str = "", request_id: str = "") -> None:
        self.fix, self.code, self.request_id = fix, code, request_id
        said = f"{message} [{code}]" if code else message
        said = f"{said} (request {request_id})" if request_id else said
        super().__init__(f"{said}\n    {fix}" if fix else said)


class RetryLater(CrmError):
    """`after` seconds is what the CRM asked for, or None where it did not say."""

    def __init__(
        self,
        message: str,
        *,
        after: float | None = None,
        fix: str = "",
        code: str = "",
        request_id: str = "",
    ) -> None:
        self.after = after
        super().__init__(message, fix=fix, code=code, request_id=request_id)


class SignInRefused(CrmError):
    """The credentials, or what the admin set up for them, were refused."""


class PermissionMissing(CrmError):
    """Signed in, but a scope, permission, object or field is out of reach."""


class BudgetSpent(CrmError):
    """The run's share of the CRM's request limit is used up; the next run goes on from the checkpoint."""


class RequestRefused(CrmError):
    """The CRM will never accept this request; the program or its configuration must change."""


class Stopped(PipesyncError):
    """A run ended at a checkpoint because it was asked to."""

    exit_code: ClassVar[int] = 4


class RecordRefused(PipesyncError):
    """One record was refused; the others of its batch are not affected."""

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, key: str, code: str = "", request_id: str = "") -> None:
        self.key, self.code, self.request_id = key, code, request_id
        super().__init__(message)
