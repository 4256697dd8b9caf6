"""Digests and alerts: what they say, whom they reach, and that nobody hears the same twice."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipesync.config import Config, DigestConfig, from_text, load
from pipesync.errors import InputError
from pipesync.model import Bottleneck, Finding, PeriodForecast, User
from pipesync.notices.delivery import is_due
from pipesync.notices.digest import Facts, digest, recipients
from pipesync.notices.layout import lay_out
from pipesync.notices.sending import NotSent, addresses, send
from pipesync.notices.tongues import LANGUAGES, texts_of
from pipesync.rules.examination import load_rules
from pipesync.sandbox.company import generate
from pipesync.store.ledger import Ledger
from pipesync.sync import sync_all

AS_OF = datetime(2026, 11, 23, 8, tzinfo=UTC)
CONFIGURATION = """\
connections:
  company: {adapter: files, data: exports}
notify:
  digest: {to_env: TEST_DIGEST, weekday: monday, hour: 0, leaders: [USR-025]}
  failures: {to_env: TEST_ALERTS}
"""


def finding(subject: str, owner: str, **more: object) -> Finding:
    given = {"rule": "hygiene.amount_missing", "severity": "medium", "message": f"{subject} has no amount.",
             "first_seen": AS_OF - timedelta(days=20), "amount": Decimal(1000)}  # fmt: skip
    return Finding.model_validate(
        {"connection": "crm", "subject_id": subject, "owner_id": owner, **given, **more}
    )


def foretold(scope: str, person: str, p50: int) -> PeriodForecast:
    money = {n: Decimal(p50 + d) for n, d in (("p10", -500), ("p50", 0), ("p90", 900), ("mean", 50))}
    return PeriodForecast.model_validate(
        {"scope": scope, "scope_id": person, "period_start": "2026-10-01", "period_end": "2027-01-01", "model": "m",
         "currency": "EUR", "closed": 0, "open": p50, "new": 0, **money}
    )  # fmt: skip


@pytest.fixture
def facts() -> Facts:
    users = [
        User(id="boss", name="Maja Nowak", locale="pl_PL", email="maja@example.com"),
        User(id="lead", name="Jörg Lang", locale="de_AT", manager_id="boss", email="joerg@example.com"),
        User(id="ann", name="Ann <b>Lee</b>", locale="en_GB", manager_id="lead", email="ann@example.com"),
        User(id="bob", name="Bob", manager_id="lead"),
        User(id="gone", name="Gone", manager_id="lead", is_active=False),
    ]
    return Facts(
        connection="crm", as_of=AS_OF, users={u.id: u for u in users},
        findings=[
            finding("O1", "ann"), finding("O1", "ann", rule="hygiene.no_next_step", message="O1 has no next step."),
            finding("O2", "bob", severity="critical", first_seen=AS_OF - timedelta(days=1), message="O2 <script>"),
        ],
        episodes=[], open={"ann": (2, Decimal(3000)), "bob": (1, Decimal(1000)), "gone": (1, Decimal(1))},
        forecasts={"": foretold("total", "", 1234567), "ann": foretold("owner", "ann", 3000)},
        week_ago=foretold("total", "", 1000000), score=71.6, currency="EUR",
        bottleneck=Bottleneck(kind="time", subject="Proposal", why="it waits 20 days", amount=Decimal(12000)),
    )  # fmt: skip


def text(facts: Facts, kind: Any, person: str) -> str:
    return lay_out(digest(facts, kind, person, "en"), "txt")


def test_a_rep_sees_their_own_and_nobody_elses(facts: Facts) -> None:
    """Their findings, the worst first, their forecast and what is open, in their country's form."""
    told = text(facts, "rep", "ann")

    assert "O1 has no amount." in told
    assert "O2" not in told
    assert "€3k" in told
    assert "Open opportunities: 2" in told


def test_everybody_is_spoken_to_in_their_language(facts: Facts) -> None:
    """By the CRM's locale; in the configured language where it tells none; numbers as the country writes them."""
    assert "Guten Tag Jörg Lang," in text(facts, "manager", "lead")
    assert "Dzień dobry, Maja Nowak," in text(facts, "leader", "boss")
    assert "1,2 mln €" in text(facts, "leader", "boss").replace("\xa0", " ")
    assert lay_out(digest(facts, "rep", "bob", "fr"), "txt").startswith("Bonjour Bob,")


def test_every_language_says_everything_with_the_same_slots() -> None:
    """A text that is missing, or that names other values, is found here."""
    import string

    def slots(language: str) -> dict[str, set[str]]:
        return {
            key: {name for _, name, _, _ in string.Formatter().parse(value) if name}
            for key, value in texts_of(language).items()
        }

    assert [slots(language) for language in LANGUAGES] == [slots("en")] * len(LANGUAGES)


def test_findings_are_told_in_the_readers_language(facts: Facts) -> None:
    """As their tasks are, with dates in the reader's form; in English where a rule has no words in it."""
    ruleset = load_rules(from_text(CONFIGURATION, Path()))
    said = finding(
        "O1", "ann", rule="hygiene.close_date_past", message="Deal was to close on 2 Oct 2026 and is still open.",
        values={"name": "Deal", "close_date": "2026-10-02"},
    )  # fmt: skip
    facts = replace(facts, ruleset=ruleset, findings=[said, finding("O2", "bob", rule="site.own")])

    assert "Deal sollte am 02.10.2026 abgeschlossen sein und ist noch offen." in text(
        facts, "manager", "lead"
    )
    assert "O2 has no amount." in text(facts, "manager", "lead")
    assert "Deal was to close on 2 Oct 2026" in text(facts, "rep", "ann")


def test_tasks_and_digests_speak_the_same_languages() -> None:
    """Who reads a digest in their language reads its findings in it too, for every recommended rule."""
    ruleset = load_rules(from_text(CONFIGURATION, Path()))
    opportunity_rules = {r.id for r in ruleset.rules.values() if r.task and r.level == "opportunity"}

    assert {"en", *ruleset.languages} == set(LANGUAGES)
    assert [t for t, one in ruleset.languages.items() if not opportunity_rules <= one.messages.keys()] == []


def test_a_manager_sees_each_rep_of_the_team(facts: Facts) -> None:
    """With findings, what is at stake (an opportunity once) and the forecast."""
    told = text(facts, "manager", "lead").replace("\xa0", " ")

    assert "Ann <b>Lee</b>: Befunde 2, betroffen" in told
    assert "Bob: Befunde 1" in told


def test_a_leader_sees_the_total_how_it_changed_and_where_revenue_waits(facts: Facts) -> None:
    """The interval, last week's, the score, the commonest rules and the first bottleneck."""
    told = lay_out(digest(facts, "leader", "boss", "en"), "txt").replace("\xa0", " ")

    assert "1,2 mln €" in told
    assert "Tydzień temu: 1 mln €" in told
    assert "72 na 100" in told
    assert "Proposal: szanse stoją tu dłużej" in told
    assert "it waits 20 days" not in told


def test_who_gets_one(facts: Facts) -> None:
    """Leaders as named, managers with people, reps with something open; nobody who left, nobody twice."""
    everyone = recipients(facts, ("reps", "managers", "leaders"), ("boss",))

    assert everyone == [("leader", "boss"), ("manager", "lead"), ("rep", "ann"), ("rep", "bob")]
    assert recipients(facts, ("reps",), ("boss",)) == [("rep", "ann"), ("rep", "bob")]


def test_what_the_crm_says_is_no_markup(facts: Facts) -> None:
    """Names and messages are escaped in HTML."""
    page = lay_out(digest(facts, "manager", "lead", "en"), "html")

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>Lee" not in page


@pytest.mark.parametrize(
    "template",
    [
        "{{ digest.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ range(10 ** 9) | list }}",
        "{{ 'a' * 10000000000 }}",
        "{{ digest.no_such }}",
        "{{ digest.title.format(1) }}",
        "{% if %}",
    ],
)
def test_a_template_can_run_no_code(facts: Facts, tmp_path: Path, template: str) -> None:
    """Every way out of the sandbox that we know of ends as one clear error that names the file."""
    (tmp_path / "digest.txt").write_text(template)

    with pytest.raises(InputError, match=r"digest\.txt"):
        lay_out(digest(facts, "rep", "ann", "en"), "txt", tmp_path)


def test_a_site_can_lay_digests_out_itself(facts: Facts, tmp_path: Path) -> None:
    """Its own text with ours beside: loops, conditions and filters work."""
    (tmp_path / "digest.txt").write_text(
        "{{ digest.title | upper }}{% for s in digest.sections %}|{{ s.lines | length }}{% endfor %}"
    )

    assert lay_out(digest(facts, "rep", "ann", "en"), "txt", tmp_path).startswith("YOUR PIPELINE")
    assert "<h1>" in lay_out(digest(facts, "rep", "ann", "en"), "html", tmp_path)


# --- Sending ----------------------------------------------------------------------------------------------------


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """A real HTTP server that takes notices as Apprise's JSON; it answers with the status in the list's end."""
    taken: list[dict[str, Any]] = []
    answers = [200]

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if answers[-1] == 200:
                taken.append({"path": self.path, **body})
            self.send_response(answers[-1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}", taken, answers
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("company")
    generate(folder / "exports", opportunities=60, activities_per_opportunity=2)
    (folder / "pipesync.yaml").write_text("connections:\n  company: {adapter: files, data: exports}\n")
    sync_all(load(folder / "pipesync.yaml"), ["company"])
    return folder


@pytest.fixture
def config(exports: Path, tmp_path: Path) -> Config:
    shutil.copytree(exports, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pipesync.yaml").write_text(CONFIGURATION)
    return load(tmp_path / "pipesync.yaml")


def test_a_week_is_told_once(
    config: Config, monkeypatch: pytest.MonkeyPatch, inbox: tuple[str, list[dict[str, Any]], list[int]]
) -> None:
    """Each person gets one message at their own address; a second sync in the same week sends none."""
    address, taken, _ = inbox
    monkeypatch.setenv("TEST_DIGEST", address + "/{email}")
    monkeypatch.setenv("TEST_ALERTS", address + "/ops")

    sync_all(config, ["company"])
    first = len(taken)
    sync_all(config, ["company"])

    assert first > 5
    assert len(taken) == first
    assert len({m["path"] for m in taken}) == first
    assert all("@example.com" in m["path"] and m["message"] and m["title"] for m in taken)


def test_what_nobody_took_stays_due(
    config: Config, monkeypatch: pytest.MonkeyPatch, inbox: tuple[str, list[dict[str, Any]], list[int]]
) -> None:
    """A mail server that is down spoils no sync; the next one sends what is left."""
    address, taken, answers = inbox
    monkeypatch.setenv("TEST_DIGEST", address + "/{email}")
    answers.append(503)

    done = sync_all(config, ["company"])["company"]
    answers.append(200)
    sync_all(config, ["company"])

    assert not isinstance(done, Exception)
    assert len(taken) > 5


def test_an_alert_is_sent_once_per_time_of_trouble(
    config: Config, monkeypatch: pytest.MonkeyPatch, inbox: tuple[str, list[dict[str, Any]], list[int]]
) -> None:
    """The first failed run is told with its error, the second is not; after a good run trouble is news again."""
    address, taken, _ = inbox
    monkeypatch.setenv("TEST_DIGEST", "json://127.0.0.1:9/{email}")
    monkeypatch.setenv("TEST_ALERTS", address + "/ops")
    monkeypatch.setattr("pipesync.notices.delivery.is_due", lambda *_: False)
    file = config.folder / "exports" / "opportunities.csv"
    kept = file.read_bytes()

    told = []
    for content in (None, None, kept, None):
        file.unlink(missing_ok=True)
        if content:
            file.write_bytes(content)
        sync_all(config, ["company"])
        told.append(len(taken))

    assert told == [1, 1, 1, 2]
    assert "company" in taken[0]["title"]
    assert "opportunities" in taken[0]["message"]


def test_nothing_is_sent_without_configuration(
    exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain configuration never comes as far as an address."""
    monkeypatch.setattr("pipesync.notices.delivery.send", lambda *_: pytest.fail("sent something"))
    shutil.copytree(exports, tmp_path, dirs_exist_ok=True)

    sync_all(load(tmp_path / "pipesync.yaml"), ["company"])

    with Ledger(load(tmp_path / "pipesync.yaml").ledger_url) as ledger:
        assert ledger.noticed("company", "digest", f"{datetime.now(UTC):%G-W%V}") == set()


@pytest.mark.parametrize(
    ("moment", "due"),
    [
        (datetime(2026, 11, 23, 6, 59, tzinfo=UTC), False),
        (datetime(2026, 11, 23, 7, 0, tzinfo=UTC), True),
        (datetime(2026, 11, 26, 3, 0, tzinfo=UTC), True),
        (datetime(2026, 11, 22, 23, 0, tzinfo=UTC), True),
    ],
    ids=["before the hour", "at the hour", "made up for on Thursday", "the week before, to its end"],
)
def test_when_a_digest_is_due(moment: datetime, due: bool) -> None:
    """From the weekday and hour on, until the week ends."""
    assert is_due(DigestConfig(weekday="monday", hour=7), moment) is due


@pytest.mark.parametrize("address", ["jsons://h.example.com/?verify=no", "nonsense"])
def test_an_address_that_is_unsafe_or_none_is_refused(address: str) -> None:
    """Certificates are verified whatever an address says; a typo is told without repeating it."""
    with pytest.raises(InputError) as caught:
        addresses(address)

    assert address not in str(caught.value)


def test_a_refusal_tells_nothing_of_the_address(inbox: tuple[str, list[dict[str, Any]], list[int]]) -> None:
    """Addresses hold tokens."""
    address, _, answers = inbox
    answers.append(500)

    with pytest.raises(NotSent) as caught:
        send([address + "/T0ken"], "title", "text")

    assert "T0ken" not in str(caught.value)


def test_previews_need_no_address(work: Path, pipesync: Callable[..., Any]) -> None:
    """The command shows every digest, and writes HTML where it is asked to; it sends nothing."""
    shown = pipesync("digest", "--html", "previews", "--format", "json")

    (entry,) = shown.document["connections"]
    kinds = {d["kind"] for d in entry["digests"]}
    assert kinds == {"rep", "manager"}
    assert len(list((work / "previews").glob("*.html"))) == len(entry["digests"])
    assert pipesync("digest", "--send").code == 2
