"""Verifiers as DSPy metrics, and DSPy metrics as verifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from ttscale import _check, _sync
from ttscale.engines import Engine
from ttscale.errors import InvalidInput, ScoreError
from ttscale.integrations._dspy_fields import answer_of, check_kind, shown
from ttscale.integrations._dspy_scores import engine_of
from ttscale.types import Candidate, Prompt
from ttscale.verifiers import CallableVerifier, Verifier
from ttscale.verifiers.protocol import check_verifier
from ttscale.verifiers.sheet import conform

Feedback = Callable[[Any, Any, float], str]


class VerifierMetric:
    """A ttscale verifier as a metric for `dspy.Evaluate` and the optimizers.

    The verifier gets the example's inputs as the question and the prediction's fields as the text.
    Its score is rescaled from its range to [0, 1]. What is returned depends on who asks: GEPA,
    which names a predictor, gets the score with feedback; an optimizer that collects
    demonstrations, which hands over a trace, gets whether the score is at least `threshold`;
    everyone else gets the score.

    Args:
        verifier: The verifier.
        threshold: Least score, in [0, 1], of a prediction that is worth a demonstration.
        feedback: `feedback(example, prediction, score)` writes the feedback; without it the
            feedback tells the score, what was answered and the labels of the example.
        engine: The engine for verifiers that ask a model; the one of the current `ESampLM`.

    Raises:
        InvalidInput: A setting is of the wrong kind or outside its legal range.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        threshold: float = 0.5,
        feedback: Feedback | None = None,
        engine: Engine | None = None,
    ) -> None:
        check_verifier(verifier)
        self.verifier = verifier
        self.threshold = _check.number("threshold", threshold, 0, 1)
        self._feedback = feedback or self._tell
        self._engine = engine

    def __call__(
        self,
        gold: Any,
        pred: Any,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,  # noqa: ARG002 - GEPA asks for the name
    ) -> Any:
        """The score of one prediction; see above.

        Raises:
            ScoreError: The verifier has no score for it.
        """
        score = self._score(gold, pred)
        if pred_name is not None:
            return dspy.Prediction(score=score, feedback=self._feedback(gold, pred, score))
        return score if trace is None else score >= self.threshold

    def _score(self, gold: Any, pred: Any) -> float:
        engine = self._engine or engine_of(dspy.settings.lm)
        candidate = Candidate(0, shown(dict(pred.items())), 0, "stop")
        question = Prompt.of(shown(_inputs(gold)))
        with dspy.context(trace=[], send_stream=None):
            sheet = _sync.run(self.verifier.ascore(question, (candidate,), engine))
        low, high = self.verifier.low, self.verifier.high
        given = conform(sheet, 1, low, high).scores[0]
        if given.value is None:
            raise ScoreError(f"{self.verifier.name} has no score: {given.error}")
        return (given.value - low) / (high - low)

    def _tell(self, gold: Any, pred: Any, score: float) -> str:
        labels = {k: v for k, v in gold.items() if k not in _inputs(gold)}
        expected = f" Expected: {shown(labels)}." if labels else ""
        return (
            f"{self.verifier.name} scores this {score:.2f} on a scale from 0 to 1. "
            f"Answered: {shown(dict(pred.items()))}.{expected}"
        )


def verifier_metric(
    verifier: Verifier,
    *,
    threshold: float = 0.5,
    feedback: Feedback | None = None,
    engine: Engine | None = None,
) -> VerifierMetric:
    """A verifier as a DSPy metric; see `VerifierMetric`."""
    return VerifierMetric(verifier, threshold=threshold, feedback=feedback, engine=engine)


def metric_verifier(
    metric: Callable[..., Any],
    examples: Sequence[Any] = (),
    *,
    input_field: str = "question",
    output_field: str = "answer",
    kind: str = "auto",
    name: str | None = None,
) -> CallableVerifier:
    """A DSPy metric as a verifier, with scores in [0, 1].

    The metric is called with an example and with a prediction whose `output_field` is the answer
    that the candidate's text states. The example is the one of `examples` whose inputs are the
    question, so that metrics that need labels have them; without examples it has the question as
    its `input_field` and no labels.

    A candidate whose text states no answer, or whose question is none of the examples, has an
    error instead of a score.

    Args:
        metric: `metric(example, prediction)` returning a number or truth value in [0, 1], or a
            prediction with such a `score`.
        examples: Examples with inputs, as for an optimizer.
        input_field: Field of the question, where there are no examples.
        output_field: Field that the metric looks at.
        kind: Kind of the answer, as in `ttscale.answers.extract_answer`.
        name: Name for reports; the metric's own.

    Raises:
        InvalidInput: `metric` cannot be called, or `kind` is unknown.
    """
    if not callable(metric):
        raise InvalidInput(
            f"metric must be callable as metric(example, prediction), got {metric!r}"
        )
    check_kind(kind)
    known = {shown(_inputs(example)): example for example in examples}

    def score(question: str, text: str) -> float:
        example = _example(question, known, input_field)
        answer = answer_of(text, kind)
        if answer is None:
            raise ScoreError("the text states no answer")
        given = metric(example, dspy.Prediction(**{output_field: answer.value}))
        return float(given)

    own_name: str = getattr(metric, "__name__", "metric")
    return CallableVerifier(score, name=name or own_name)


def _example(question: str, known: Mapping[str, Any], input_field: str) -> Any:
    if not known:
        return dspy.Example(**{input_field: question}).with_inputs(input_field)
    if question not in known:
        raise ScoreError(f"the question is none of the {len(known)} examples: {question!r}")
    return known[question]


def _inputs(example: Any) -> dict[str, Any]:
    return dict(example.inputs().items())
