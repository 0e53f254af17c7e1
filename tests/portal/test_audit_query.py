"""The audit page's query: a text that each query has, and clear words on what is none."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.pagerduty.catalog import TOOLS
from policies.core.call import Decision, Door, EntryKind, Outcome, Risk
from portal.audit.query import FILTERS, LONGEST, BadQuery, Query, fields, of_fields, parse, span

NOW = dt.datetime(2026, 11, 30, 15, 4, 5, tzinfo=dt.UTC)
names = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() == text
)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,14}", fullmatch=True)
clock = st.times().map(lambda at: at.isoformat(timespec="seconds"))
days = st.dates(dt.date(1950, 1, 1), dt.date(2090, 1, 1)).map(str)
times = st.sampled_from(["today", "30m", "12h", "7d", "4w"]) | st.builds("{}T{}".format, days, clock)


def values(
    choices: type[EntryKind] | type[Risk] | type[Decision] | type[Outcome] | type[Door],
) -> st.SearchStrategy[str]:
    return st.sampled_from(["", *(choice.value for choice in choices)])


queries = st.builds(
    Query,
    kind=values(EntryKind),
    team=names | st.just(""),
    agent=names | st.just(""),
    person=names | st.just(""),
    tool=st.sampled_from(["", *sorted(TOOLS)[:5]]),
    risk=values(Risk),
    verdict=values(Decision),
    outcome=values(Outcome),
    connection=names | st.just(""),
    door=values(Door),
    target=ids | st.just(""),
    decision=ids | st.just(""),
    use=st.just(""),
    revealed=st.sampled_from(["", "yes"]),
    jobs=st.sampled_from(["", "hidden"]),
    since=times | days | st.just(""),
    until=times | days | st.just(""),
    words=st.lists(names, max_size=3).map(tuple),
)


@given(queries)
def test_each_query_is_read_again_from_its_text(query: Query) -> None:
    assert parse(str(query)) == query


@given(queries)
def test_the_form_and_the_bar_are_two_views_of_the_same_query(query: Query) -> None:
    again = of_fields(fields(query))
    # Of a day the form makes the minutes that it begins and ends with.
    assert span(again, NOW) == span(query, NOW)
    assert fields(again) == fields(query)


@given(st.text(max_size=60) | st.text('abtool:"\\ since=\u202e\x00', max_size=60))
def test_any_text_is_a_query_or_told_why_it_is_none(text: str) -> None:
    problems: list[str] = []
    try:
        query = parse(text)
    except BadQuery as error:
        problems = error.problems
        assert problems
    else:
        assert parse(str(query)) == query
        assert "\x00" not in str(query)
        span(query, NOW)
    assert all(problem.endswith((".", "?")) for problem in problems)


def test_the_example_of_the_page_is_understood() -> None:
    text = 'tool:list_incidents verdict:deny agent:"On-call bot" target:PT4KHLK since:7d'
    query = Query(tool="list_incidents", verdict="deny", agent="On-call bot", target="PT4KHLK", since="7d")
    assert parse(text) == query
    assert parse('tool:"List incidents" Verdict:DENY') == Query(tool="list_incidents", verdict="deny")
    assert parse('checkout \'x "a b" "tool:x"').words == ("checkout", "'x", "a b", "tool:x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour:red", "There is no filter “colour”: there are kind, team,"),
        ("verdict:maybe", "verdict:maybe is no filter: a verdict is one of allow, deny and needs_approval."),
        ("tool:list_incidnts", "did you mean list_incidents?"),
        ("tool:", "“tool:” says nothing."),
        ("tool:list_teams tool:list_users", "“tool” is there twice."),
        ('agent:"On-call', "A quotation mark is not closed."),
        ('on"call"', "A quotation mark stands within a word"),
        ("since:2026-02-30", "there is no such time"),
        ("since:yesterday", "a time is today, 30m, 12h,"),
        ("target:a/b", "an id is letters, digits"),
        ("revealed:no", "it is yes, or left out"),
        ("jobs:shown", "it is hidden, or left out"),
        ("team:\u202edeny", "characters that cannot be shown"),
        ("a b c d e f g h i", "There are more than 8 words."),
        ("x" * (LONGEST + 1), "A query has 500 characters at most."),
        (f"agent:{'x' * 300}", "a name has 254 characters at most"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(BadQuery) as raised:
        parse(text)
    assert said in " ".join(raised.value.problems)


def test_times_are_utc_and_a_day_at_the_end_is_whole() -> None:
    assert span(parse("since:today"), NOW) == (dt.datetime(2026, 11, 30, tzinfo=dt.UTC), None)
    assert span(parse("since:90m"), NOW)[0] == NOW - dt.timedelta(minutes=90)
    assert span(parse("since:2026-11-01 until:2026-11-02"), NOW) == (
        dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
        dt.datetime(2026, 11, 3, tzinfo=dt.UTC),
    )
    assert span(parse("until:2026-11-02T08:30Z"), NOW)[1] == dt.datetime(2026, 11, 2, 8, 30, tzinfo=dt.UTC)


def test_every_filter_has_a_place_in_the_query() -> None:
    assert list(FILTERS) == [name for name in Query.__dataclass_fields__ if name != "words"]
