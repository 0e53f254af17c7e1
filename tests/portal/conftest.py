from __future__ import annotations

import pytest

from integrations.actions import do_register_token
from integrations.models import Connection
from policies import actions
from tests.conftest import Cast


@pytest.fixture(autouse=True)
def no_refusals_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process counts refused sign-ins for a minute: those of one test must not thin out the next one's entries."""
    monkeypatch.setattr(actions, "_failures", {})


@pytest.fixture
def connection(cast: Cast) -> Connection:
    """Payments' connection, which spans the whole account."""
    return do_register_token(
        cast.payments,
        name="Main",
        token="y_NbAkKc66ryYTWUXYEu",
        kind="account",
        region="us",
        by=cast.ada,
        whole_account=True,
    )
