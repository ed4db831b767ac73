"""Reads the filter language, a subset of OGC CQL2 text, into the trees of `duch.where`.

    expression = term {OR term}             term = factor {AND factor}
    factor     = [NOT] ( "(" expression ")" | predicate )
    predicate  = operand ("=" | "<>" | "<" | "<=" | ">" | ">=") operand    one a name, the other a literal
               | name [NOT] IN "(" literal {"," literal} ")"               literals of one type
               | name [NOT] BETWEEN number AND number
               | name IS [NOT] NULL
    name       = identifier | '"' any characters but '"' '"'
    literal    = number | TRUE | FALSE | "'" text, with '' for a quote "'"

Words are read in either case. An identifier is one of CQL2: letters, digits, `_`, `:` and `.`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NoReturn, cast

from .errors import FilterError
from .where import IDENTIFIER, RESERVED, And, Between, Comparison, InList, IsNull, Operator, Or, Value, Where, negate

# With these, an expression stays below SQLite's own limits: a stack of 100 in its parser, which 14 parentheses fill,
# 1,000 levels, 32,766 parameters.
MAX_LENGTH = 32_768
MAX_DEPTH = 12
MAX_PREDICATES = 500
MAX_ITEMS = 1_000
_LONGEST_NUMBER = 400  # digits of the largest binary64 are 309; Python refuses to read whole numbers of many thousand

_TOKEN = re.compile(
    rf"""[ \t\r\n]* (?:
      (?P<number> [+-]? (?: [0-9]+ (?:\.[0-9]*)? | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? )
    | (?P<text> '(?:[^']|'')*' )
    | (?P<word> {IDENTIFIER} )
    | (?P<quoted> "[^"]*" )
    | (?P<sign> <> | <= | >= | [=<>(),] )
    | (?P<end> \Z )
    | (?P<other> . )
    )""",
    re.VERBOSE | re.DOTALL,
)
_MIRRORED: dict[Operator, Operator] = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LITERAL = "a number, a text in single quotes, TRUE or FALSE"


@dataclass(frozen=True)
class _Token:
    kind: str  # number, text, word, quoted, sign, end
    text: str
    at: int  # 1 for the first character

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word


def parse(expression: str) -> Where:
    """The tree of an expression.

    Raises:
        FilterError: it is none of the language, or beyond its limits; names the place.
    """
    if len(expression) > MAX_LENGTH:
        raise FilterError(f"a filter has {len(expression):,} characters; wanted at most {MAX_LENGTH:,}")
    return _Parser(_tokens(expression)).parse()


def _tokens(expression: str) -> list[_Token]:
    tokens = []
    for found in _TOKEN.finditer(expression):
        kind = found.lastgroup or ""
        token = _Token(kind, found[kind], found.start(kind) + 1)
        if kind == "other":
            _fail(token, "a closing quote" if token.text in "'\"" else f"a name, one of = <> < <= > >=, or {_LITERAL}")
        tokens.append(token)
        if kind == "end":
            break
    return tokens


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._predicates = 0

    def parse(self) -> Where:
        tree = self._expression()
        if self._next.kind != "end":
            _fail(self._next, "AND, OR or the end")
        return tree

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place += 1
        return token

    def _take_if(self, word_or_sign: str) -> bool:
        token = self._next
        here = token.is_word(word_or_sign) or (token.kind == "sign" and token.text == word_or_sign)
        self._place += here
        return here

    def _expect(self, word_or_sign: str) -> None:
        if not self._take_if(word_or_sign):
            _fail(self._next, word_or_sign)

    def _expression(self) -> Where:
        terms = [self._term()]
        while self._take_if("OR"):
            terms.append(self._term())
        if len(terms) == 1:
            return terms[0]
        return Or(tuple(part for term in terms for part in (term.terms if isinstance(term, Or) else (term,))))

    def _term(self) -> Where:
        factors = [self._factor()]
        while self._take_if("AND"):
            factors.append(self._factor())
        if len(factors) == 1:
            return factors[0]
        return And(tuple(part for term in factors for part in (term.terms if isinstance(term, And) else (term,))))

    def _factor(self) -> Where:
        negated = self._take_if("NOT")
        opening = self._next
        if self._take_if("("):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                _fail(opening, f"at most {MAX_DEPTH} parentheses inside each other")
            tree = self._expression()
            self._expect(")")
            self._depth -= 1
        else:
            tree = self._predicate()
        return negate(tree) if negated else tree

    def _predicate(self) -> Where:
        first = self._next
        self._predicates += 1
        if self._predicates > MAX_PREDICATES:
            _fail(first, f"at most {MAX_PREDICATES} comparisons; try IN, or a list of ids")
        if not _is_name(first):
            value = self._literal(f"a name or {_LITERAL}")
            mirrored = _MIRRORED[self._operator("= <> < <= > >=")]
            return self._comparison(self._name("a name, as the left side is none"), mirrored, value)
        name = self._name("a name")
        negated = self._take_if("NOT")
        if self._take_if("IN"):
            return InList(name, self._list(), negated)
        if self._take_if("BETWEEN"):
            low = self._number()
            self._expect("AND")
            return Between(name, low, self._number(), negated)
        if negated:
            _fail(self._next, "IN or BETWEEN")
        if self._take_if("IS"):
            negated = self._take_if("NOT")
            self._expect("NULL")
            return IsNull(name, negated)
        operator = self._operator("= <> < <= > >=, IN, BETWEEN or IS")
        return self._comparison(name, operator, self._literal(_LITERAL))

    def _comparison(self, name: str, operator: Operator, value: Value) -> Comparison:
        if isinstance(value, bool) and operator not in ("=", "<>"):
            _fail(self._tokens[self._place - 1], "= or <> with TRUE and FALSE, which have no order")
        return Comparison(name, operator, value)

    def _operator(self, wanted: str) -> Operator:
        if self._next.kind != "sign" or self._next.text not in _MIRRORED:
            _fail(self._next, wanted)
        return cast("Operator", self._take().text)

    def _name(self, wanted: str) -> str:
        token = self._next
        if not _is_name(token):
            _fail(token, wanted)
        self._take()
        return token.text[1:-1] if token.kind == "quoted" else token.text

    def _list(self) -> tuple[Value, ...]:
        self._expect("(")
        values: list[Value] = []
        while True:
            token = self._next
            values.append(self._literal(_LITERAL))
            if _kind(values[0]) != _kind(values[-1]):
                _fail(token, f"a {_kind(values[0])}, as the first of the list is one")
            if len(values) > MAX_ITEMS:
                _fail(token, f"at most {MAX_ITEMS:,} literals in a list")
            if not self._take_if(","):
                self._expect(")")
                return tuple(values)

    def _number(self) -> int | float:
        token = self._next
        value = self._literal("a number")
        if isinstance(value, bool | str):
            _fail(token, "a number: BETWEEN takes no others, so write >= and <=")
        return value

    def _literal(self, wanted: str) -> Value:
        token = self._next
        if token.kind == "text":
            value: Value = token.text[1:-1].replace("''", "'")
            if re.search("[\0\ud800-\udfff]", token.text):
                _fail(token, "text that is valid UTF-8 without NUL")
        elif token.kind == "number":
            value = _number_of(token)
        elif token.is_word("TRUE") or token.is_word("FALSE"):
            value = token.is_word("TRUE")
        else:
            _fail(token, f"{wanted}; IS NULL asks for what is missing" if token.is_word("NULL") else wanted)
        self._take()
        return value


def _is_name(token: _Token) -> bool:
    return token.kind == "quoted" or (token.kind == "word" and token.text.upper() not in RESERVED)


def _kind(value: Value) -> str:
    return "truth value" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _number_of(token: _Token) -> int | float:
    real = float(token.text)
    if not math.isfinite(real) or len(token.text) > _LONGEST_NUMBER:
        _fail(token, "a number that fits binary64")
    if not token.text.lstrip("+-").isdigit():
        return real
    if abs(real) > 2.0**63 or not -(2**63) <= (whole := int(token.text)) < 2**63:
        _fail(token, "a number of 64 bits, or one with a point")
    return whole


def _fail(token: _Token, wanted: str) -> NoReturn:
    text = token.text if len(token.text) <= 40 else token.text[:40] + "..."
    found = f"found {text!r}" if text else "it ends"
    raise FilterError(f"the filter cannot be read at character {token.at}: {found}; wanted {wanted}")
