"""Sentences in which a model states its answer: where they are and what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PROSE_TEXT_WORDS = 4

_PHRASE = re.compile(
    r"\b(?:answers?|(?:correct|right|best)\s+(?:option|choice))\b"
    r"[^.\n:=?!]{0,60}?(?:\s(?:is|are|equals|=)(?![A-Za-z])|[*_\s]{0,8}[:=]"
    r"|[*_:]{0,4}[ \t]{0,8}\n)",
    re.IGNORECASE,
)
_LEAD = re.compile(r"[\s*_:>#=]*(?:(?:therefore|thus|simply|just|exactly|equal to)\b[\s*_:,]*)?")
_END = re.compile(
    r"\n|[.!?;](?=[*_\"'`)]{0,4}(?:\s|$))|,\s+(?!or\b|and\b)(?=[a-z]{2})"
    r"|\s(?=(?:because|since|as|which|when|where)\s)|\s\((?=[a-z]{2})"
)
_DELIMITED = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|\$(?P<b>(?!\s)[^$]+)(?<!\s)\$(?![0-9])|\\\((?P<c>.{1,600}?)\\\)|\\\[(?P<d>.{1,600}?)\\\]",
    re.DOTALL,
)
NUMBER = re.compile(
    r"(?<![\w.,/\\^{])(?<![0-9]:)(?:-\s?)?[$€£]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"(?:\s?/\s?[0-9]+)?(?:\s?%)?(?![\w^/]|[.:][0-9])"
)
_LABEL = re.compile(
    r"\b(?:step|case|equation|example|problem|question|part|figure|method|option|chapter)s?\s+#?$",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"(?:^|\n)[ \t*#>-]*[0-9]{1,3}[.)](?=\s)")
_SENTENCE_END = re.compile(r"[.!?][*_\"'`)]{0,4}\s|\n")
NEGATION = re.compile(r"\b(?:not|no|cannot|never|neither|nor)\b|n['’]t\b", re.IGNORECASE)
HEDGE = re.compile(
    r"^(?:a|an|the|that|this|not|no|in|to|as|so|let|let's|we|i|it|you|they|he|she|there|if|first|"
    r"obvious|clear|given|below|above|correct|wrong|unknown|unclear|found|helpful|based|now)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the text and where it starts."""

    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def part(self, start: int, end: int) -> Stretch:
        """The stretch from `start` to `end` of this one."""
        return Stretch(self.start + start, self.text[start:end])


def last_statement(text: str) -> Stretch | None:
    """What follows the last `the answer is`, `Final answer:` and the like, up to its end."""
    phrases = [match.end() for match in _PHRASE.finditer(text)]
    for at in reversed(phrases):
        lead = _LEAD.match(text, at)
        start = lead.end() if lead else at
        formula = _DELIMITED.match(text, start)
        end_at = formula.end() if formula else start
        end = _END.search(text, end_at)
        said = text[start : end.start() if end else len(text)]
        if said.strip(" *_."):
            return Stretch(start, said)
    return None


def final_sentence(text: str) -> Stretch:
    """The last sentence; a list number or a decimal point ends none."""
    text = text.rstrip()
    start = 0
    for match in _SENTENCE_END.finditer(text):
        start = match.end()
    return Stretch(start, text[start:])


def formulas(said: Stretch) -> list[Stretch]:
    """The contents of all `$...$`, `\\(...\\)` and the like."""
    found = []
    for match in _DELIMITED.finditer(said.text):
        group = match.lastgroup or "a"
        found.append(said.part(match.start(group), match.end(group)))
    return found


def numbers(said: Stretch) -> list[Stretch]:
    """All numbers, without those that only count steps, options or list items."""
    items = {match.end() for match in _LIST_ITEM.finditer(said.text)}
    return [
        said.part(match.start(), match.end())
        for match in NUMBER.finditer(said.text)
        if match.end() + 1 not in items
        and not _LABEL.search(said.text[max(0, match.start() - 20) : match.start()])
    ]
