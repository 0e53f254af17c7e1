"""A change of the encryption key under load: no call fails, before, during and after, and the old key is not needed any more."""

from __future__ import annotations

import threading
from pathlib import Path

from cryptography.fernet import Fernet

from tests.gateway.processes import Portal

NOTE = {"note": {"content": "the disk is full"}}


def test_no_call_fails_while_the_tokens_are_sealed_anew(upstream: tuple[str, Path], tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    portal = Portal(tmp_path, upstream[0], {"FIELD_ENCRYPTION_KEY": old})
    # The environment file wins over what is set, and holds a key of its own.
    settings = tmp_path / "environment"
    lines = [
        line for line in Path(portal.env["PAGEWARDEN_ENV_FILE"]).read_text().splitlines() if "FIELD_ENC" not in line
    ]
    settings.write_text("\n".join(lines) + "\n")
    portal.env["PAGEWARDEN_ENV_FILE"] = str(settings)
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        portal.env["FIELD_ENCRYPTION_KEY"] = f"{new},{old}"
        portal.start()
        stop, statuses = threading.Event(), list[int]()

        def work() -> None:
            while not stop.is_set():
                statuses.append(portal.call("GET", "/incidents").status)
                statuses.append(portal.call("POST", "/incidents/PT4KHLK/notes", NOTE).status)

        callers = [threading.Thread(target=work) for _ in range(2)]
        for caller in callers:
            caller.start()
        before = len(statuses)
        told = portal.manage("rotate_keys").stdout
        during = len(statuses)
        stop.wait(1.5)  # the portal takes the new seals over within a second
        stop.set()
        for caller in callers:
            caller.join()
        assert told.startswith("1 resealed")
        assert before < during < len(statuses)
        assert set(statuses) == {200, 201}
        portal.stop()
        portal.env["FIELD_ENCRYPTION_KEY"] = new
        portal.start()
        assert portal.call("GET", "/incidents").status == 200
    finally:
        portal.close()
