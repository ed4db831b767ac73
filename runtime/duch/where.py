"""Filter expressions as trees, and their form in SQL: what `--where "cloud < 10 AND sensor IN ('S2A', 'S2B')"` means.

The language is a subset of OGC CQL2 text (OGC 21-065r2); `duch.where_parser` reads it and `str` of a tree writes it.
`id`, `modality`, `uri` and `text` are the tile's own, every other name is a top-level attribute.

Logic has three values. What is missing is NULL, and so is every comparison with a literal of another type (text,
number, TRUE or FALSE); a tile is selected where the whole is TRUE. A tree holds no NOT: it is pushed down to the
comparisons, so that a leaf which is not TRUE may as well be FALSE.

Text is compared by code point, numbers as 64-bit integers and binary64. SQLite reads a text up to its first NUL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from .errors import FilterError

INDEX_PREFIX = "tiles_attribute_"  # of indexes over attributes in a catalog

Value = bool | int | float | str
Operator = Literal["=", "<>", "<", "<=", ">", ">="]

OWN_NAMES = ("id", "modality", "uri", "text")
RESERVED = ("AND", "BETWEEN", "FALSE", "IN", "IS", "LIKE", "NOT", "NULL", "OR", "TRUE")
# CQL2's identifier: the names of XML without the hyphen.
_START = (
    r":_A-Za-z\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u02FF\u0370-\u037D\u037F-\u1FFE\u200C-\u200D\u2070-\u218F"
    r"\u2C00-\u2FEF\u3001-\uD7FF\uF900-\uFDCF\uFDF0-\uFFFD\U00010000-\U000EFFFF"
)
IDENTIFIER = rf"[{_START}][{_START}.0-9\u0300-\u036F\u203F-\u2040]*"

_OPPOSITE: dict[Operator, Operator] = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_JSON_TYPES: dict[type, str] = {
    bool: "IN ('true', 'false')",
    int: "IN ('integer', 'real')",
    float: "IN ('integer', 'real')",
    str: "= 'text'",
}


@dataclass(frozen=True)
class Comparison:
    """A name, an operator and a literal."""

    name: str
    operator: Operator
    value: Value

    def __str__(self) -> str:
        return f"{_name_text(self.name)} {self.operator} {_value_text(self.value)}"


@dataclass(frozen=True)
class InList:
    """A name that equals one of some literals of one type, or none of them."""

    name: str
    values: tuple[Value, ...]
    negated: bool = False

    def __str__(self) -> str:
        values = ", ".join(map(_value_text, self.values))
        return f"{_name_text(self.name)} {'NOT ' * self.negated}IN ({values})"


@dataclass(frozen=True)
class Between:
    """A name whose number is from `low` to `high`, both included, or is not."""

    name: str
    low: int | float
    high: int | float
    negated: bool = False

    def __str__(self) -> str:
        operator = f"{'NOT ' * self.negated}BETWEEN"
        return f"{_name_text(self.name)} {operator} {_value_text(self.low)} AND {_value_text(self.high)}"


@dataclass(frozen=True)
class IsNull:
    """A name that is missing, or is not."""

    name: str
    negated: bool = False

    def __str__(self) -> str:
        return f"{_name_text(self.name)} IS {'NOT ' * self.negated}NULL"


@dataclass(frozen=True)
class And:
    """Two or more terms, none of them an `And`."""

    terms: tuple[Where, ...]

    def __str__(self) -> str:
        return " AND ".join(f"({term})" if isinstance(term, Or) else str(term) for term in self.terms)


@dataclass(frozen=True)
class Or:
    """Two or more terms, none of them an `Or`."""

    terms: tuple[Where, ...]

    def __str__(self) -> str:
        return " OR ".join(map(str, self.terms))


Where = Comparison | InList | Between | IsNull | And | Or


def negate(tree: Where) -> Where:
    """What is TRUE where the tree is FALSE, and NULL where it is NULL."""
    match tree:
        case Comparison():
            return replace(tree, operator=_OPPOSITE[tree.operator])
        case And():
            return Or(tuple(map(negate, tree.terms)))
        case Or():
            return And(tuple(map(negate, tree.terms)))
        case _:
            return replace(tree, negated=not tree.negated)


def attribute_sql(name: str) -> tuple[str, str]:
    """The value of an attribute of table tiles and its JSON type: the text that an index must have to be used.

    Raises:
        FilterError: SQLite has no way to spell the name.
    """
    # JSON writes these with a backslash, and SQLite 3.40 compares names as they are written.
    if not name or re.search(r'["\\\x00-\x1f\ud800-\udfff]', name):
        raise FilterError(
            f"the attribute name {name!a} cannot be asked for; wanted one without quotes, backslashes and control "
            "characters"
        )
    # The path is part of the text and no parameter: SQLite must see that it is the one of the index.
    path = f'''"{name.replace("'", "''")}"'''
    return f"json_extract(attributes, '$.{path}')", f"json_type(attributes, '$.{path}')"


def attribute_index(name: str) -> tuple[str, str]:
    """Name of the index over an attribute in a catalog, and the statement that makes it.

    It answers =, <, <=, >, >=, IN, BETWEEN and IS NULL. It is over value and type: to find 10,000 tiles of a million
    takes 3 ms, and 39 with an index over the value alone, because every tile is then read for its type.

    Raises:
        FilterError: SQLite has no way to spell the name.
    """
    # SQLite takes A and a in the name of an index for the same, in the name of an attribute it does not.
    index = INDEX_PREFIX + re.sub("[A-Z%]", lambda found: f"%{ord(found[0]):02x}", name)
    return index, f'CREATE INDEX "{index}" ON tiles ({", ".join(attribute_sql(name))})'


def indexed_attribute(index: str) -> str:
    """The attribute of an index, from the index's name."""
    return re.sub("%([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), index.removeprefix(INDEX_PREFIX))


def to_sqlite(tree: Where) -> tuple[str, list[Value]]:
    """A condition on table tiles, and its parameters: every literal is one.

    Raises:
        FilterError: SQLite has no way to spell the name of an attribute.
    """
    match tree:
        case And() | Or():
            word = " AND " if isinstance(tree, And) else " OR "
            parts = [to_sqlite(term) for term in tree.terms]
            return f"({word.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]
        case IsNull():
            condition, values = f"IS {'NOT ' * tree.negated}NULL", []
        case Comparison():
            condition, values = f"{tree.operator} ?", [tree.value]
        case InList():
            condition = f"{'NOT ' * tree.negated}IN ({', '.join('?' * len(tree.values))})"
            values = list(tree.values)
        case Between():
            condition, values = f"{'NOT ' * tree.negated}BETWEEN ? AND ?", [tree.low, tree.high]
    if tree.name not in OWN_NAMES:
        value, json_type = attribute_sql(tree.name)
        if not values:
            return f"{value} {condition}", []
        return f"({value} {condition} AND {json_type} {_JSON_TYPES[type(values[0])]})", values
    if values and not isinstance(values[0], str):  # SQLite would turn the number into a text
        return "0", []
    if tree.name == "id" and values:
        # The two indexes on ids cover the live tiles and the others.
        return f"(deleted = 0 AND tiles.id {condition} OR deleted > 0 AND tiles.id {condition})", values * 2
    return f"tiles.{tree.name} {condition}", values


def _name_text(name: str) -> str:
    plain = re.fullmatch(IDENTIFIER, name) and name.upper() not in RESERVED
    return name if plain else f'"{name}"'


def _value_text(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
