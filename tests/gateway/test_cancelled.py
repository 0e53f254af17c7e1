"""A caller that goes away ends its own waiting, not the call: what was begun is finished and recorded."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import Any

import pytest

from integrations.actions import do_issue_agent_key, do_register_token
from integrations.gateway import runtime
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from policies.actions import do_set_tools
from policies.core.call import Call, Client, Door, KeyCredential, State
from policies.models import Entry
from tests.conftest import Cast
from tests.gateway.processes import free_port, running


@pytest.mark.django_db(transaction=True)
def test_a_write_whose_caller_has_gone_is_finished_and_recorded(cast: Cast, settings: Any) -> None:
    port = free_port()
    settings.PAGERDUTY_SANDBOX_URL = f"http://127.0.0.1:{port}"
    connection = do_register_token(
        cast.payments,
        name="Main",
        token=demo_tokens(7)["account"].value,
        kind="account",
        region="sandbox",
        from_email=demo_from_email(7),
        by=cast.ada,
        whole_account=True,
    )
    do_set_tools(cast.payments, states={"add_note_to_incident": State.ON}, tools=TOOLS, by=cast.ada)
    _, secret = do_issue_agent_key(connection, name="a", by=cast.ada, tools=TOOLS)
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        slow = json.dumps({"fault": "slow:1", "count": 1}).encode()
        urllib.request.urlopen(f"{settings.PAGERDUTY_SANDBOX_URL}/_sandbox/fault", slow, timeout=5).read()
        body = json.dumps({"note": {"content": "Looked."}}).encode()
        path, client = "/incidents/PI000000/notes", Client("127.0.0.1")
        call = Call(Door.REST, KeyCredential(secret), "POST", path, "", body, "application/json", client, time.time())

        async def go_away(started: runtime.Runtime) -> None:
            waiting = asyncio.create_task(started.pipeline.run(call))
            await asyncio.sleep(0.4)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await started.pipeline.drain()

        started = runtime.current()
        try:
            asyncio.run_coroutine_threadsafe(go_away(started), started.loop).result(timeout=20)
        finally:
            started.stop_thread()
    rows = (
        Entry.objects.filter(tool="add_note_to_incident", kind__in=["intent", "result"])
        .order_by("id")
        .values_list("kind", "outcome")
    )
    assert list(rows) == [("intent", "intended"), ("result", "done")]
