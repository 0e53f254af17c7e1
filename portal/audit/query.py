"""What of the journal somebody wants to see, as a text and as values: ``tool:list_incidents verdict:deny since:7d``. Pure.

A query is words and filters ``name:value`` in any order, all of which must fit. A value with blanks stands in quotation marks, in
which ``\\`` takes the next character as it is. The text is what the address of the page carries, so each query has one text
(``str``) from which ``parse`` makes it again.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from integrations.pagerduty.catalog import TOOLS
from policies.core.call import Decision, Door, EntryKind, Outcome, Risk
from policies.core.text import shown

LONGEST: Final = 500
"""Characters of a query's text."""
WORDS: Final = 8
"""Words of one query: each is looked for in every record."""


class BadQuery(ValueError):
    """A text that is no query, with a sentence for people on each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Query:
    """Filters by their names, in the order that they are written in; empty: not filtered by."""

    kind: str = ""
    team: str = ""
    agent: str = ""
    person: str = ""
    tool: str = ""
    risk: str = ""
    verdict: str = ""
    outcome: str = ""
    connection: str = ""
    door: str = ""
    target: str = ""
    decision: str = ""
    use: str = ""
    revealed: str = ""
    jobs: str = ""
    since: str = ""
    until: str = ""
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [f"{name}:{_quoted(value)}" for name in FILTERS if (value := getattr(self, name))]
        return " ".join([*told, *map(quoted_word, self.words)])


def _one_of(values: list[str], what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        value = text.lower().replace("-", "_").replace(" ", "_")
        if value not in values:
            raise ValueError(f"{what} is one of {', '.join(values[:-1])} and {values[-1]}")
        return value

    return check


def _tool(text: str) -> str:
    if text in TOOLS:
        return text
    wanted = text.casefold()
    for name, tool in TOOLS.items():
        if wanted in (name, tool.title.casefold()):
            return name
    near = difflib.get_close_matches(wanted.replace(" ", "_"), TOOLS, 1)
    raise ValueError(f"no tool is called so{f' (did you mean {near[0]}?)' if near else ''}")


def _id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("an id is letters, digits, “-” and “_”, 64 at most")
    return text


def _name(text: str) -> str:
    if len(text) > 254:
        raise ValueError("a name has 254 characters at most")
    return text


def _yes(text: str) -> str:
    if text.lower() not in ("yes", "on"):
        raise ValueError("it is yes, or left out")
    return "yes"


def _hidden(text: str) -> str:
    if text.lower() != "hidden":
        raise ValueError("it is hidden, or left out")
    return "hidden"


def _time(text: str) -> str:
    if text.lower() == "today":
        return "today"
    if re.fullmatch(r"[1-9][0-9]{0,3}[mhdw]", text.lower()):
        return text.lower()
    try:
        if re.fullmatch(r"(19|20)\d\d-\d\d-\d\d", text, re.ASCII):
            dt.date.fromisoformat(text)
            return text
        if re.fullmatch(r"(19|20)\d\d-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d)?[Zz]?", text, re.ASCII):
            dt.datetime.fromisoformat(text.upper().removesuffix("Z"))
            return text.upper().removesuffix("Z")
    except ValueError as error:
        raise ValueError("there is no such time") from error
    raise ValueError("a time is today, 30m, 12h, 7d, 4w, 2026-11-30 or 2026-11-30T08:00, in UTC")


FILTERS: Final[Mapping[str, Callable[[str], str]]] = {
    "kind": _one_of([kind.value for kind in EntryKind], "a kind"),
    "team": _name,
    "agent": _name,
    "person": _name,
    "tool": _tool,
    "risk": _one_of([risk.value for risk in Risk], "a risk"),
    "verdict": _one_of([decision.value for decision in Decision], "a verdict"),
    "outcome": _one_of([outcome.value for outcome in Outcome if outcome.value], "an outcome"),
    "connection": _name,
    "door": _one_of([door.value for door in Door], "a door"),
    "target": _id,
    "decision": _id,
    "use": _id,
    "revealed": _yes,
    "jobs": _hidden,
    "since": _time,
    "until": _time,
}
"""How each filter's value is checked and brought into its one form. Raises ``ValueError`` with what is wrong."""


def parse(text: str) -> Query:
    """Raises ``BadQuery``, whatever else is in ``text``."""
    values: dict[str, str] = {}
    words: list[str] = []
    problems: list[str] = []
    for name, value in _lexed(text):
        if not name:
            words.append(value)
        elif name not in FILTERS:
            problems.append(
                f"There is no filter “{shown(name, 40)}”: there are {', '.join(FILTERS)}. To look for the text itself, put it in "
                "quotation marks."
            )
        elif name in values:
            problems.append(f"“{name}” is there twice.")
        else:
            values[name] = value
    return checked(values, words, problems)


def checked(values: Mapping[str, str], words: list[str], problems: list[str] | None = None) -> Query:
    """A query of values as people gave them; empty ones are left out. Raises ``BadQuery``."""
    wrong = list(problems or ())
    good: dict[str, str] = {}
    for name, value in values.items():
        try:
            if shown(value, LONGEST) != value:
                raise ValueError("it holds characters that cannot be shown")
            good[name] = FILTERS[name](value) if value else ""
        except ValueError as error:
            wrong.append(f"{name}:{shown(value, 60)} is no filter: {error}.")
    if len(words) > WORDS:
        wrong.append(f"There are more than {WORDS} words.")
    if any(shown(word, LONGEST) != word for word in words):
        wrong.append("A word holds characters that cannot be shown.")
    if wrong:
        raise BadQuery(wrong)
    return Query(**good, words=tuple(words))


def split(text: str) -> list[str]:
    """Words as the form's own field for them has them: of filters' names it knows nothing. Raises ``BadQuery``."""
    return [value for _, value in _lexed(text, filters=False)]


def _lexed(text: str, *, filters: bool = True) -> Iterator[tuple[str, str]]:
    """Pairs of a filter's name, empty for a word, and what stands after it."""
    if len(text) > LONGEST:
        raise BadQuery([f"A query has {LONGEST} characters at most."])
    place = 0
    while match := re.compile(r"\s*(\S)").match(text, place):
        place = match.start(1)
        name = ""
        if filters and (named := re.compile(r"([A-Za-z_]+):").match(text, place)):
            name, place = named[1].lower(), named.end()
        if text.startswith('"', place):
            quoted = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(text, place)
            if quoted is None:
                raise BadQuery(["A quotation mark is not closed."])
            value, place = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()
        else:
            bare = re.compile(r'[^\s"]*').match(text, place)
            assert bare is not None  # noqa: S101 - it matches nothing, too
            value, place = bare[0], bare.end()
        if place < len(text) and not text[place].isspace():
            raise BadQuery(["A quotation mark stands within a word: put the whole of it in quotation marks."])
        if not value:
            raise BadQuery([f"“{name}:” says nothing." if name else "A word is empty."])
        yield name, value


def _quoted(value: str) -> str:
    if re.fullmatch(r'[^\s"]+', value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def quoted_word(word: str) -> str:
    """A word that nothing takes for a filter."""
    named = re.match(r"[A-Za-z_]+:", word)
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"' if named else _quoted(word)


def span(query: Query, now: dt.datetime) -> tuple[dt.datetime | None, dt.datetime | None]:
    """From when, and until before when; a day as an end is in it."""
    since, until = (_moment(text, now) if text else None for text in (query.since, query.until))
    if until is not None and re.fullmatch(r"\d{4}-\d\d-\d\d", query.until):
        until += dt.timedelta(days=1)
    return since, until


def _moment(text: str, now: dt.datetime) -> dt.datetime:
    if text == "today":
        return now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text[-1] in "mhdw":
        units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
        return now - dt.timedelta(**{units[text[-1]]: int(text[:-1])})
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def minute(text: str, *, end: bool = False) -> str:
    """A time of a query as a field of a form has it; empty where the text is none of the calendar. ``end``: the end of a day."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T.*)?", text, re.ASCII):
        return ""
    moment = dt.datetime.fromisoformat(text)
    if end and "T" not in text:
        moment += dt.timedelta(days=1)
    return moment.isoformat(timespec="seconds" if moment.second else "minutes")


def fields(query: Query) -> dict[str, str]:
    """The query as the form's fields have it."""
    told = {name: getattr(query, name) for name in FILTERS}
    told["since_at"] = minute(query.since)
    told["since"] = "" if told["since_at"] else query.since
    told["until"] = minute(query.until, end=True) or query.until
    return told | {"words": " ".join(map(_quoted, query.words))}


def of_fields(told: Mapping[str, str]) -> Query:
    """The query that a filled-in form means. Raises ``BadQuery``."""
    values = {name: told.get(name, "").strip() for name in FILTERS}
    values["since"] = values["since"] or told.get("since_at", "").strip()
    return checked(values, split(told.get("words", "")))
