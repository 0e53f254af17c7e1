from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.processes import Portal, recording_upstream

WRITES = {"add_note_to_incident": "on", "update_incident": "needs_approval"}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with recording_upstream(tmp_path_factory.mktemp("upstream")) as running:
        yield running


@pytest.fixture(scope="module")
def portal(upstream: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """A running portal whose upstream answers everything; notes are on, updates need approval."""
    portal = Portal(tmp_path_factory.mktemp("portal"), upstream[0], {"REQUEST_BODY_LIMIT": "20000"})
    try:
        portal.seed(states=WRITES)
        portal.start()
        yield portal
    finally:
        portal.close()
