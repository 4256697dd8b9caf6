"""The made-up company's own facts: how it sells, what, and who."""

from __future__ import annotations

from typing import NamedTuple

from pipesync.model import Category, Phase


class Step(NamedTuple):
    """A stage and how opportunities leave it. What is neither advanced nor sent back is lost."""

    name: str
    phase: Phase
    probability: float
    category: Category
    median_days: float
    """Business days."""
    advance: float
    back: float = 0.0


SLOW_STAGE = "Security review"
"""Where revenue waits longest, on purpose."""
PIPELINES: dict[str, tuple[Step, ...]] = {
    "New business": (
        Step("Qualify", "early", 0.1, "pipeline", 12, 0.64),
        Step("Discover", "early", 0.25, "pipeline", 18, 0.70, 0.03),
        # The rework loop: proposals that were made before the need was understood.
        Step("Propose", "middle", 0.5, "best_case", 14, 0.60, 0.22),
        Step(SLOW_STAGE, "middle", 0.6, "best_case", 55, 0.86, 0.01),
        Step("Negotiate", "late", 0.8, "commit", 16, 0.78, 0.03),
    ),
    "Renewals": (
        Step("Renewal due", "early", 0.4, "pipeline", 18, 0.94),
        Step("In review", "middle", 0.6, "best_case", 14, 0.91, 0.02),
        Step("Contract sent", "late", 0.85, "commit", 11, 0.93),
    ),
}
RENEWALS = 1
"""Index of the pipeline of renewals."""
SHARE_OF_RENEWALS = 0.3
WON, LOST = "Closed Won", "Closed Lost"

TEAMS = ("North", "South", "East", "West")
REPS_PER_TEAM = 6
FIRST_NAMES = (
    "Ada", "Ben", "Clara", "David", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Luca", "Mira", "Noah",
    "Olga", "Paul", "Quinn", "Rosa", "Sven", "Tara", "Uwe", "Vera", "Wim", "Yara", "Anton", "Birte", "Cem", "Dora",
    "Emil",
)  # fmt: skip
LAST_NAMES = (
    "Abel", "Brandt", "Costa", "Dorn", "Eriks", "Fischer", "Garcia", "Haas", "Ivanov", "Jansen", "Keller", "Lind",
    "Moreau", "Novak", "Okafor", "Peters", "Quist", "Rossi", "Sato", "Toth", "Urban", "Vogel", "Weiss", "Ziegler",
    "Young", "Ahmed", "Berg", "Conti", "Duval",
)  # fmt: skip
ZONES = ("Europe/Berlin", "Europe/Paris", "Europe/Warsaw", "Europe/Lisbon")

PRODUCTS: tuple[tuple[str, str, int], ...] = (
    ("Platform", "Core", 12000),
    ("Analytics", "Core", 7000),
    ("Gateway", "Integration", 4500),
    ("Connect", "Integration", 2500),
    ("Assurance", "Services", 3000),
    ("Onboarding", "Services", 1800),
)
SOURCES = ("Inbound", "Outbound", "Partner", "Event", "Referral")
SOURCE_LIFT = (0.05, -0.15, 0.10, -0.05, 0.25)
"""Added to the log odds of advancing."""
LOST_REASONS = ("Price", "No decision", "Competitor", "Missing feature", "Timing")
NEXT_STEPS = (
    "Agree the scope with the project lead", "Send the revised offer", "Meet the security team",
    "Demo for the finance team", "Get the redlines back from legal", "Confirm the budget owner",
)  # fmt: skip
INDUSTRIES = ("Manufacturing", "Retail", "Healthcare", "Logistics", "Finance", "Public sector")
COUNTRIES = ("DE", "FR", "PL", "PT", "NL", "SE")
ACCOUNT_WORDS = (
    ("Alder", "Birch", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Harbor", "Iris", "Juniper", "Kestrel", "Larch"),
    ("Works", "Foods", "Motors", "Systems", "Yarns", "Energy", "Freight", "Clinic", "Tools", "Optics", "Mills", "Labs"),
)  # fmt: skip
MONTH_WEIGHTS = (0.95, 1.0, 1.1, 1.0, 1.0, 1.05, 0.85, 0.75, 1.1, 1.1, 1.1, 0.9)
"""New opportunities by month: a mild summer dip."""
