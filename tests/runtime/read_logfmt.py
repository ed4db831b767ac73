"""Reads lines of logfmt as a log collector does; written from the grammar of logfmt's readers, not from our writer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

# A key, then a bare value or one in quotes, which is a JSON string.
_FIELD = re.compile(r'([^\s="]+)=(?:("(?:[^"\\\x00-\x1f]|\\.)*")|([^\s="]*))(?: |$)')


def fields_of(line: str) -> dict[str, str]:
    """The fields of a line; a ValueError where it is no logfmt."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(line):
        found = _FIELD.match(line, at)
        if found is None or found[1] in fields:
            raise ValueError(f"no field at {line[at:]!r}")
        fields[found[1]] = found[3] if found[2] is None else json.loads(found[2])
        at = found.end()
    return fields


def events_of(log: str | bytes) -> Iterator[dict[str, str]]:
    """The fields of all lines. A last line that a killed process left unfinished is an error too."""
    text = log.decode() if isinstance(log, bytes) else log
    if text and not text.endswith("\n"):
        raise ValueError(f"{text[-200:]!r} is not a whole line")
    return map(fields_of, text.split("\n")[:-1])
