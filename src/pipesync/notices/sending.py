"""Handing a notice to Apprise, which knows mail, Slack, Teams and a hundred more by address.

An address holds a secret, so it comes from the environment or a file, never from the configuration. `{email}` in one is
the recipient's. Certificates are always verified: an address that says otherwise is refused.
"""

from __future__ import annotations

import re
import warnings
from urllib.parse import parse_qs, quote, urlsplit

from pipesync.errors import InputError, PipesyncError, Problem
from pipesync.secrecy import hide


class NotSent(PipesyncError):
    """A notice did not go out; it is tried again with the next run."""


def addresses(text: str, email: str = "") -> list[str]:
    """Return the addresses, one a line or separated by spaces; without those that want an e-mail that is not there."""
    found = []
    for address in text.split():
        hide(address)
        if "{email}" in address and not email:
            continue
        said = parse_qs(urlsplit(address).query).get("verify", ["yes"])[-1].lower()
        if said in ("no", "n", "false", "0", "off"):
            fix = "take `verify=no` out of the address"
            raise InputError(Problem("a notice's address turns the certificate's verification off", fix=fix))
        if not re.match(r"[a-z][a-z0-9+.-]*://", address, re.IGNORECASE):
            raise InputError(
                Problem("a notice's address is none", fix="write it as Apprise does: mailtos://...")
            )
        found.append(address.replace("{email}", quote(email, safe="@")))
    return found


def usable(address: str) -> bool:
    """Whether Apprise can make something of an address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        return bool(apprise.Apprise().add(address))


def send(to: list[str], title: str, text: str, html: str | None = None) -> None:
    """Send to every address; NotSent where one refused or cannot be used. Nothing of an address is told."""
    # Here: it costs more than the rest of a run's imports. Its mail plugin imports what Python will drop.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        targets = [(urlsplit(address).scheme, apprise.Apprise(), address) for address in to]
        for scheme, target, address in targets:
            if not target.add(address):
                raise NotSent(f"an address of kind {scheme!r} cannot be used; see Apprise's own pages")
    for scheme, target, _ in targets:
        body, form = text, apprise.NotifyFormat.TEXT
        if html is not None and all(apprise.NotifyFormat.HTML in (s.notify_format or ()) for s in target):
            body, form = html, apprise.NotifyFormat.HTML
        if not target.notify(title=title, body=body, body_format=form):
            raise NotSent(f"{scheme} did not take the notice")
