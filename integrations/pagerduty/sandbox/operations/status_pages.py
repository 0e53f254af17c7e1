"""Status pages, the words they use, and what is posted on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    boolean,
    list_of,
    moment,
    one_of,
    record,
    string,
    whole,
)
from integrations.pagerduty.sandbox.world import (
    API,
    DAY,
    iso,
    parse_time,
)

POST_TYPES: Final = ("incident", "maintenance")
REVIEWED: Final = ("approved", "not_reviewed")


def _one_of_query(ask: Ask, name: str, values: Iterable[str]) -> str:
    text = ask.one(name)
    if text and text not in values:
        raise invalid(f"{name.replace('_', ' ').capitalize()} must be {' or '.join(values)}")
    return text


@route("GET", "/status_pages", "status_pages.read")
def list_pages(ask: Ask) -> Result:
    kind = _one_of_query(ask, "status_page_type", ("public", "private"))
    rows = [row for row in ask.world.status_pages if kind in ("", row["status_page_type"])]
    shown = ("id", "name", "published_at", "status_page_type", "url")
    return 200, ask.page(
        "status_pages", rows, lambda row: {**{name: row[name] for name in shown}, "type": "status_page"}
    )


def _words(ask: Ask, plural: str) -> Result:
    """The severities, impacts or statuses of a page."""
    page = find(ask.world.status_pages, ask.path["id"])
    kind = _one_of_query(ask, "post_type", POST_TYPES)
    return 200, ask.page(plural, [row for row in page[plural] if kind in ("", row["post_type"])])


@route("GET", "/status_pages/{id}/severities", "status_pages.read")
def list_severities(ask: Ask) -> Result:
    return _words(ask, "severities")


@route("GET", "/status_pages/{id}/impacts", "status_pages.read")
def list_impacts(ask: Ask) -> Result:
    return _words(ask, "impacts")


@route("GET", "/status_pages/{id}/statuses", "status_pages.read")
def list_statuses(ask: Ask) -> Result:
    return _words(ask, "statuses")


def _update(page: Document, post: Document, update: Document, *, whole_of_it: bool = True) -> Document:
    found = {
        "id": update["id"],
        "self": f"{API}/status_pages/{page['id']}/posts/{post['id']}/post_updates/{update['id']}",
        "type": "status_page_post_update",
    }
    if not whole_of_it:
        return found
    return {
        **found,
        "post": {"id": post["id"], "type": "status_page_post"},
        "message": update["message"],
        "reviewed_status": update["reviewed_status"],
        "status": {"id": update["status"], "type": "status_page_status"},
        "severity": {"id": update["severity"], "type": "status_page_severity"},
        "impacted_services": [
            {
                "service": {"id": service, "type": "status_page_service"},
                "impact": {"id": impact, "type": "status_page_impact"},
            }
            for service, impact in update["impacted_services"]
        ],
        "update_frequency_ms": update["update_frequency_ms"],
        "notify_subscribers": update["notify_subscribers"],
        "reported_at": update["reported_at"],
    }


def _post(ask: Ask, page: Document, post: Document) -> Document:
    return {
        "id": post["id"],
        "self": f"{API}/status_pages/{page['id']}/posts/{post['id']}",
        "type": "status_page_post",
        "post_type": post["post_type"],
        "status_page": {"id": page["id"], "type": "status_page"},
        "title": post["title"],
        "starts_at": post["starts_at"],
        "ends_at": post["ends_at"],
        "updates": [
            _update(page, post, update, whole_of_it="status_page_post_update" in ask.include)
            for update in post["updates"]
        ],
    }


@route("GET", "/status_pages/{id}/posts", "status_pages.read")
def list_posts(ask: Ask) -> Result:
    """A post stands where its latest update says."""
    page = find(ask.world.status_pages, ask.path["id"])
    kind = _one_of_query(ask, "post_type", POST_TYPES)
    reviewed = _one_of_query(ask, "reviewed_status", REVIEWED)
    statuses = ask.many("status")
    rows = [
        row
        for row in page["posts"]
        if kind in ("", row["post_type"])
        and reviewed in ("", row["updates"][-1]["reviewed_status"])
        and (not statuses or row["updates"][-1]["status"] in statuses)
    ]
    return 200, ask.page("posts", rows, lambda row: _post(ask, page, row))


@route("GET", "/status_pages/{id}/posts/{post_id}", "status_pages.read")
def get_post(ask: Ask) -> Result:
    page = find(ask.world.status_pages, ask.path["id"])
    return 200, {"post": _post(ask, page, find(page["posts"], ask.path["post_id"]))}


@route("GET", "/status_pages/{id}/posts/{post_id}/post_updates", "status_pages.read")
def list_updates(ask: Ask) -> Result:
    page = find(ask.world.status_pages, ask.path["id"])
    post = find(page["posts"], ask.path["post_id"])
    reviewed = _one_of_query(ask, "reviewed_status", REVIEWED)
    rows = [row for row in post["updates"] if reviewed in ("", row["reviewed_status"])]
    return 200, ask.page("post_updates", rows, lambda row: _update(page, post, row))


def _id_of(rows: Iterable[Document], what: str) -> Shape:
    """A reference that reads as its id."""
    known = {row["id"] for row in rows}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        identifier = value.get("id") if isinstance(value, dict) else None
        if not isinstance(identifier, str) or identifier not in known:
            faults.append((path, f"is not {what} of the status page"))
        return identifier

    return read


def _update_shape(page: Document, kind: str, post: Document | None = None) -> Shape:
    def of_kind(plural: str, what: str) -> Shape:
        return _id_of([row for row in page[plural] if row["post_type"] == kind], f"{what} for this type of post")

    impacted = record({"service": _id_of(page["services"], "a service"), "impact": of_kind("impacts", "an impact")})
    return record(
        {
            "message": string(),
            "status": of_kind("statuses", "a status"),
            "severity": of_kind("severities", "a severity"),
            "impacted_services": list_of(impacted),
            "notify_subscribers": boolean,
        },
        {
            "type": one_of("status_page_post_update"),
            "update_frequency_ms": whole(0, 30 * DAY * 1_000),
            "reported_at": moment,
            **({} if post is None else {"post": _id_of([post], "this post")}),
        },
    )


def _written(ask: Ask, asked: Document) -> Document:
    """An update as it is kept. What comes through the API counts as approved."""
    return {
        "id": ask.world.next_id("P"),
        "message": asked["message"],
        "reviewed_status": "approved",
        "status": asked["status"],
        "severity": asked["severity"],
        "impacted_services": [(row["service"], row["impact"]) for row in asked["impacted_services"]],
        "update_frequency_ms": asked.get("update_frequency_ms"),
        "notify_subscribers": asked["notify_subscribers"],
        "reported_at": asked.get("reported_at", iso(ask.now)),
    }


@route("POST", "/status_pages/{id}/posts", "status_pages.write")
def create_post(ask: Ask) -> Result:
    page = find(ask.world.status_pages, ask.path["id"])
    sent = ask.body.get("post") if isinstance(ask.body, dict) else None
    kind = sent.get("post_type") if isinstance(sent, dict) else None
    kind = kind if kind in POST_TYPES else "incident"
    times = {"starts_at": moment, "ends_at": moment}
    required: dict[str, Shape] = {
        "title": string(longest=128),
        "post_type": one_of(*POST_TYPES),
        "updates": list_of(_update_shape(page, kind), 1, 100),
        "status_page": _id_of([page], "this one, the one"),
    }
    asked = ask.read(
        "post",
        # Incidents have no time that they are planned for: it is left null.
        record(required | times, {"type": one_of("status_page_post")})
        if kind == "maintenance"
        else record(required, {"type": one_of("status_page_post"), **times}),
    )
    starts, ends = asked.get("starts_at"), asked.get("ends_at")
    if starts and ends and parse_time(ends) <= parse_time(starts):
        raise invalid("Ends at must be after starts at")
    post = {
        "id": ask.world.next_id("P"),
        "post_type": kind,
        "title": asked["title"],
        "starts_at": starts,
        "ends_at": ends,
        "updates": [_written(ask, row) for row in asked["updates"]],
    }
    page["posts"].append(post)
    return 201, {"post": _post(ask, page, post)}


@route("POST", "/status_pages/{id}/posts/{post_id}/post_updates", "status_pages.write")
def create_update(ask: Ask) -> Result:
    page = find(ask.world.status_pages, ask.path["id"])
    post = find(page["posts"], ask.path["post_id"])
    update = _written(ask, ask.read("post_update", _update_shape(page, post["post_type"], post)))
    post["updates"].append(update)
    return 201, {"post_update": _update(page, post, update)}
