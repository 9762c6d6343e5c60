"""Throughput, distiller memory and router traffic for fleets of replicas, and what breaks first.

    python benchmarks/scale_model.py             # prints the tables of docs/scaling.md

A model, not a measurement: nothing larger than two small replicas has been run. Every constant says
where it is from; the formulas are in docs/scaling.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ttscale.esamp.cost import bytes_per_group, step_cost
from ttscale.esamp.settings import DISTILLERS

# Measured: benchmarks/router_traffic.py, samples streamed with log-probabilities (as `ServerEngine`
# asks for them), 16 samples a request, one engine and one server process on the CPU named in
# docs/scaling.md.
BYTES_PER_TOKEN = 383
BYTES_PER_REQUEST = 2517  # both ways, beside its tokens
ROUTER_SECONDS = 19e-6  # CPU seconds a token
FRONT_END_SECONDS = 174e-6
CLIENT_SECONDS = 94e-6

# Measured: tests/test_esamp_cost.py and docs/distiller.md hold what bytes_per_group and step_cost
# count against real distillers.

# Data sheet: NVIDIA H100 SXM: memory bandwidth, dense bfloat16, float32.
GPU_BANDWIDTH, GPU_FLOPS, GPU_FLOPS_32 = 3.35e12, 989e12, 67e12
# Literature: 419 unexpected interruptions in 54 days on 16,384 GPUs (arXiv 2407.21783, 3.3.4).
HOURS_BETWEEN_FAILURES = 54 * 24 * 16_384 / 419  # of one GPU

# The code: distillers of all groups together hold at most this much (docs/distiller.md).
DISTILLER_ROOM = 2**30

# Assumptions.
EFFICIENCY = 0.5  # share of the data sheet that a step reaches, for the model and the distillers
SAMPLES = 16  # of a prompt: a group
GROUPS = 16  # in flight on a replica
LENGTH = 1000  # tokens of a sample
ROUTER_CORES = 32  # of one router, on a machine of its own
NETWORK = 25e9 / 8  # bytes a second of that machine, each way
CLIENT_CORES = 1  # of one client: one Python process
SESSION_SECONDS = 7200  # that sticky_least_loaded remembers a session (its default)


@dataclass(frozen=True)
class Model:
    """A model and the GPUs of one replica.

    Attributes:
        name: Its name in the tables.
        parameters: Weights that a step multiplies with; all of them, so a dense model.
        hidden: Width of its hidden states.
        weight_bytes: Bytes of a weight.
        gpus: Tensor parallel ranks of a replica.
    """

    name: str
    parameters: float
    hidden: int
    weight_bytes: int
    gpus: int


MODELS = (
    Model("8B", 8.0e9, 4096, 2, 1),
    Model("70B", 70.6e9, 8192, 2, 4),
    Model("400B", 405e9, 16_384, 1, 8),
)
REPLICAS = (1, 8, 64, 1000)


def step_seconds(model: Model, distiller: str | None) -> float:
    """One decode step of a full replica: the model, then the distillers, neither overlapping."""
    rows = GROUPS * SAMPLES
    share = EFFICIENCY * model.gpus
    weights = model.parameters * model.weight_bytes / (share * GPU_BANDWIDTH)
    seconds = max(weights, 2 * model.parameters * rows / (share * GPU_FLOPS))
    if distiller is None:
        return seconds
    # every rank trains the same distillers, so more ranks do not make them cheaper
    work = step_cost(distiller, model.hidden, GROUPS, SAMPLES)
    return seconds + work.seconds(EFFICIENCY * GPU_FLOPS_32, EFFICIENCY * GPU_BANDWIDTH)


def tokens_per_second(model: Model, distiller: str | None = "ridge") -> float:
    """Of one replica that is always full."""
    return GROUPS * SAMPLES / step_seconds(model, distiller)


def most_loaded(replicas: int, mean: float) -> float:
    """Groups on the fullest of the replicas over the mean, when a hash spreads them (Poisson).

    The smallest k with fewer than one replica expected above it.
    """
    k = math.ceil(mean)
    while replicas * _above(k, mean) >= 1:
        k += 1
    return k / mean


def _above(k: int, mean: float) -> float:
    """P(X > k) of a Poisson variable."""
    terms = (math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(k + 1))
    return max(0.0, 1 - math.fsum(terms))


@dataclass(frozen=True)
class Fleet:
    """Figures of so many replicas of a model."""

    model: Model
    replicas: int

    @property
    def tokens(self) -> float:
        """Tokens a second, all replicas together."""
        return self.replicas * tokens_per_second(self.model)

    @property
    def requests(self) -> float:
        """Requests a second, one for each group."""
        return self.tokens / (SAMPLES * LENGTH)

    @property
    def traffic(self) -> float:
        """Bytes a second from the replicas to the router; the router sends as many on."""
        return self.tokens * BYTES_PER_TOKEN + self.requests * BYTES_PER_REQUEST

    @property
    def router_cores(self) -> float:
        """Cores that the router keeps busy."""
        return self.tokens * ROUTER_SECONDS

    @property
    def clients(self) -> int:
        """Client processes that it takes to read the answers."""
        return math.ceil(self.tokens * CLIENT_SECONDS / CLIENT_CORES)

    @property
    def routers(self) -> int:
        """Routers that it takes."""
        return max(
            1, math.ceil(self.router_cores / ROUTER_CORES), math.ceil(self.traffic / NETWORK)
        )

    @property
    def hours_between_failures(self) -> float:
        """Of any replica."""
        return HOURS_BETWEEN_FAILURES / (self.replicas * self.model.gpus)

    @property
    def sessions(self) -> float:
        """Sessions that the router remembers, each group with a prompt of its own."""
        return self.requests * SESSION_SECONDS


def of_a_replica() -> Iterator[str]:
    """One replica of each model."""
    yield (
        "| model, GPUs | distiller | tokens/s without | with, as a share | MB a group and GPU | "
        "GB for all groups | groups that fit |"
    )
    yield "|---|---|---|---|---|---|---|"
    for model in MODELS:
        plain = tokens_per_second(model, None)
        for name in DISTILLERS:
            each = bytes_per_group(name, model.hidden)
            yield (
                f"| {model.name}, {model.gpus} | {name} | {plain:,.0f} | "
                f"{tokens_per_second(model, name) / plain:.3f} | {each / 1e6:,.1f} | "
                f"{GROUPS * each / 1e9:.2f} | {DISTILLER_ROOM // each} |"
            )


def of_fleets() -> Iterator[str]:
    """Every size of fleet."""
    yield (
        "| model | replicas | tokens/s | requests/s | router, each way | router cores | routers | "
        "client processes | sessions held | hours between deaths | fullest |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for model in MODELS:
        for count in REPLICAS:
            fleet = Fleet(model, count)
            yield (
                f"| {model.name} | {count:,} | {fleet.tokens:,.0f} | {fleet.requests:,.1f} | "
                f"{fleet.traffic / 1e6:,.0f} MB/s | {fleet.router_cores:,.1f} | {fleet.routers} | "
                f"{fleet.clients:,} | {fleet.sessions:,.0f} | "
                f"{fleet.hours_between_failures:,.0f} | {most_loaded(count, GROUPS):.2f} |"
            )


def limits() -> Iterator[str]:
    """After how many replicas each part is full."""
    yield "| model | one client process | one vLLM front end | one router's cores | its network |"
    yield "|---|---|---|---|---|"
    for model in MODELS:
        each = tokens_per_second(model)
        one = Fleet(model, 1)
        yield (
            f"| {model.name} | {CLIENT_CORES / (each * CLIENT_SECONDS):,.2g} replicas | "
            f"{1 / (each * FRONT_END_SECONDS):,.2g} of a replica's tokens | "
            f"{ROUTER_CORES / one.router_cores:,.0f} replicas | "
            f"{NETWORK / one.traffic:,.0f} replicas |"
        )


def main() -> None:
    """Print all tables."""
    for table in (of_a_replica(), of_fleets(), limits()):
        print("\n".join(table), end="\n\n")


if __name__ == "__main__":
    main()
