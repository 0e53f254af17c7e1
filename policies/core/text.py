"""Text from outside, made fit to be shown and kept: ``shown`` lets nothing in it act or hide, ``redacted`` takes secrets out.

Two rules, each in this one place: whatever reaches an entry, a page, a terminal, a log or a mail goes by them.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"

# What hides though Python calls it printable: selectors of variants (of which a run can carry a hidden
# message), and letters and signs that are blank.
_BLANK: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
_BREAKS: Final = re.compile("\r\n|[\t\n\v\f\r\x85\u2028\u2029]")
_PICTURE: Final = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_JOINED: Final = re.compile(
    # One selector after a picture or the base of a keycap; a joiner between two pictures; a joiner between two letters of a
    # script that is written with them (Arabic to Sinhala).
    f"(?<=[{_PICTURE}])[\ufe0e\ufe0f](?![\ufe00-\ufe0f])"
    "|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    f"|(?<=[{_PICTURE}\ufe0f])\u200d(?=[{_PICTURE}])"
    "|(?<=[\u0600-\u0dff])[\u200c\u200d](?=[\u0600-\u0dff])"
)


def shown(text: str, maximum: int) -> str:
    """``text`` in one line of at most ``maximum`` characters, in which every character is seen and does nothing.

    Breaks of lines and tabs become blanks. Written as an escape (``\\x1b``, ``\\u202e``, ``\\U000e0041``): control characters,
    what turns the direction of writing, what is invisible (zero width, tags, fillers, runs of selectors of variants), what
    no character is assigned to, and halves of surrogate pairs. Joined emoji and letters that need joiners stay as they are;
    flags of regions, which are written in tags, do not. Nothing else is changed.
    """
    text = text[: maximum + 1]  # What is shown is never shorter than what it was.
    if not (text.isascii() and text.isprintable()):
        text = written_out(_BREAKS.sub(" ", text))
    return text if len(text) <= maximum else f"{text[: maximum - 1]}…"


def written_out(text: str) -> str:
    """As ``shown`` has it, but of any length, and with its lines and tabs. Quick where there is nothing to write out."""
    acting = {char for char in set(text) if char not in "\t\n\r" and _is_hidden(char)}
    if not acting:
        return text
    joined = {match.start() for match in _JOINED.finditer(text)}
    return "".join(_escape(char) if char in acting and place not in joined else char for place, char in enumerate(text))


def _is_hidden(char: str) -> bool:
    # Python calls all blanks but the usual one not printable; the wide ones of other scripts hide nothing.
    return char in _BLANK or not (char.isprintable() or (char.isspace() and char >= "\xa0"))


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


_FORMS: Final = (
    # PEM blocks, whole or cut off
    re.compile(r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", re.DOTALL),
    # this portal's agent keys
    re.compile(r"pwk_[a-z0-9]{8}_[A-Za-z0-9]*"),
    # the addresses of its calendar feeds
    re.compile(r"pwf_[A-Za-z0-9_-]+"),
    # PagerDuty: user tokens, account keys, OAuth tokens, integration and routing keys, calendar feeds
    re.compile(r"(?<![A-Za-z0-9_])(?:u\+[A-Za-z0-9_+-]{16,}|pd[a-z]{2}\+[A-Za-z0-9_+-]{16,})"),
    re.compile(r"(?<![A-Za-z0-9_+-])y_(?=[a-z_-]{0,17}[A-Z0-9])[A-Za-z0-9_-]{18}(?![A-Za-z0-9_+-])"),
    re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-f]{32}|[0-9A-F]{32}|R(?=[A-Z]{0,30}[0-9])[0-9A-Z]{31})(?![0-9A-Za-z])"),
    re.compile(r"(?<=/private/)[0-9A-Za-z_-]{16,}"),
    # AWS, GitHub, Slack, Google, Stripe
    re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    re.compile(r"(?<![A-Za-z0-9])(?:gh[opsur]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    re.compile(r"(?<![A-Za-z0-9])xox[a-z]-[A-Za-z0-9-]{8,}|(?<=hooks\.slack\.com/services/)[A-Za-z0-9_/-]{8,}"),
    re.compile(r"(?<![A-Za-z0-9])(?:AIza[A-Za-z0-9_-]{30,}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,})"),
    # signed tokens (JWT)
    re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
    # the name and password in a URL
    re.compile(r"(?<=://)(?=[^\s/@]*:|[^\s/@]{16})[^\s/@]{1,256}(?:@[^\s/@]{1,256})*(?=@)"),
)
"""Forms of secrets that are told apart from words by their look alone."""
_NAMED: Final = (
    # what an Authorization header says; not the words "bearer tokens"
    re.compile(r"((?i:\b(?:bearer|basic))\s{1,8})(?=\S{0,512}(?:\d|[a-z][A-Z]))[A-Za-z0-9._~+/=-]{8,}"),
    # a name with its value: any after "=", after ":" what no word is
    re.compile(
        r"((?i:passwor[dt]|passwd|passphrase|pwd|secret|token|credentials?"
        r"|(?:api|access|private|routing|integration|service|secret)[_ -]?key)[\"']?"
        r"(?:\s{0,8}=\s{0,8}|\s{0,8}:\s{0,8}(?=[\"']|\S{0,128}[\d!$%&*_^~])))"
        r"(?!\[(?:redacted|masked)\])(?:\"[^\"]*\"?|'[^']*'?|[^\s\"']\S*)"
    ),
)
"""What comes after a name that says what it is: the first group is the name, and stays."""
_TOKEN_LIKE: Final = re.compile(
    r"(?<![A-Za-z0-9+_-])(?=[A-Za-z0-9+_-]*[a-z])(?=[A-Za-z0-9+_-]*[A-Z])[A-Za-z0-9+_-]{20,}(?![A-Za-z0-9+_-])"
)
_CHUNK: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def redacted(text: str, instead: str = REDACTED) -> str:
    """``text`` with each secret in it replaced: tokens, keys and passwords, known by their form or by the name before them.

    Unchanged where it holds none. A random token without a form of its own is told from a name by chance alone: of those
    of 20 characters three in a thousand look like words.
    """
    for form in _FORMS:
        text = form.sub(instead, text)
    for named in _NAMED:
        text = named.sub(lambda match: match[1] + instead, text)
    return _TOKEN_LIKE.sub(lambda match: instead if _is_random(match[0]) else match[0], text)


def _is_random(run: str) -> bool:
    """Whether a run of characters is like a service's token.

    A name such as Checkout-Production-v2-eu-west falls into words; chance falls into chunks of two characters. Of random
    tokens of 20 characters three in a thousand have chunks as long as a name's, and fewer of those hold words.
    """
    chunks = _CHUNK.findall(run)
    length = sum(map(len, chunks))
    words = sum(len(chunk) for chunk in chunks if len(chunk) >= 4 and chunk.isalpha())
    return length < 3.2 * len(chunks) or words * 2 < length
