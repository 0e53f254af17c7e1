"""``/catalogue/``: everything that there is, for everybody who is signed in, searched and filtered."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from integrations.pagerduty.catalog import CATEGORIES, OPERATIONS, REASONS, REFUSALS, TOOLS
from integrations.pagerduty.listing import anchor, title
from tests.conftest import Cast


def shown(client: Client, cast: Cast, query: str = "", who: str = "vic", **headers: str) -> str:
    client.force_login(getattr(cast, who))
    answer = client.get(f"/catalogue/{query}", headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def rows(page: str) -> set[str]:
    """Names of tools and refused operations that have a row."""
    return set(re.findall(r'<tr id="(\w+)">', page))


@pytest.mark.parametrize("who", ["ada", "mina", "omar", "vic", "rhea", "zed"])
def test_everybody_who_is_signed_in_sees_all_of_it(client: Client, cast: Cast, who: str) -> None:
    page = shown(client, cast, who=who)
    assert rows(page) == set(TOOLS) | set(REFUSALS)
    assert f"{len(OPERATIONS)} operations" in page
    assert f"{len(REFUSALS)} are refused" in page


def test_strangers_are_sent_to_the_sign_in(client: Client, cast: Cast) -> None:
    answer = client.get("/catalogue/")
    assert (answer.status_code, answer["Location"]) == (302, "/sign-in/?next=/catalogue/")


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_it_is_only_read(client: Client, cast: Cast, method: str) -> None:
    client.force_login(cast.ada)
    assert getattr(client, method)("/catalogue/").status_code == 405


def test_the_navigation_leads_to_it(client: Client, cast: Cast) -> None:
    client.force_login(cast.zed)
    assert 'href="/catalogue/"' in client.get("/").content.decode()


def test_every_category_and_reason_has_its_anchor(client: Client, cast: Cast) -> None:
    page = shown(client, cast)
    for name in [*map(anchor, CATEGORIES), *REASONS]:
        assert page.count(f'id="{name}"') == 1
        assert f'href="#{name}"' in page
    for reason, sentence in REASONS.items():
        assert title(reason) in page
        assert sentence.replace("'", "&#x27;") in page


def test_beside_each_operation_stand_its_method_and_path(client: Client, cast: Cast) -> None:
    page = re.sub(r"\s+", " ", shown(client, cast))
    for operation in OPERATIONS.values():
        beside = f'<span class="method">{operation.method}</span> <code class="path">{operation.path}</code></div> '
        assert f'{beside}<div class="text-secondary small">{operation.id}</div>' in page


def test_a_tool_tells_its_risk_default_scopes_and_bounds(client: Client, cast: Cast) -> None:
    page = shown(client, cast, "?text=create_incident_status_update&what=served")
    assert rows(page) == {"create_incident_status_update"}
    for told in (
        "risk-high",
        ">writes<",
        ">off<",
        "Scope: incidents.write",
        "On a bounded connection: owner looked up",
    ):
        assert told in page


def test_what_to_use_instead_links_to_the_tool(client: Client, cast: Cast) -> None:
    page = shown(client, cast, "?text=getAbility")
    assert rows(page) == {"getAbility"}
    assert '<a href="/catalogue/#list_abilities"><code>list_abilities</code></a>' in page


@pytest.mark.parametrize("name", ["deleteUser", "deleteuser", "list_incidents", "listPriorities"])
def test_a_whole_name_finds_that_alone(client: Client, cast: Cast, name: str) -> None:
    found = rows(shown(client, cast, f"?text={name}"))
    assert found == {{"deleteuser": "deleteUser", "listPriorities": "list_priorities"}.get(name, name)}


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("?text=snooze", {"snooze_incident"}, {"list_incidents", "deleteUser"}),
        ("?text=STATUS+page+severities", {"list_status_page_severities", "getStatusPageSeverity"}, {"list_incidents"}),
        ("?text=/v3/schedules/{id}/rotations", {"create_schedule_v3_rotation"}, {"list_users"}),
        ("?text=DELETE+/users/{id}", {"deleteUser"}, {"list_users"}),
        ("?text=end+of+life", {"listRulesets"}, {"list_incidents"}),
        ("?text=manage_incidents", {"update_incident", "resolve_incident"}, {"get_incident"}),
        ("?text=services.write", {"create_service"}, {"list_services", "deleteUser"}),
        ("?what=refused", {"deleteUser"}, set(TOOLS)),
        ("?what=served", set(TOOLS), set(REFUSALS)),
        ("?what=reads", {"list_incidents"}, {"create_incident", "deleteUser"}),
        ("?what=writes", {"create_incident"}, {"list_incidents", "deleteUser"}),
        ("?risk=high", {"create_incident"}, {"list_incidents", "update_incident", "deleteUser"}),
        ("?risk=medium&what=reads", {"list_user_contact_methods"}, {"update_incident", "list_incidents"}),
        ("?risk=low&what=refused", set(), {"deleteUser", "list_incidents"}),
    ],
)
def test_it_is_searched_and_filtered(
    client: Client, cast: Cast, query: str, there: set[str], not_there: set[str]
) -> None:
    found = rows(shown(client, cast, query))
    assert there <= found
    assert not not_there & found


def test_what_was_asked_stays_in_the_form_and_what_was_found_is_counted(client: Client, cast: Cast) -> None:
    page = shown(client, cast, "?text=snooze&what=served&risk=medium")
    assert 'value="snooze"' in page
    assert '<option value="served" selected>' in page
    assert '<option value="medium" selected>' in page
    assert "Found: 1 tool, 0 refused operations." in page


@pytest.mark.parametrize("query", ["?text=nothing-has-this-name", "?risk=enormous", "?what=x", f"?text={'a' * 300}"])
def test_where_nothing_fits_it_says_so(client: Client, cast: Cast, query: str) -> None:
    page = shown(client, cast, query)
    assert rows(page) == set()
    assert "Nothing here fits." in page


def test_what_was_typed_comes_back_as_text(client: Client, cast: Cast) -> None:
    page = shown(client, cast, "?text=%3Cscript%3Ealert(1)%3C/script%3E%00")
    assert "<script>alert" not in page


def test_htmx_gets_what_was_found_alone(client: Client, cast: Cast) -> None:
    page = shown(client, cast, "?text=snooze", **{"HX-Request": "true"})
    assert page.strip().startswith('<div id="found">')
    assert "<form" not in page
    assert "snooze_incident" in rows(page)
    back = shown(client, cast, "?text=snooze", **{"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert "<form" in back
    assert "HX-Request" in client.get("/catalogue/?text=snooze")["Vary"]


def test_it_costs_no_more_queries_than_knowing_who_asks_what_is_stopped_and_the_teams(
    client: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    client.force_login(cast.vic)
    with django_assert_max_num_queries(4):
        client.get("/catalogue/")
