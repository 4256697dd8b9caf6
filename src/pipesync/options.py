"""A connection's own options as its adapter reads them, and the secrets that they point at.

A secret never stands in a file of ours: an option names an environment variable, a file or an entry of the key ring.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError

from pipesync.config import ConnectionConfig, Section
from pipesync.errors import InputError, Problem
from pipesync.secrecy import hide
from pipesync.yamlsource import nearest

S = TypeVar("S", bound=Section)


def options_as(model: type[S], name: str, config: ConnectionConfig) -> S:
    """Return a connection's own options as its adapter's model; InputError with every problem and the nearest name."""
    try:
        return model.model_validate(config.options)
    except ValidationError as error:
        problems = []
        for e in error.errors(include_url=False):
            key = ".".join(map(str, e["loc"]))
            if e["type"] == "extra_forbidden":
                said, fix = f"unknown key {key!r}", nearest(key, model.model_fields)
            elif e["type"] == "missing":
                said, fix = f"key {key!r} is missing", f"add `{key}:`"
            else:
                said, fix = f"{key}: {e['msg'].removeprefix('Value error, ')}", ""
            problems.append(Problem(f"connection {name!r}: {said}", fix=fix))
        raise InputError(*problems) from None


def secret(options: dict[str, Any], name: str, *, connection: str) -> SecretStr:
    """Return the secret that `NAME_env`, `NAME_file` or `NAME_keyring` points at; InputError where there is none."""
    if variable := options.get(f"{name}_env"):
        value = os.environ.get(str(variable), "")
        fix = f"set the environment variable {variable}"
    elif file := options.get(f"{name}_file"):
        try:
            value = Path(str(file)).read_text(encoding="utf-8").strip()
        except OSError:
            value = ""
        fix = f"put it into the file {file}"
    elif entry := options.get(f"{name}_keyring"):
        value = _from_keyring(str(entry), connection)
        service, _, user = str(entry).rpartition("/")
        fix = f"put it there with `keyring set {service} {user}`"
    else:
        value, fix = "", f"give `{name}_env: VARIABLE` or `{name}_file: PATH` in the connection"
    if not value:
        raise InputError(Problem(f"connection {connection!r} has no {name}", fix=fix))
    return SecretStr(hide(value))


def _from_keyring(entry: str, connection: str) -> str:
    """Read SERVICE/USER from the system's key ring; "" where it has no such entry."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        fix = "pip install 'pipesync[keyring]'"
        raise InputError(Problem(f"connection {connection!r} asks for the key ring", fix=fix)) from None
    service, _, user = entry.rpartition("/")
    try:
        return keyring.get_password(service, user) or ""
    except KeyringError as error:
        why = f"connection {connection!r}: the key ring cannot be read ({type(error).__name__})"
        raise InputError(Problem(why, fix="unlock it, or name an environment variable or a file")) from None
