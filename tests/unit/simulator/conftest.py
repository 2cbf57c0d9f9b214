"""A desk a test: a provider, one session of it and its client."""

import pytest
from simulator_desk import Desk


@pytest.fixture
def new_desk(tmp_path):
    desks = []

    def new(**options):
        desks.append(Desk(tmp_path, options=options))
        return desks[-1]

    yield new
    for desk in desks:
        desk.ledger.__exit__(None, None, None)


@pytest.fixture
def desk(new_desk):
    return new_desk()
