"""Words that may stand for each other in a caption, from a TOML file that can be edited.

    [nouns]
    plane = ["plane", "airplane", "aircraft"]
    planes = ["planes", "airplanes", "aircraft"]

    [verbs]
    ringed = ["surrounded by", "ringed by"]

A key only names its group. A group holds words or phrases of one number or tense, so that a sentence stays right. The
longest phrase that fits counts, so a group of one phrase keeps its words as they are ("mobile homes"). A word of two
groups ("aircraft") may replace others but is itself left alone: what it means there is not known.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from duch.display import display_path
from duch.errors import ConfigError, one_line

_SECTIONS = ("nouns", "verbs")
_BUILT_IN = "thesaurus.toml"
_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
# Spelt with a vowel first and spoken without, or the other way round.
_A_DESPITE_VOWEL = re.compile(r"(?:uni(?!n|m)|use|usual|util|europ|one\b|once\b)", re.IGNORECASE)
_AN_DESPITE_CONSONANT = re.compile(r"(?:hour|honest|heir)", re.IGNORECASE)


class Thesaurus:
    """Groups of interchangeable words, ready to rewrite captions."""

    def __init__(self, groups: Mapping[str, tuple[str, ...]]) -> None:
        """Take groups by name; see the text of this module for what they mean."""
        found: dict[str, list[str]] = {}
        for name, words in groups.items():
            for word in words:
                found.setdefault(word, []).append(name)
        self._others = {  # what may replace a word
            word: [other for other in groups[names[0]] if other != word] if len(names) == 1 else []
            for word, names in found.items()
        }
        longest_first = sorted(found, key=lambda word: (-len(word), word))
        phrases = "|".join(r"\s+".join(map(re.escape, word.split())) for word in longest_first)
        # No part of a longer word: neither of "car-park" nor of "car's".
        self._pattern = re.compile(rf"(?<![\w'-])(?:{phrases})(?![\w-]|'\w)", re.IGNORECASE)

    def rewrite(self, caption: str, generator: random.Random, *, probability: float) -> str | None:
        """The caption with words replaced, each with this probability and at least one; None if it holds none.

        A first letter keeps its case, and "a" and "an" before a replaced word follow the new one.
        """
        known = [match for match in self._pattern.finditer(caption) if self._options(match)]
        if not known:
            return None
        chosen = [match for match in known if generator.random() < probability] or [generator.choice(known)]
        rewritten, end = "", 0
        for match in chosen:
            word = generator.choice(self._options(match))
            before, article = caption[end : match.start()], _ARTICLE.search(caption, end, match.start())
            if article:
                before = before[: article.start() - end] + _fitting(article, word)
            rewritten += before + (word[0].upper() + word[1:] if match[0][0].isupper() else word)
            end = match.end()
        return rewritten + caption[end:]

    def _options(self, match: re.Match[str]) -> list[str]:
        return self._others[" ".join(match[0].lower().split())]


def _fitting(article: re.Match[str], word: str) -> str:
    spelt_with_vowel = word[0].lower() in "aeiou"
    exception = _A_DESPITE_VOWEL if spelt_with_vowel else _AN_DESPITE_CONSONANT
    return article[1][0] + ("" if spelt_with_vowel == bool(exception.match(word)) else "n") + article[2]


def read_thesaurus(path: str = "") -> Thesaurus:
    """The thesaurus of a TOML file, or the built-in one.

    Raises:
        ConfigError: the file cannot be read, or is no thesaurus.
    """
    name = display_path(Path(path)) if path else "built-in"
    try:
        source = Path(path) if path else files(__package__) / _BUILT_IN
        content = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"thesaurus {name} cannot be read: {error.strerror}; wanted a TOML file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"thesaurus {name} is no TOML: {one_line(error)}") from error
    return Thesaurus(_groups(content, f"thesaurus {name}"))


def _groups(content: dict[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for section, entries in content.items():
        if section not in _SECTIONS or not isinstance(entries, dict):
            raise ConfigError(f"{where} has {section!r} at its top; wanted the sections [nouns] and [verbs]")
        for key, words in entries.items():
            plain = _plain_words(words)
            if not plain:
                found = repr(words)[:60]
                raise ConfigError(f'{where} has {section}.{key} = {found}; wanted a list of words, ["plane", "jet"]')
            groups[f"{section}.{key}"] = tuple(plain)
    if not any(len(words) > 1 for words in groups.values()):
        raise ConfigError(f"{where} has no group of two words; wanted [nouns] and [verbs] with lists of words")
    return groups


def _plain_words(words: Any) -> list[str]:
    """Distinct words in lower case with single spaces; none if anything is no word."""
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        return []
    return list(dict.fromkeys(" ".join(word.lower().split()) for word in words))
