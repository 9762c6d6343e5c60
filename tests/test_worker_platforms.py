"""What a CPU is given without being asked: the type of weights, and the cores."""

from __future__ import annotations

import os

import pytest

from ttscale.worker.platforms import platform_settings

pytestmark = pytest.mark.engine
RESERVED = "VLLM_CPU_NUM_OF_RESERVED_CPU"


@pytest.mark.parametrize(
    ("machine", "has", "expected"),
    [
        ("x86_64", {"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ("x86_64", {"avx512_bf16": True, "amx_bf16": False}, "auto"),
        ("x86_64", {"avx512_bf16": False, "amx_bf16": True}, "auto"),
    ],
)
def test_weights_are_float32_where_bfloat16_is_emulated(
    monkeypatch: pytest.MonkeyPatch, machine: str, has: dict[str, bool], expected: str
) -> None:
    """AVX-512 alone is no bfloat16 arithmetic; a type that is named is left as it is."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: has)

    assert platform_settings("auto", None, 512)["dtype"] == expected
    assert platform_settings("bfloat16", None, 512)["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("cores", "given", "expected"), [(2, None, "0"), (2, "1", "1"), (8, None, None)]
)
def test_a_machine_of_two_cores_keeps_none_for_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: str | None, expected: str | None
) -> None:
    """What the user says wins, and larger machines are left to vLLM."""
    monkeypatch.setenv(RESERVED, given or "")
    if given is None:
        monkeypatch.delenv(RESERVED)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    platform_settings("auto", None, 512)

    assert os.environ.get(RESERVED) == expected
