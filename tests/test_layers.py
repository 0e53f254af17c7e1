"""What may import what, beyond the layers that import-linter holds: there is one way out, and no other."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NETWORK = {"httpx", "httptools", "requests", "urllib3", "socket", "http.client", "urllib.request", "smtplib", "ftplib"}
CONNECTS = {"create_connection", "create_unix_connection", "open_connection", "open_unix_connection", "sock_connect"}
"""What asyncio reaches the network by."""
WAYS_OUT = {"integrations/pagerduty/transport.py"}
SANDBOX = "integrations/pagerduty/sandbox/"
NAMES_THE_HOST = {"policies/journal.py": {"socket"}, "portal/demo.py": {"socket"}}
"""The journal names its streams by ``socket.gethostname()``; the demo looks whether its own ports are free."""


def sources() -> dict[str, ast.Module]:
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for package in ("portal", "integrations", "policies")
        for path in (ROOT / package).rglob("*.py")
    }


def imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_only_the_transport_and_the_sandbox_import_a_way_to_the_network() -> None:
    for path, tree in sources().items():
        used = {name for name in NETWORK if any(one == name or one.startswith(f"{name}.") for one in imported(tree))}
        used -= NAMES_THE_HOST.get(path, set())
        assert not used or path in WAYS_OUT or path.startswith(SANDBOX), (path, used)


def test_only_the_transport_and_the_sandbox_open_connections() -> None:
    for path, tree in sources().items():
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr in CONNECTS
            and not (isinstance(node.value, ast.Name) and node.value.id == "connections")  # Django's, to a database
        }
        assert not used or path in WAYS_OUT or path.startswith(SANDBOX), (path, used)


def test_the_journal_uses_its_socket_module_for_the_hosts_name_alone() -> None:
    tree = sources()["policies/journal.py"]
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket"
    }
    assert used == {"gethostname"}


def test_only_the_integration_holds_the_transport_and_only_the_pipeline_sends() -> None:
    for path, tree in sources().items():
        if "integrations.pagerduty.transport" in imported(tree):
            assert path == "integrations/pagerduty/integration.py", path
        sends = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr == "send"
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "integration"
        ]
        assert not sends or path == "integrations/gateway/pipeline.py", path


def test_the_token_is_unsealed_in_the_transport_and_nowhere_else() -> None:
    for path, tree in sources().items():
        if path == "integrations/pagerduty/transport.py":
            continue
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | imported(tree)
        assert "unseal" not in named, path
        decrypts = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "decrypt"]
        # The field module reads whose a sealed token is, and the check opens a canary: neither opens a token.
        assert not decrypts or path in ("integrations/fields.py", "portal/checks.py"), path


def test_the_sandbox_knows_nothing_of_the_portal() -> None:
    for path, tree in sources().items():
        if path.startswith(SANDBOX):
            ours = {
                name for name in imported(tree) if name.startswith(("portal", "policies", "integrations", "django"))
            }
            assert all(name.startswith("integrations.pagerduty.sandbox") for name in ours), (path, ours)


def test_nothing_is_left_for_later() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")
    for package in ("portal", "integrations", "policies", "templates", "static"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".html", ".js", ".toml") and "vendor" not in path.parts:
                assert not any(word in path.read_text() for word in words), path


def test_vendored_files_are_what_was_vendored() -> None:
    import hashlib

    folder = ROOT / "static" / "vendor"
    lines = (line.split(maxsplit=1) for line in (folder / "SHA256SUMS").read_text().splitlines())
    listed = {name: digest for digest, name in lines}
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    found.pop("SHA256SUMS")
    assert set(found) == set(listed)
    for name, path in found.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name]
