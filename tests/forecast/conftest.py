"""One small simulated company, as its CRM looked at one moment, shared by the tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from benchmarks import simulate
from tests.forecast.worlds import AS_OF, NAME, PERIOD, features

from pipesync.forecast import Forecast, Model, fit_model, history, predict
from pipesync.forecast.history import History
from pipesync.forecast.training import Training, training_at
from pipesync.store.warehouse import Warehouse


@pytest.fixture(scope="session")
def company() -> simulate.Company:
    return simulate.company(3, reps=8, weeks=60, per_rep_week=1.5)


@pytest.fixture(scope="session")
def warehouse(company: simulate.Company) -> Iterator[Warehouse]:
    with company.warehouse(AS_OF) as opened:
        yield opened


@pytest.fixture(scope="session")
def past(warehouse: Warehouse) -> History:
    return history.load(warehouse, NAME)


@pytest.fixture(scope="session")
def training(past: History) -> Training:
    return training_at(past, history.to_ms(AS_OF), most_rows=1200)


@pytest.fixture(scope="session")
def model(warehouse: Warehouse) -> Model:
    return fit_model(warehouse, features(), PERIOD)


@pytest.fixture(scope="session")
def forecast(warehouse: Warehouse, model: Model) -> Forecast:
    return predict(warehouse, features(), PERIOD, model=model)


@pytest.fixture(scope="session")
def owners(warehouse: Warehouse) -> pd.Series[str]:
    frame = warehouse.frame("SELECT id, owner_id FROM opportunities")
    return frame.set_index("id")["owner_id"]
