"""``/my-on-call/``: what one is on call for oneself, and one's calendar feeds; and ``/feeds/``, where these are fetched."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from integrations import mirror
from integrations.feeds import do_make_feed, do_revoke_feed, feed_of
from integrations.models import Feed
from integrations.pagerduty.analysis.model import Slice, Span
from portal.http import Request, one_of, told
from portal.oncall import calendar
from portal.oncall.mine import BACK, Mine, merged
from portal.oncall.one import through
from portal.oncall.seen import Seen, freshness, moment

SHOWN: Final = 30
"""Coming shifts on the page; a calendar has all."""


@sensitive_variables("token")
def address_of(token: str) -> str:
    """What a calendar program is given."""
    return f"{settings.PUBLIC_URL}{reverse('feed', args=[token])}"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def mine(request: Request) -> HttpResponse:
    made: list[str] = []
    action = request.POST.get("action", "")
    if action == "revoke":
        feed = one_of(Feed.objects.visible_to(request.user).select_related("connection"), request.POST.get("feed"))

        def revoke() -> str:
            do_revoke_feed(feed, by=request.user)
            return f"The calendar feed of {feed.name} is revoked: its address answers nobody any more."

        told(request, revoke)
        return redirect("my-on-call")
    if action == "feed":

        def make() -> str:
            _, token = do_make_feed(by=request.user)
            made.append(address_of(token))
            return "The calendar feed of your on-call is made."

        told(request, make)
    elif request.method == "POST":
        raise Http404
    own = Mine(request.user, timezone.now())
    had, coming = own.hours if own.is_known else (0, 0)
    context = {
        "mine": own,
        **freshness(own.mirrors),
        "coming": own.coming[:SHOWN],
        "more": max(len(own.coming) - SHOWN, 0),
        "overlaps": own.overlaps,
        "had": had,
        "hours": had + coming,
        "address": made[0] if made else "",
        "feeds": Feed.objects.visible_to(request.user).select_related("connection__team"),
    }
    return render(request, "schedules/mine.html", context)


@login_not_required
@never_cache
@require_safe
@sensitive_variables("token")
def fetch(request: HttpRequest, token: str) -> HttpResponse:
    """A calendar, for whoever has its address. Whether the person that it was made by may still see it is asked each time; to
    whatever is no feed there is one answer."""
    feed = feed_of(token)
    if feed is None:
        return _plain("There is no such calendar.\n", 404)
    now = timezone.now()
    host = urlsplit(settings.PUBLIC_URL).hostname or "pagewarden"
    if feed.connection is None:
        own = Mine(feed.user, now)
        if own.mirrors and not own.is_read:
            return _unread()
        told = [
            calendar.Shift(
                moment(one.start),
                moment(one.end),
                f"On call: {schedule.name}",
                f"Through {through(one) or schedule.name}.",
                f"{schedule.id} {one.user}",
            )
            for each, schedule, users in own.taking_part(Span(own.now - BACK, own.now))
            for one in _shifts(each, schedule.id)
            if one.user in users
        ]
        as_of = max((each.kept.as_of for each in own.mirrors if each.kept.as_of), default=now)
        body = calendar.calendar_of(f"On call: {feed.user}", told, as_of, host)
    else:
        each = Seen(feed.connection, mirror.kept(feed.connection), int(now.timestamp()))
        if each.kept.is_empty:
            return _unread()
        schedule = each.account.schedules.get(feed.schedule_id)
        if schedule is None:
            # While it is read anew, as after its bounds were changed, it may only not have come yet.
            return _unread() if each.kept.as_of is None else _plain("There is no such calendar.\n", 404)
        told = [
            calendar.Shift(
                moment(one.start),
                moment(one.end),
                f"{each.account.name_of(one.user)}: {schedule.name}",
                f"{each.account.name_of(one.user)} is on call. {through(one)}".strip(),
                f"{schedule.id} {one.user}",
            )
            for one in _shifts(each, schedule.id)
            if one.user
        ]
        body = calendar.calendar_of(f"On call: {schedule.name}", told, each.kept.as_of or now, host)
    answer = HttpResponse(body, content_type="text/calendar; charset=utf-8")
    answer["Content-Disposition"] = 'inline; filename="on-call.ics"'
    return _quiet(answer)


def _shifts(each: Seen, schedule_id: str) -> list[Slice]:
    """Those of the last four weeks, as PagerDuty had them, and of the next twelve."""
    before = mirror.past(each.connection, schedule_id, Span(each.now - BACK, each.now))
    return merged(before, each.rendered.get(schedule_id, ()), each.now)


def _plain(said: str, status: int) -> HttpResponse:
    return _quiet(HttpResponse(said, status=status, content_type="text/plain; charset=utf-8"))


def _unread() -> HttpResponse:
    """A calendar program that got an empty calendar would delete what it has."""
    answer = _plain("This is not read from PagerDuty yet. Come again in a few minutes.\n", 503)
    answer["Retry-After"] = "300"
    return answer


def _quiet(answer: HttpResponse) -> HttpResponse:
    """Nothing finds it by a search, and no page that it leads to learns its address."""
    answer["X-Robots-Tag"] = "noindex, nofollow"
    answer["Referrer-Policy"] = "no-referrer"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer
