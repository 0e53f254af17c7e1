"""What may import what, beyond the layers that import-linter holds: there is one way out, and no other."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NETWORK = {"httpx", "httptools", "requests", "urllib3", "socket", "http.client", "urllib.request", "smtplib", "ftplib"}
CONNECTS = {"create_connection", "create_unix_connection", "open_connection", "open_unix_connection", "sock_connect"}
"""What asyncio reaches the network by."""
WAYS_OUT = {"integrations/pagerduty/transport.py", "integrations/webhooks/transport.py"}
SANDBOX = "integrations/pagerduty/sandbox/"
KNOWN_USES = {"policies/journal.py": {"socket"}, "portal/oidc.py": {"requests"}}
"""The journal names its streams by ``socket.gethostname()``. Django-allauth asks OIDC providers by requests, and is told there
whom to trust."""


def sources() -> dict[str, ast.Module]:
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for package in ("portal", "integrations", "policies")
        for path in (ROOT / package).rglob("*.py")
    }


def imported(tree: ast.Module, package: str = "") -> set[str]:
    """``package``: where relative imports begin; without it they are left aside."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                parts = package.split(".")
                base = parts[: len(parts) - node.level + 1] + base if package else []
            if base:
                name = ".".join(base)
                found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
    return found


def test_only_the_transport_and_the_sandbox_import_a_way_to_the_network() -> None:
    for path, tree in sources().items():
        used = {name for name in NETWORK if any(one == name or one.startswith(f"{name}.") for one in imported(tree))}
        used -= KNOWN_USES.get(path, set())
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
        # The field module reads whose a sealed token is, the check opens a canary, and the secrets of second factors have keys
        # of their own: none opens a token.
        assert not decrypts or path in ("integrations/fields.py", "portal/checks.py", "portal/sign_in.py"), path


def test_a_webhooks_address_and_secrets_are_opened_in_its_transport_alone_and_only_the_outbox_sends() -> None:
    for path, tree in sources().items():
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if "open_for_webhook" in named | attributes | imported(tree):
            assert path == "integrations/webhooks/transport.py", path
        if "integrations.webhooks.transport" in imported(tree):
            assert path == "integrations/webhooks/deliveries.py", path


def test_nobody_makes_credentials_but_the_door_and_the_portals_own_jobs() -> None:
    """Whoever makes one decides as whom a call is judged. A tool that makes several calls must make them as its caller."""
    makers = {
        (path, node.func.id)
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Credential")
    }
    assert makers == {
        ("integrations/gateway/mcp.py", "KeyCredential"),
        ("integrations/gateway/rest.py", "KeyCredential"),
        ("integrations/gateway/web.py", "PersonCredential"),
        ("integrations/actions.py", "JobCredential"),
        ("integrations/mirror.py", "JobCredential"),
        ("integrations/gateway/pipeline.py", "JobCredential"),  # what bounds look up
    }


def test_the_sandbox_knows_nothing_of_the_portal() -> None:
    for path, tree in sources().items():
        if path.startswith(SANDBOX):
            ours = {
                name for name in imported(tree) if name.startswith(("portal", "policies", "integrations", "django"))
            }
            # Of the analysis, what a recurrence means: a standard's to say. Who is on call it works out for itself.
            ours -= {name for name in ours if name.startswith("integrations.pagerduty.analysis.recurrence")}
            assert all(name.startswith("integrations.pagerduty.sandbox") for name in ours), (path, ours)


def modules(root: Path) -> dict[str, tuple[ast.Module, set[str]]]:
    """Every module under a folder, but tests: its tree, and what it imports."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] == "tests" or any(part.startswith(".") or part == "node_modules" for part in parts):
            continue
        package = parts[:-1]
        tree = ast.parse(path.read_text())
        name = package if parts[-1] == "__init__" else parts
        found[".".join(name)] = (tree, imported(tree, ".".join(package)))
    return found


def reached(start: str, known: dict[str, tuple[ast.Module, set[str]]]) -> dict[str, str]:
    """Module → the one that imports it, of all that are imported with ``start``. Importing a module runs its packages, too."""
    found = {start: ""}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for each in {name} | (known[name][1] if name in known else set()):
            parts = each.split(".")
            for depth in range(1, len(parts) + 1):
                module = ".".join(parts[:depth])
                if module not in found:
                    found[module] = name
                    if module in known:
                        waiting.append(module)
    return found


BY_NAME = {"importlib", "runpy", "pkgutil", "imp", "zipimport", "builtins", "sys", "subprocess", "multiprocessing"}
"""Modules by which code that no import names can be run."""
RUNS = {"__import__", "__builtins__", "__loader__", "__spec__", "exec", "eval", "compile", "globals", "import_string"}


def analyses_that_could_know(root: Path) -> list[str]:
    """What is wrong under a folder: each module of an ``analysis`` that reaches the sandbox, or could without an import."""
    known = modules(root)
    wrong = []
    for name, (tree, imports) in known.items():
        if "analysis" not in name.split("."):
            continue
        chain = reached(name, known)
        link = min((each for each in chain if f"{each}.".startswith(SANDBOX.replace("/", "."))), default="")
        if link:
            wrong.append(f"{name} reaches {link} by {chain[link]}")
        names = {each.split(".")[0] for each in imports} & BY_NAME
        for node in ast.walk(tree):
            # As a name, or as a field of something or the last part of an import: re.compile is none of these.
            if isinstance(node, ast.Name) and node.id in RUNS:
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and node.attr in RUNS - {"compile"}:
                names.add(node.attr)
            elif isinstance(node, ast.alias) and node.name.split(".")[-1] in RUNS - {"compile"}:
                names.add(node.name)
        wrong += [f"{name} uses {each}" for each in sorted(names)]
    return wrong


def test_no_analysis_reaches_the_sandbox_which_knows_what_was_planted() -> None:
    assert "integrations.pagerduty.sandbox.truth" in modules(ROOT)
    assert analyses_that_could_know(ROOT) == []


@pytest.mark.parametrize(
    ("where", "text", "said"),
    [
        ("integrations/pagerduty/analysis/rotation.py", "import integrations.pagerduty.sandbox.truth", "reaches"),
        ("integrations/pagerduty/analysis/__init__.py", "from integrations.pagerduty import sandbox", "reaches"),
        ("integrations/pagerduty/analysis/rotation.py", "from ..sandbox.truth import truth", "reaches"),
        ("integrations/pagerduty/analysis/rotation.py", "from .. import sandbox", "reaches"),
        ("integrations/pagerduty/analysis.py", "def late():\n    from .sandbox import world", "reaches"),
        ("portal/analysis/deep/er.py", "from integrations.pagerduty.sandbox.world import generate", "reaches"),
        ("scripts/analysis/run.py", "from integrations.pagerduty import sandbox as account", "reaches"),
        ("policies/analysis/load.py", "from helpers.near import one", "reaches"),
        ("policies/analysis/load.py", "import packed.inner", "reaches"),
        ("policies/analysis/load.py", "import importlib", "uses importlib"),
        ("policies/analysis/load.py", "from importlib import import_module as load", "uses importlib"),
        ("policies/analysis/load.py", "from django.utils.module_loading import import_string as load", "import_string"),
        ("policies/analysis/load.py", "__import__('integrations.pagerduty.sandbox')", "uses __import__"),
        ("policies/analysis/load.py", "exec('import ' + 'integrations')", "uses exec"),
        ("policies/analysis/load.py", "import sys\nsys.modules", "uses sys"),
        (
            "policies/analysis/load.py",
            "import re\nre.compile('a')\nfrom integrations.pagerduty.catalog import TOOLS",
            "",
        ),
        ("policies/other/load.py", "import integrations.pagerduty.sandbox", ""),
        ("tests/analysis/test_load.py", "import integrations.pagerduty.sandbox", ""),
    ],
)
def test_the_guard_finds_an_analysis_that_could_know_the_truth(
    tmp_path: Path, where: str, text: str, said: str
) -> None:
    made = {
        "integrations/pagerduty/sandbox/__init__.py": "",
        "integrations/pagerduty/catalog.py": "TOOLS = 1",
        "helpers/near.py": "import helpers.far",
        "helpers/far.py": "def one():\n    from integrations.pagerduty.sandbox.truth import truth",
        "packed/__init__.py": "import integrations.pagerduty.sandbox.world",
        "packed/inner.py": "",
        where: text,
    }
    for path, content in made.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    found = analyses_that_could_know(tmp_path)
    assert len(found) == bool(said), found
    assert said in "".join(found)


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


def test_what_is_not_run_on_the_services_asks_none_of_them() -> None:
    """But for browsers, which are slow and see what other tests get from the services, and for what is judged at the door."""
    at_the_door = re.findall(
        r"\w+\.py",
        (ROOT / "Makefile").read_text().split("AT_THE_DOOR := $(addprefix tests/gateway/test_,")[1].split(")")[0],
    )
    assert len(at_the_door) == 12
    # Not as a part of the make that may run this: its variables would be handed on.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTEST"))}
    told = subprocess.run(
        ["make", "-n", "test-services"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    ).stdout
    left_out = re.findall(r"--(?:ignore|deselect)=(\S+)", told)
    assert "tests/policies/test_chain.py" in left_out
    for name in left_out:
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        if path.removeprefix("tests/gateway/test_") in at_the_door:
            continue
        if test:
            # Its portals have a database that the test says.
            assert f"def {test}(" in (ROOT / path).read_text(), name
            continue
        files = (
            [] if path == "tests/browser" else [ROOT / path] if path.endswith(".py") else (ROOT / path).glob("test_*")
        )
        for file in files:
            used = imported(ast.parse(file.read_text()), "tests")
            assert "tests.gateway.processes.Portal" not in used, file
            assert not re.search(r"\bdjango_db\b|\bcast\b|REDIS_URL", file.read_text()) or file == Path(__file__), file
