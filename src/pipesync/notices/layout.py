"""Laying a digest out as text and as HTML, by templates that a site may replace and that can run no code.

Templates are Jinja2 in its immutable sandbox: no attribute that starts with an underscore, no call that changes a
value, no import, no file but those of the template folder. What is put into HTML is escaped.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipesync.errors import InputError, Place, Problem
from pipesync.notices.digest import Digest


class _Sandbox(ImmutableSandboxedEnvironment):
    """A template gets a digest and nothing to call but filters, and cannot make a text of a gigabyte."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: object, operator: str, left: object, right: object) -> object:
        raise SecurityError(f"{operator} is not for templates")

    def is_safe_callable(self, obj: object) -> bool:
        return False


def lay_out(digest: Digest, form: str, folder: Path | None = None) -> str:
    """Return a digest as `txt` or `html`, by the folder's own `digest.FORM` where it has one.

    InputError where that template is wrong, or tries what templates may not.
    """
    name = f"digest.{form}"
    file = folder / name if folder is not None and (folder / name).is_file() else None
    shipped = resources.files(__package__) / "templates" / name
    source = (file or shipped).read_text(encoding="utf-8")
    environment = _Sandbox(
        autoescape=form == "html",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    place = Place(str(file or name))
    try:
        return environment.from_string(source).render(digest=digest)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(Problem(f"{error.message}", Place(place.file, error.lineno))) from None
    except SecurityError as error:
        raise InputError(Problem(f"tries what a template may not: {error}", place)) from None
    except (
        jinja2.TemplateError,
        TypeError,
        ValueError,
        ArithmeticError,
        RecursionError,
        AttributeError,
    ) as error:
        raise InputError(Problem(f"cannot be laid out: {type(error).__name__}: {error}", place)) from None
