from __future__ import annotations

import pytest

from policies import actions


@pytest.fixture(autouse=True)
def no_refusals_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process counts refused sign-ins for a minute: those of one test must not thin out the next one's entries."""
    monkeypatch.setattr(actions, "_failures", {})
