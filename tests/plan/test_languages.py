"""Tasks speak their assignee's language, with dates and money in its form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipesync import features, rules
from pipesync.config import Calendar, Config, from_text
from pipesync.errors import InputError
from pipesync.model import StandingFinding
from pipesync.rules.languages import TEXTS, untranslated
from pipesync.rules.linting import lint
from pipesync.store.ledger import Ledger

if TYPE_CHECKING:
    from tests.conftest import Build
    from tests.plan.conftest import Bench

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
COMMIT, PAST = "hygiene.stale_commit", "hygiene.close_date_past"
VALUES = {
    "name": "Acme",
    "amount": "12345.00",
    "last_activity_at": "2026-11-02T09:00:00",
    "close_date": "2026-11-09",
}
ENGLISH: dict[str, Any] = {  # Any: fields
    "message": "Acme is in Commit for 12,345 EUR; last activity 2 Nov 2026, and nothing is booked.",
    "headline": "Confirm or downgrade: Acme", "values": VALUES,
}  # fmt: skip


@pytest.mark.parametrize(
    ("locale", "subject", "said"),
    [
        ("fr_FR", "Confirmer ou rétrograder : Acme", "pour 12 345 € ; dernière activité : 2 nov. 2026"),
        ("fr_FR_EURO", "Confirmer ou rétrograder : Acme", "pour 12 345 € ;"),
        ("it_IT", "Conferma o declassa: Acme", "per 12.345 €; ultima attività: 2 nov 2026"),
        ("pl", "Potwierdź albo obniż kategorię: Acme", "na 12 345 €; ostatnia aktywność: 2 lis 2026"),
        ("sv-SE", "Bekräfta eller nedgradera: Acme", "för 12 345 €; senaste aktivitet: 2 nov. 2026"),
        ("en_GB", "Confirm or downgrade: Acme", "for €12,345; last activity 2 Nov 2026"),
        ("en_US", "Confirm or downgrade: Acme", "for €12,345; last activity Nov 2, 2026"),
        (
            "de_DE",
            "Bestätigen oder herabstufen: Acme",
            "mit 12.345 € im Commit; letzte Aktivität: 02.11.2026",
        ),
        ("es_ES", "Confirmar o rebajar: Acme", "por 12.345 €; última actividad: 2 nov 2026"),
        ("nl_NL", "Confirm or downgrade: Acme", "for € 12.345; last activity 2 Nov 2026"),
        ("xx_XX", "Confirm or downgrade: Acme", "for €12,345; last activity"),
        (None, "Confirm or downgrade: Acme", "for 12,345 EUR; last activity 2 Nov 2026"),
    ],
)
def test_a_task_is_said_in_its_assignees_language(
    bench: Bench, locale: str | None, subject: str, said: str
) -> None:
    """From the CRM's locale, however it is written; without one, or without a translation, it is English."""
    bench.user("rep", locale=locale)

    [change] = bench.plan(bench.finding(rule=COMMIT, **ENGLISH), currency="EUR").changes

    assert change.after["subject"] == subject
    assert said in " ".join(change.after["body"].split())


def test_the_site_says_what_is_usual(bench: Bench) -> None:
    """`tasks.language` speaks to those of whom the CRM tells nothing; the footer is said in it too."""
    bench.configure("tasks: {language: fr_CA}")

    [change] = bench.plan(bench.finding(rule=COMMIT, **ENGLISH), currency="EUR").changes

    assert "disparaît" in change.after["body"]
    assert "12 345 €" in " ".join(change.after["body"].split())


def test_the_manager_reads_their_own_language(bench: Bench) -> None:
    """What is escalated is said anew for the person who gets it."""
    bench.user("rep", locale="pl_PL", manager_id="boss")
    bench.user("boss", locale="sv_SE")
    finding = bench.finding(rule=COMMIT, **ENGLISH)
    bench.carry_out(bench.plan(finding, currency="EUR"))

    [change] = bench.plan(finding, as_of=NOW + timedelta(days=7)).changes

    assert (change.owner_id, change.after["subject"]) == ("boss", "Bekräfta eller nedgradera: Acme")


def test_a_finding_that_cannot_be_judged_keeps_its_words(bench: Bench) -> None:
    """An unknown point stays in the task in the language that it was said in: the second plan is empty."""
    bench.user("rep", locale="it_IT")
    finding = bench.finding(rule=COMMIT, **ENGLISH)
    bench.carry_out(bench.plan(finding, currency="EUR"))
    held = StandingFinding.model_validate(
        {n: v for n, v in dict(finding).items() if n in StandingFinding.model_fields} | {"last_seen": NOW}
    )

    assert bench.plan(held=[held]).changes == ()


def test_what_a_finding_names_travels_through_the_ledger(build: Build, tmp_path: Path) -> None:
    """Values come from the row as JSON and back from the ledger as they were."""
    row = {
        "id": "006A", "name": "Acme", "owner_id": "rep", "stage": "Offer", "created_at": NOW,
        "amount": Decimal("10.00"), "close_date": (NOW - timedelta(days=9)).date(), "is_closed": False, "is_won": False,
    }  # fmt: skip
    warehouse, ruleset = build(opportunities=[row]), rules.load().only([PAST])
    computed = features.compute(warehouse, "crm", NOW, Calendar())
    evaluation = rules.evaluate(warehouse, computed, ruleset)

    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.save_findings("crm", rules.advance([], evaluation, ruleset))
        [standing] = ledger.standing_findings("crm")

    assert standing.values == {"name": "Acme", "close_date": "2026-11-14"}


def test_the_recommended_preset_is_translated_whole() -> None:
    """Every rule with a task, and all that we say ourselves, in the six languages that ship."""
    ruleset = rules.load()

    assert sorted(ruleset.languages) == ["de", "es", "fr", "it", "pl", "sv"]
    assert untranslated(ruleset.languages, ruleset) == []
    assert all(set(language.texts) == set(TEXTS) for language in ruleset.languages.values())


def site(folder: Path, text: str) -> Config:
    (folder / "rules" / "languages").mkdir(parents=True)
    (folder / "rules" / "languages" / "nl.yaml").write_text(text, encoding="utf-8")
    return from_text("connections: {crm: {adapter: files}}\nrule_folders: [rules]\n", folder)


def test_a_site_adds_a_language_and_hears_what_is_missing(tmp_path: Path, bench: Bench) -> None:
    """One rule is translated; the others are English there, and lint names them."""
    translated = "{subject: 'Nieuwe datum: {name}', message: '{name} is te laat.'}"
    text = f"language: nl\nrules:\n  {PAST}: {translated}\n"
    site_config = site(tmp_path, text)
    bench.rules = rules.load(site_config)
    bench.user("rep", locale="nl_NL")

    made = bench.plan(bench.finding(**ENGLISH), bench.finding("006B", COMMIT, **ENGLISH))
    [note] = lint(site_config).notes

    assert {c.after["subject"] for c in made.changes} == {"Nieuwe datum: Acme", "Confirm or downgrade: Acme"}
    assert COMMIT in note.message
    assert PAST not in note.message
    assert "texts.footer" in note.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"rules: {{{PAST}: {{message: '{{nmae}}'}}}}", "unknown field 'nmae'"),
        (f"rules: {{{PAST}: {{message: '{{stage}} {{name}}'}}}}", "{stage} is not in the rule's own texts"),
        ("rules: {hygiene.close_date_pats: {message: x}}", "hygiene.close_date_past"),
        ("texts: {footr: x}", "unknown text 'footr'"),
        ("texts: {done: erledigt}", "{why}"),
        ("language: at", "its file 'nl'"),
        ("words: {}", "words"),
    ],
    ids=[
        "no field",
        "not the rule's field",
        "no rule",
        "no text",
        "a slot is lost",
        "another name",
        "unknown key",
    ],
)
def test_a_wrong_translation_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    """File, line and the mend, as for rules."""
    config = site(tmp_path, text if text.startswith("language") else f"language: nl\n{text}")

    with pytest.raises(InputError) as caught:
        rules.load(config, strict=True)

    assert said in str(caught.value)
    assert "nl.yaml" in str(caught.value)
