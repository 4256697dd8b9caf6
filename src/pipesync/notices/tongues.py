"""What notices say, in seven languages, with dates and money as the reader's country writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources

import yaml
from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_compact_currency, format_compact_decimal, format_decimal

LANGUAGES = ("en", "de", "fr", "es", "it", "pl", "sv")


@dataclass(frozen=True)
class Tongue:
    """A reader's language and form of numbers."""

    language: str
    locale: Locale
    texts: Mapping[str, str]

    def say(self, key: str, **slots: object) -> str:
        """Fill a text; what is put in is never read as a text again."""
        return self.texts[key].format_map({name: str(value) for name, value in slots.items()})

    def money(self, amount: Decimal | float | None, currency: str | None) -> str:
        value = amount or 0
        if currency is None:
            return str(format_compact_decimal(value, fraction_digits=1, locale=self.locale))
        return str(format_compact_currency(value, currency, fraction_digits=1, locale=self.locale))

    def number(self, value: float) -> str:
        return str(format_decimal(round(value), locale=self.locale))

    def day(self, day: date) -> str:
        return str(format_date(day, "medium", locale=self.locale))


def tongue(locale: str | None, usual: str) -> Tongue:
    """Return how to speak to somebody with this locale (`de_AT`, `pl`); `usual` where it is none that we speak."""
    for asked in (locale, usual):
        parts = (asked or "").replace("-", "_").split("_")
        if parts[0].lower() not in LANGUAGES:
            continue
        territory = next((p.upper() for p in parts[1:] if len(p) == 2 and p.isalpha()), None)
        return _tongue(parts[0].lower(), territory)
    return _tongue("en", None)


@cache
def _tongue(language: str, territory: str | None) -> Tongue:
    try:
        locale = Locale(language, territory)
    except (UnknownLocaleError, ValueError):
        locale = Locale(language)
    return Tongue(language, locale, texts_of(language))


@cache
def texts_of(language: str) -> Mapping[str, str]:
    text = (resources.files(__package__) / "texts" / f"{language}.yaml").read_text(encoding="utf-8")
    found: Mapping[str, str] = yaml.safe_load(text)
    return found
