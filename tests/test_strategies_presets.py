"""Presets: strategies over ESamp samples, and the table of names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ttscale.errors import InvalidInput
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import (
    BestOfN,
    ESampBestOfN,
    ESampSelfConsistency,
    ESampVerifierRerank,
    SelfConsistency,
    VerifierRerank,
)
from ttscale.testing import ScriptedEngine
from ttscale.types import ESampReport
from ttscale.verifiers import SelfJudge


def test_presets_are_the_plain_strategies_with_an_esamp_sampler() -> None:
    """Each preset equals its class with an ESamp sampler and the same settings."""
    drawn = Sampler(esamp=ESamp(beta=0.5), max_tokens=64, seed=2)
    judge = SelfJudge()

    assert ESampBestOfN(8, beta=0.5, max_tokens=64, seed=2) == BestOfN(8, drawn)
    assert ESampBestOfN(8, beta=0.5, verifier=judge, max_tokens=64, seed=2) == BestOfN(
        8, drawn, judge
    )
    assert ESampSelfConsistency(
        8, beta=0.5, kind="number", max_tokens=64, seed=2
    ) == SelfConsistency(8, drawn, "number")
    assert ESampVerifierRerank(judge, 8, beta=0.5, max_tokens=64, seed=2) == VerifierRerank(
        judge, 8, drawn
    )


def test_full_esamp_settings_are_taken() -> None:
    """Settings given as a whole are used as they are."""
    settings = ESamp(beta=1.0, distiller="swiglu")

    assert ESampSelfConsistency(esamp=settings).sampler.esamp == settings


def test_bad_beta_is_refused() -> None:
    """An illegal beta is refused with its legal range."""
    with pytest.raises(InvalidInput, match=r"esamp_beta must be a number in \[0, 4\], got -1"):
        ESampBestOfN(beta=-1)


def test_outcome_carries_the_esamp_report() -> None:
    """What ESamp did is in the outcome, and nothing is there without ESamp."""
    report = ESampReport(rows_mixed=40, steps_trained=10, relative_error=0.5)
    engine = ScriptedEngine([r"\boxed{7}"], esamp=report)

    assert ESampSelfConsistency(n=2).run(engine, "q").esamp == report
    assert SelfConsistency(n=2).run(engine, "q").esamp is None


def test_import_is_light() -> None:
    """Importing the strategies, verifiers and the test engine loads no heavy package."""
    code = (
        "import sys, ttscale.strategies, ttscale.verifiers, ttscale.testing\n"
        "heavy = {'torch', 'vllm', 'sympy', 'math_verify', 'transformers', 'numpy'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.strip()) == (0, "")
