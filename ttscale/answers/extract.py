"""Taking the answer out of a model's text, or abstaining: an invented answer is worse than none.

Where an answer is looked for, first found first: the last box (`\\boxed`, `\\fbox`); the last
`<answer>...</answer>`; the later of the last `#### value` line and the last `the answer is ...`; a
text that is one value and nothing else; and last the fallback of the kind:

- `auto`, `math`: the final sentence, if it states exactly one number or formula and denies nothing;
- `number`: the last number of the text;
- `choice`: none;
- `text`: the whole text, if it is one line of at most 200 characters.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ttscale import _check
from ttscale.answers import prose
from ttscale.answers.latex import brace_pairs, tidy, visible
from ttscale.answers.prose import Stretch
from ttscale.answers.reading import read
from ttscale.answers.thinking import blank_thinking
from ttscale.answers.values import Answer, Value

KINDS = ("auto", "choice", "math", "number", "text")
MAX_TEXT = 20_000
MAX_LONE = 200
MAX_PLACEHOLDER = 40

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])\s*")
_BARE_BOX = re.compile(r"[^\s$\\{}]+")
_PLACEHOLDER = re.compile(
    r"[\s.…?_]*|(?:\\text\{)?\W*(?:your |the |final )*(?:answer|result|number|value)(?: here)?\W*",
    re.IGNORECASE,
)
_TAGGED = re.compile(r"<answer>([^<]{1,600})</answer>", re.IGNORECASE)
_VERDICTS = ("yes", "no", "true", "false")
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S[^\n]{0,200})$", re.MULTILINE)
_LEADING_NUMBER = re.compile(rf"(?:{prose.NUMBER.pattern})(?=[\s*][^0-9]*$)")
_LETTER = re.compile(r"[\s*_`\"'(]*([A-Za-z])(?:[)*_`\"'.:]+(?:\s.*)?|\s*)", re.DOTALL)
_LETTER_LINE = re.compile(r"[\s*_`\"'(]*([A-Z])(?:[)*_`\"'.]*\s*|[).][*_]*\s[^\n]*)")
_CALCULATOR = re.compile(r"<<[^<>\n]{0,200}>>")
# The left side of an equation that is not solved yet, such as `2x = 10`.
_ALGEBRA = re.compile(r"(?:[0-9)][A-Za-z]|[A-Za-z]\^\{?[0-9]\}?)\s*=[^=]*$")
_DANGLING = re.compile(r"(?:[-=+/×÷^(]|(?<!\*)\*)\s*$")


def extract_answer(text: str, kind: str = "auto") -> Answer | None:
    """Take the final answer out of `text`; None when there is none that is certain.

    Thinking blocks are ignored, and of longer texts only the last 20,000 characters are read.

    Args:
        text: What the model wrote.
        kind: What to look for. `auto` takes any kind of answer. `math` takes a mathematical value,
            or words in a box, and reads a lone letter as a variable. `number` takes one number and
            falls back to the last one in the text, for models that do not mark their answer.
            `choice` takes one option letter, A to Z. `text` takes whatever is marked, as words.

    Raises:
        InvalidInput: `kind` is none of these.
    """
    _check.choice("kind", kind, KINDS)
    cut = max(0, len(text) - MAX_TEXT)
    shown = _CALCULATOR.sub(_blank, blank_thinking(text)[cut:])
    if not shown.strip():
        return None
    boxes = [match for match in _BOX.finditer(shown) if not _is_placeholder(shown, match.end())]
    if boxes:
        said = _last_box(shown, [match.end() for match in boxes])
        answer = _marked("box", _boxed(said, kind) if said else None)
    else:
        answer = _unboxed(shown, kind)
    if answer is None:
        return None
    start, end = answer.span[0] + cut, answer.span[1] + cut
    return replace(answer, span=(start, end), raw=text[start:end])


def _marked(mark: str, answer: Answer | None) -> Answer | None:
    return None if answer is None else replace(answer, mark=mark)


def _blank(match: re.Match[str]) -> str:
    """As many spaces: a calculator's note, as GSM8K writes it, states nothing of its own."""
    return " " * len(match[0])


def _answer(said: Stretch, value: Value | None) -> Answer | None:
    """`value`, with where it was said; surrounding space belongs to neither."""
    if value is None or not value.text:
        return None
    raw = said.text.strip()
    start = said.start + len(said.text) - len(said.text.lstrip())
    return Answer(value.text, value.kind, (start, start + len(raw)), raw, value.unit)


def _is_placeholder(text: str, at: int) -> bool:
    """Whether the box at `at` is empty or holds the words of an instruction."""
    end = text.find("}", at, at + MAX_PLACEHOLDER)
    return (
        text[at : at + 1] == "{" and end >= 0 and bool(_PLACEHOLDER.fullmatch(text[at + 1 : end]))
    )


def _last_box(text: str, starts: list[int]) -> Stretch | None:
    """Content of the last box, or of the one around it; None when it was cut off."""
    last = starts[-1]
    if text[last : last + 1] != "{":
        bare = _BARE_BOX.match(text, last)
        return Stretch(last, bare[0].rstrip(".,;")) if bare else None
    pairs = brace_pairs(text)
    if last not in pairs:
        return None
    outer = next(at for at in starts if pairs.get(at, -1) >= pairs[last])
    return Stretch(outer + 1, text[outer + 1 : pairs[outer]])


def _boxed(said: Stretch, kind: str) -> Answer | None:
    """The content of a box, if it is of the kind asked for."""
    if kind == "choice":
        return _letter(said)
    if kind == "text":
        return _answer(said, _words(said))
    value = read(said.text, letters=kind == "auto")
    fits = value is not None and (kind != "number" or value.kind == "number")
    return _answer(said, value) if fits else None


def _unboxed(text: str, kind: str) -> Answer | None:
    """The answer of a text without a box."""
    tagged = list(_TAGGED.finditer(text))
    if tagged and (answer := _in_tags(Stretch(tagged[-1].start(1), tagged[-1][1]), kind)):
        return _marked("tags", answer)
    said = prose.last_statement(text)
    hashes = list(_HASHES.finditer(text))
    if hashes and (said is None or hashes[-1].start() > said.start):
        last = Stretch(hashes[-1].start(1), hashes[-1][1])
        value = read(last.text)
        # A heading such as `#### Step 2` is text, and marks no answer.
        if kind in ("text", "choice") or (value is not None and value.kind != "text"):
            return _marked("hashes", _boxed(last, kind))
    if said is not None:
        answer, settled = _stated(said, kind)
        if settled:
            return _marked("sentence", answer)
    return _marked("alone", _lone(text, kind)) or _marked("unmarked", _fallback(text, kind))


def _in_tags(said: Stretch, kind: str) -> Answer | None:
    """What stands in answer tags, unless it is a sentence."""
    value = read(said.text)
    brief = len(said.text.split()) <= prose.MAX_PROSE_TEXT_WORDS
    if value is None or (value.kind == "text" and not brief):
        return None
    return _boxed(said, kind)


def _stated(said: Stretch, kind: str) -> tuple[Answer | None, bool]:
    """The answer of an answer sentence, and whether the sentence settles the matter."""
    if kind in ("auto", "text") and said.text.strip(" *_.!").lower() in _VERDICTS:
        return _answer(said, _words(said)), True
    if prose.NEGATION.match(said.text):
        return None, True
    if kind == "choice":
        return _letter(said), True
    if kind == "text":
        return _answer(said, _words(said)), True
    capital = not said.text.lstrip(" *").startswith("(")
    if kind == "auto" and (letter := _letter(said, capital=capital)):
        return letter, True
    part = _mathematics(said, kind)
    if part is not None or prose.numbers(said):
        return part, True
    brief = len(said.text.split()) <= prose.MAX_PROSE_TEXT_WORDS
    if kind == "auto" and brief and not prose.HEDGE.match(said.text):
        return _answer(said, _words(said)), True
    return None, False


def _mathematics(said: Stretch, kind: str) -> Answer | None:
    """The one mathematical value of a clause: all of it, its formula, or its number."""
    value = read(said.text, letters=False)
    if value is not None and value.kind != "text" and (kind != "number" or value.kind == "number"):
        return _answer(said, value)
    options = prose.formulas(said)
    if options:
        outside = Stretch(0, said.text.replace(options[0].text, "", 1))
        alone = len(options) == 1 and not prose.numbers(outside)
        return _typed(options[0], kind) if alone else None
    if match := _LEADING_NUMBER.match(said.text):
        whole = read(said.text.replace("*", ""), letters=False)
        number = said.part(0, match.end())
        return _answer(said, whole) if whole and whole.kind == "number" else _typed(number, kind)
    if _ALGEBRA.search(said.text):
        return None
    result = said.part(said.text.rfind("=") + 1, len(said.text))
    found = prose.numbers(result)
    return _typed(found[0], kind) if len(found) == 1 else None


def _typed(said: Stretch, kind: str) -> Answer | None:
    """The mathematical value of a stretch, if the kind asked for allows it."""
    value = read(said.text, letters=False)
    if value is None or value.kind == "text" or (kind == "number" and value.kind != "number"):
        return None
    return _answer(said, value)


def _letter(said: Stretch, *, capital: bool = False) -> Answer | None:
    """The option letter that a clause starts with; `A train` starts with none."""
    value = read(said.text)
    if value is not None and value.kind == "choice":
        return _answer(said, value)
    match = _LETTER.fullmatch(said.text)
    if match is None or (capital and not match[1].isupper()):
        return None
    return _answer(said.part(match.start(1), match.end(1)), Value("choice", match[1].upper()))


def _words(said: Stretch) -> Value | None:
    """The clause as words, without emphasis and end marks."""
    shown = said.text.replace("**", "")
    shown = visible(tidy(shown)) if "\\" in shown else " ".join(shown.split())
    shown = shown.strip(" .,;:!\"'`*_$")
    value = read(shown)
    return value if value is not None and value.kind == "text" else Value("text", shown)


def _lone(text: str, kind: str) -> Answer | None:
    """A text that is one value and nothing else."""
    said = Stretch(0, text)
    line = text.strip()
    if len(line) > MAX_LONE or "\n" in line:
        return None
    if kind in ("auto", "choice") and (match := _LETTER_LINE.fullmatch(text)):
        return _answer(said.part(match.start(1), match.end(1)), Value("choice", match[1]))
    if kind == "text":
        return _answer(said, _words(said))
    if kind == "choice":
        return _letter(said) if len(line) <= 3 else None
    if kind == "auto" and line.strip(".*").lower() in _VERDICTS:
        return _answer(said, _words(said))
    return None if _DANGLING.search(text) else _typed(said, kind)


def _fallback(text: str, kind: str) -> Answer | None:
    """What an unmarked text states; see the top of this file."""
    if kind in ("choice", "text") or _DANGLING.search(text):
        return None
    said = prose.final_sentence(text)
    if kind == "number":
        return _last_number(text, said)
    if prose.NEGATION.search(said.text) or said.text.endswith("?"):
        return None
    return _mathematics(said, kind)


def _last_number(text: str, final: Stretch) -> Answer | None:
    """The number that the final sentence comes to, else the last number of the text."""
    value = read(final.text, letters=False)
    if value is not None and value.kind not in ("number", "text"):
        return None
    if (answer := _mathematics(final, "number")) is not None:
        return answer
    found = prose.numbers(Stretch(0, text))
    if (options := prose.formulas(final)) and (not found or found[-1].end <= options[-1].end):
        return _mathematics(options[-1], "number")
    return _typed(found[-1], "number") if found else None
