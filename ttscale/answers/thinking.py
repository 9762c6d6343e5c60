"""Reasoning blocks, which are no part of the answer."""

from __future__ import annotations

import re

_TAG = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)


def strip_thinking(text: str) -> str:
    """Drop `<think>...</think>` blocks.

    A closing tag without an opening one (chat templates put the opening one into the prompt) drops
    all before it. A block that is never closed leaves the empty text: the model was still thinking.
    """
    return "".join(text[start:end] for start, end in visible_spans(text))


def visible_spans(text: str) -> list[tuple[int, int]]:
    """The (start, end) stretches of `text` that lie outside of thinking, in order."""
    spans: list[tuple[int, int]] = []
    start = 0
    thinking = False
    for tag in _TAG.finditer(text):
        if tag[1]:
            # Closes a block, or ends thinking that began before the text did.
            spans = spans if thinking else []
            start, thinking = tag.end(), False
        elif not thinking:
            spans.append((start, tag.start()))
            thinking = True
    return [] if thinking else [*spans, (start, len(text))]


def blank_thinking(text: str) -> str:
    """`text` with all thinking overwritten by line breaks, so that positions stay the same."""
    parts: list[str] = []
    at = 0
    for start, end in visible_spans(text):
        parts += ["\n" * (start - at), text[start:end]]
        at = end
    return "".join([*parts, "\n" * (len(text) - at)])
