"""The filter language: what it accepts and refuses, and its SQL against a naive evaluator on a real catalog table."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duch.catalog import _SCHEMA
from duch.errors import FilterError
from duch.where import And, Between, Comparison, InList, IsNull, Or, Where, attribute_index, negate, to_sqlite
from duch.where_parser import MAX_DEPTH, MAX_ITEMS, MAX_LENGTH, MAX_PREDICATES, parse

# --- a naive evaluator of the parsed text, with Python's None for NULL ---


def same_type(found: Any, literal: Any) -> bool:
    kinds = [bool if isinstance(v, bool) else str if isinstance(v, str) else float for v in (found, literal)]
    return isinstance(found, bool | int | float | str) and kinds[0] is kinds[1]


def compare(found: Any, operator: str, literal: Any) -> bool | None:
    if not same_type(found, literal):
        return None
    return {
        "=": found == literal,
        "<>": found != literal,
        "<": found < literal,
        "<=": found <= literal,
        ">": found > literal,
        ">=": found >= literal,
    }[operator]


def negation(value: bool | None) -> bool | None:
    return None if value is None else not value


def conjunction(values: list[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def truth(expression: Any, tile: dict[str, Any]) -> bool | None:
    """Of a random expression as `expressions` draws them: nested tuples, with NOT wherever it pleases."""
    kind, *rest = expression
    if kind == "not":
        return negation(truth(rest[0], tile))
    if kind in ("and", "or"):
        parts = [truth(part, tile) for part in rest]
        return conjunction(parts) if kind == "and" else negation(conjunction([negation(part) for part in parts]))
    found = tile.get(rest[0])
    if kind == "null":
        return found is None
    if kind == "in":
        return negation(conjunction([negation(compare(found, "=", value)) for value in rest[1]]))
    if kind == "between":
        return conjunction([compare(found, ">=", rest[1]), compare(found, "<=", rest[2])])
    return compare(found, kind, rest[1])


def literal_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def text_of(expression: Any) -> str:
    kind, *rest = expression
    if kind == "not":
        return f"not ({text_of(rest[0])})"
    if kind in ("and", "or"):
        return f" {kind}\n".join(f"({text_of(part)})" for part in rest)
    name = f'"{rest[0]}"'
    if kind == "null":
        return f"{name} Is Null"
    if kind == "in":
        return f"{name} IN({','.join(map(literal_text, rest[1]))})"
    if kind == "between":
        return f"{name} BETWEEN {literal_text(rest[1])} AND {literal_text(rest[2])}"
    return f"{name}{kind}{literal_text(rest[1])}"


# No NUL: SQLite reads a text of JSON up to it. No surrogates: neither a catalog nor a command line holds them.
TEXTS = st.one_of(
    st.sampled_from(["", "a", "A", "b", "é", "e\u0301", "￿", "\U00010000", "5", "true", "it's", '"', "\\", "%", "--"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
)
WHOLE = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**53, 2**53 + 1]))
NUMBERS = st.one_of(WHOLE, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.5, -0.0, 2.0**53]))
LITERALS = st.one_of(TEXTS, NUMBERS, st.booleans())
# Few, so that expressions and tiles meet; the last ones are hostile to SQL and to JSON paths.
ATTRIBUTES = st.sampled_from(["a", "b", "in", "it's", "x') OR 1=1 --", "a.b", "[0]", "$", "é", "deleted", "%s ?1 :a"])
NAMES = st.one_of(ATTRIBUTES, st.sampled_from(["id", "modality", "uri", "text"]))
PREDICATES = st.one_of(
    st.tuples(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), NAMES, st.one_of(TEXTS, NUMBERS)),
    st.tuples(st.sampled_from(["=", "<>"]), NAMES, st.booleans()),
    st.tuples(
        st.just("in"),
        NAMES,
        st.one_of(*(st.lists(kind, min_size=1, max_size=4) for kind in (TEXTS, NUMBERS, st.booleans()))),
    ),
    st.tuples(st.just("between"), NAMES, NUMBERS, NUMBERS),
    st.tuples(st.just("null"), NAMES),
)
EXPRESSIONS = st.recursive(
    PREDICATES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner, inner),
    ),
    max_leaves=8,
)
TILES = st.fixed_dictionaries(
    {
        "id": st.one_of(TEXTS, st.text(st.characters(exclude_categories=["Cs"]), max_size=3)),
        "modality": st.sampled_from(["image", "text"]),
        "uri": st.one_of(st.none(), TEXTS),
        "text": st.one_of(st.none(), TEXTS),
        "attributes": st.dictionaries(
            ATTRIBUTES, st.one_of(LITERALS, st.none(), st.lists(st.integers(0, 1), max_size=1), st.just({"a": 1}))
        ),
        "deleted": st.integers(0, 3),
    }
)


def catalog(tiles: list[dict[str, Any]]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(_SCHEMA.replace("CREATE UNIQUE INDEX", "CREATE INDEX"))
    connection.executemany(
        "INSERT INTO tiles (seq, id, modality, uri, text, attributes, deleted, code_crc, crc) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)",
        (
            (
                seq,
                *(tile.get(name) for name in ("id", "modality", "uri", "text")),
                json.dumps(tile["attributes"], ensure_ascii=False) if tile.get("attributes") else None,
                tile.get("deleted", 0),
            )
            for seq, tile in enumerate(tiles)
        ),
    )
    return connection


def selected(connection: sqlite3.Connection, tree: Where) -> list[int]:
    sql, values = to_sqlite(tree)
    return [seq for (seq,) in connection.execute(f"SELECT seq FROM tiles WHERE {sql} ORDER BY seq", values)]


@given(EXPRESSIONS, st.lists(TILES, min_size=1, max_size=6), st.booleans())
@example(("not", ("in", "a", [1, 2])), [{"id": "x", "modality": "image", "attributes": {"a": "1"}}], False)
@example(("=", "a", 1), [{"id": "x", "modality": "image", "attributes": {"a": True}}], True)
@settings(max_examples=120, deadline=None)
def test_sqlite_selects_where_the_whole_is_true(expression: Any, tiles: list[dict[str, Any]], indexed: bool) -> None:
    connection = catalog(tiles)
    if indexed:
        for name in ("a", "it's"):
            connection.execute(attribute_index(name)[1])
    # The tile's own names hide attributes of the same name.
    expected = [
        seq for seq, tile in enumerate(tiles) if truth(expression, {**tile["attributes"], **without(tile)}) is True
    ]
    tree = parse(text_of(expression))
    assert selected(connection, tree) == expected
    assert [seq for seq in range(len(tiles)) if seq not in expected and seq in selected(connection, negate(tree))] == [
        seq for seq, tile in enumerate(tiles) if truth(expression, {**tile["attributes"], **without(tile)}) is False
    ]
    connection.close()


def without(tile: dict[str, Any]) -> dict[str, Any]:
    return {name: tile.get(name) for name in ("id", "modality", "uri", "text")}


@given(EXPRESSIONS)
@settings(max_examples=60, deadline=None)
def test_the_text_of_a_tree_is_read_as_the_same_tree(expression: Any) -> None:
    tree = parse(text_of(expression))
    assert repr(parse(str(tree))) == repr(tree)  # 1, 1.0 and TRUE are equal, but not in repr
    assert str(parse(str(tree))) == str(tree)


PIECES = [*"ab1 .,()='\"<>-+e\\;\n\0é\ud800", " AND ", " OR ", "NOT ", " IN ", " IS NULL", " BETWEEN ", "TRUE"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_is_an_expression_or_one_line(text: str) -> None:
    message, tree = "", None
    try:
        tree = parse(text)
    except FilterError as error:
        message = str(error)
    assert len(message.splitlines()) == (tree is None)
    assert tree is None or repr(parse(str(tree))) == repr(tree)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cloud<10", "cloud < 10"),
        ("10 >= cloud", "cloud <= 10"),
        ("10 > cloud", "cloud < 10"),
        ("10 <= cloud", "cloud >= 10"),
        ("10 < cloud", "cloud > 10"),
        ("10 <> cloud", "cloud <> 10"),
        ("'x' = a", "a = 'x'"),
        ("a = +5 and b = -.5e1", "a = 5 AND b = -5.0"),
        ("a = 5.", "a = 5.0"),
        ("a = 'it''s'", "a = 'it''s'"),
        ('"cloud cover" = true', '"cloud cover" = TRUE'),
        ('"in" is not null', '"in" IS NOT NULL'),
        ("eo:cloud_cover between 1 and 2 AND b=1", "eo:cloud_cover BETWEEN 1 AND 2 AND b = 1"),
        ("a=1 OR b=1 AND c=1", "a = 1 OR b = 1 AND c = 1"),
        ("(a=1 OR b=1) AND c=1", "(a = 1 OR b = 1) AND c = 1"),
        ("a=1 AND (b=1 AND (c=1 AND d=1))", "a = 1 AND b = 1 AND c = 1 AND d = 1"),
        ("NOT a=1 AND b=1", "a <> 1 AND b = 1"),
        ("NOT (a<1 AND b NOT IN (1, 2))", "a >= 1 OR b IN (1, 2)"),
        ("NOT (a IS NULL OR b BETWEEN 1 AND 2)", "a IS NOT NULL AND b NOT BETWEEN 1 AND 2"),
    ],
)
def test_an_expression_has_one_canonical_text(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


def test_a_tree_is_made_of_plain_nodes() -> None:
    assert parse("a = 1 AND (b IN ('x') OR NOT c BETWEEN 1 AND 2.5) AND d IS NULL") == And(
        (Comparison("a", "=", 1), Or((InList("b", ("x",)), Between("c", 1, 2.5, negated=True))), IsNull("d"))
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at character 1: it ends; wanted a name"),
        ("cloud", "at character 6: it ends; wanted = <> < <= > >=, IN, BETWEEN or IS"),
        ("cloud < ", "at character 9: it ends; wanted a number"),
        ("cloud == 5", "at character 8: found '='"),
        ("cloud != 5", "at character 7: found '!'"),
        ("city = Berlin", "found 'Berlin'; wanted a number, a text in single quotes"),
        ('city = "Berlin"', "found '\"Berlin\"'; wanted a number, a text in single quotes"),
        ("city = 'Berlin", 'at character 8: found "\'"; wanted a closing quote'),
        ('"city = 5', "at character 1: found '\"'; wanted a closing quote"),
        ("a = NULL", "IS NULL asks for what is missing"),
        ("a = 1 b = 2", "at character 7: found 'b'; wanted AND, OR or the end"),
        ("a = 1)", "at character 6: found ')'; wanted AND, OR or the end"),
        ("(a = 1", "at character 7: it ends; wanted )"),
        ("a LIKE 'x%'", "found 'LIKE'"),
        ("lower(a) = 'x'", "at character 6: found '('"),
        ("a + 1 = 2", "found '+'"),
        ("a IN ()", "at character 7: found ')'"),
        ("a IN (1, 'x')", "at character 10: found \"'x'\"; wanted a number, as the first of the list is one"),
        ("a BETWEEN 'x' AND 'y'", "BETWEEN takes no others, so write >= and <="),
        ("a NOT = 5", "at character 7: found '='; wanted IN or BETWEEN"),
        ("NOT NOT a = 5", "at character 5: found 'NOT'"),
        ("a < TRUE", "have no order"),
        ("5 = 5", "at character 5: found '5'; wanted a name"),
        ("a = 9223372036854775808", "64 bits"),
        ("a = 1e999", "binary64"),
        ("a = " + "0" * 5000, "binary64"),
        ("a = 'x\0y'", "wanted text that is valid UTF-8 without NUL"),
        ("a = '\udcff'", "wanted text that is valid UTF-8"),
        ("a = 1; DROP TABLE tiles", "at character 6: found ';'"),
        ("a = 1 --", "at character 7: found '-'"),
        ("(" * (MAX_DEPTH + 1) + "a = 1", f"at most {MAX_DEPTH} parentheses"),
        ("(" * 30_000, f"at most {MAX_DEPTH} parentheses"),
        ("a=1 AND " * 3000 + "a=1", f"at most {MAX_PREDICATES} comparisons"),
        (f"a IN ({'1,' * MAX_ITEMS}1)", "at most 1,000 literals"),
        ("a" * (MAX_LENGTH + 1), "32,769 characters; wanted at most 32,768"),
    ],
)
def test_what_is_none_of_the_language_is_one_line_with_the_place(text: str, said: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250


def test_the_largest_expressions_stay_below_the_limits_of_sqlite() -> None:
    connection = catalog([{"id": "x", "modality": "image", "attributes": {"a": 1}}])
    deepest = "a=2 OR a=1 AND (" * MAX_DEPTH + "id IN ('x', 'y')" + ")" * MAX_DEPTH
    widest = " OR ".join(["a=1"] * MAX_PREDICATES)
    names = ",".join(["'x'"] * MAX_ITEMS)
    longest = " AND ".join([f"id IN ({names})"] * (MAX_LENGTH // (len(names) + 20)))
    for expression in (deepest, widest, longest):
        assert selected(connection, parse(expression)) == [0]


@pytest.mark.parametrize("name", ["", 'a"b', "a\\b", "a\nb", "\x00", "\udcff"])
def test_a_name_that_a_json_path_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(FilterError, match="cannot be asked for"):
        to_sqlite(Comparison(name, "=", 1))


@pytest.mark.parametrize(
    ("expression", "index"),
    [
        ("cloud = 5", "tiles_attribute_cloud (<expr>=? AND <expr>=?)"),
        ("Cloud = 5", "tiles_attribute_%43loud (<expr>=? AND <expr>=?)"),
        ("cloud IS NULL", "tiles_attribute_cloud (<expr>=?)"),
        ("cloud IN (1, 2)", "tiles_attribute_cloud (<expr>=? AND <expr>=?)"),
        ("cloud = TRUE AND other = 'x'", "tiles_attribute_cloud (<expr>=? AND <expr>=?)"),
        ("cloud BETWEEN 1 AND 2", "tiles_attribute_cloud (<expr>>? AND <expr><?)"),
        ("cloud < 5", "tiles_attribute_cloud (<expr><?)"),
        ("\"it's\" = 'x'", "tiles_attribute_it's (<expr>=? AND <expr>=?)"),
        ("id = 'x'", "COVERING INDEX tiles_live_id (id=?"),
        ("id IN ('x', 'y')", "COVERING INDEX tiles_live_id (id=?"),
    ],
)
def test_sqlite_uses_the_indexes(expression: str, index: str) -> None:
    connection = catalog([])
    for attribute in ("cloud", "it's", "Cloud"):
        connection.execute(attribute_index(attribute)[1])
    sql, values = to_sqlite(parse(expression))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN SELECT seq FROM tiles WHERE {sql}", values)]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN") for step in plan), plan
