"""An adapter for small models: a plain question in, free text out, and the answer read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.utils import parse_value
from dspy.utils.exceptions import AdapterParseError

from ttscale.answers import equivalent
from ttscale.errors import InvalidInput
from ttscale.integrations._dspy_fields import answer_of, check_kind, shown

MAX_OUTPUTS = 2


class ProseAdapter(dspy.Adapter):  # type: ignore[misc]
    """Asks in plain turns, without field marks or JSON, and reads the answer from the text.

    Models of a few hundred million parameters do not keep to the format of `dspy.ChatAdapter`. Here
    the instruction is the system turn, the inputs are the user turn, and demonstrations are turns
    as well. Of the model's text the last output field is the answer that it states
    (`ttscale.answers.extract_answer`), converted to the field's type; a second output field, such
    as the reasoning of `dspy.ChainOfThought`, is the text as a whole.

    A text that states no answer does not parse. Use it with `dspy.configure(adapter=...)`.

    Args:
        kind: Kind of answer, as in `extract_answer`; with `text` any text is an answer.

    Raises:
        InvalidInput: `kind` is unknown, or, when used, the signature has more output fields.
    """

    def __init__(self, kind: str = "auto") -> None:
        super().__init__()
        check_kind(kind)
        self.kind = kind

    def format(
        self, signature: Any, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Instruction, demonstrations and question as turns of a conversation."""
        self._answer_field(signature)
        turns = [("system", signature.instructions)]
        for demo in demos:
            if all(
                name in demo for name in [*signature.input_fields, self._answer_field(signature)]
            ):
                turns += [
                    ("user", _asked(signature, demo)),
                    ("assistant", self._told(signature, demo)),
                ]
        turns.append(("user", _asked(signature, inputs)))
        return [{"role": role, "content": content} for role, content in turns]

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """The output fields of one text.

        Raises:
            AdapterParseError: It states no answer, or none of the field's type.
        """
        name = self._answer_field(signature)
        answer = answer_of(completion, self.kind)
        whole = completion.strip()
        stated = answer.value if answer is not None else whole if self.kind == "text" else ""
        if not stated:
            raise self._unparsed(signature, completion, "it states no answer")
        try:
            value = parse_value(stated, signature.output_fields[name].annotation)
        except ValueError as error:
            raise self._unparsed(signature, completion, str(error)) from error
        others = {other: whole for other in signature.output_fields if other != name}
        return {**others, name: value}

    def _told(self, signature: Any, demo: Mapping[str, Any]) -> str:
        """The text of a demonstration, which states its answer at the end if not before."""
        name = self._answer_field(signature)
        answer = str(demo[name])
        reasons = [str(demo[n]) for n in signature.output_fields if n != name and demo.get(n)]
        stated = answer_of(reasons[0], self.kind) if reasons else None
        if stated is not None and equivalent(stated.value, answer):
            return reasons[0]
        return "\n".join([*reasons, f"The answer is {answer}."])

    def _answer_field(self, signature: Any) -> str:
        names = list(signature.output_fields)
        if len(names) > MAX_OUTPUTS:
            raise InvalidInput(
                "ProseAdapter takes signatures with an answer and at most one other output field, "
                f"got {', '.join(names)}; use dspy.ChatAdapter"
            )
        return str(names[-1])

    def _unparsed(self, signature: Any, completion: str, why: str) -> AdapterParseError:
        return AdapterParseError(
            adapter_name="ProseAdapter", signature=signature, lm_response=completion, message=why
        )


def _asked(signature: Any, fields: Mapping[str, Any]) -> str:
    return shown({name: fields[name] for name in signature.input_fields if name in fields})
