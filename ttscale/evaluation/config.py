"""What an evaluation is told to do, from a TOML or YAML file or from flags."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ttscale.errors import InvalidInput, MissingDependency
from ttscale.evaluation.book import Plan
from ttscale.evaluation.catalogue import TaskSpec
from ttscale.evaluation.samplers import TEMPERATURES, arms
from ttscale.models import EMBEDDED

Scalar = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskConfig(_Strict):
    """One task: see `TaskSpec`."""

    name: str
    count: Annotated[int, Field(ge=1)] | None = None
    settings: dict[str, Scalar] = {}
    instruction: str | None = None
    system: str | None = None
    opening: str = ""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    def spec(self, seed: int) -> TaskSpec:
        """The task with the evaluation's seed."""
        parsed = TaskSpec.parse(self.name)
        return TaskSpec(
            parsed.name,
            self.count,
            seed,
            {**parsed.settings, **self.settings},
            self.instruction,
            self.system,
            self.opening,
            self.stop,
        )


class PriceConfig(_Strict):
    """What drawing is paid with: see `Prices`."""

    prompt: float | None = None
    completion: float | None = None
    hour: float | None = None


class Config(_Strict):
    """An evaluation: tasks x samplers x temperatures, n samples of each problem.

    Attributes:
        model: Name, folder or hub name of the model.
        task: The tasks.
        samplers: Names as in `ttscale.evaluation.samplers`; the first is the baseline.
        temperatures: The sweep; one temperature compares points instead of frontiers.
        n: Samples of each problem.
        seed: Seed of everything.
        max_tokens: Longest sample.
        concurrency: Problems in work at one time.
        prices: What cost is counted in; none by default.
        judges: Strategies with a judge (the model itself), run over the samples of each problem.
    """

    model: str = EMBEDDED
    task: tuple[TaskConfig, ...]
    samplers: tuple[str, ...] = ("vanilla", "esamp")
    temperatures: tuple[float, ...] = TEMPERATURES
    n: Annotated[int, Field(ge=1)] = 16
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_tokens: Annotated[int, Field(ge=1)] = 256
    concurrency: Annotated[int, Field(ge=1)] = 8
    prices: PriceConfig = PriceConfig()
    judges: tuple[str, ...] = ()

    def plan(self, command: str = "") -> Plan:
        """The tasks made and the samplers checked.

        Raises:
            InvalidInput: A task or sampler is refused.
            MissingDependency: A task needs a package that is not installed.
        """
        swept = arms(self.samplers, self.temperatures, self.max_tokens)
        suites = tuple(task.spec(self.seed).suite() for task in self.task)
        judges = tuple(dict.fromkeys(self.judges))
        return Plan(suites, swept, self.n, self.seed, self.concurrency, command, judges)


def config_of(values: object, source: str) -> Config:
    """The configuration of plain values; `source` names them in errors.

    Raises:
        InvalidInput: A key is unknown or missing, or a value is refused.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InvalidInput(f"{source}: {where}: {first['msg']}, got {first['input']!r}") from error


def read_config(path: str | Path) -> dict[str, object]:
    """The values of a TOML file, or of a YAML file by its ending (`.yaml`, `.yml`).

    Raises:
        InvalidInput: The file cannot be read, or holds no table.
        MissingDependency: It is YAML, and PyYAML is not installed.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {str(path)!r}: {error}") from error
    if Path(path).suffix in (".yaml", ".yml"):
        found = _yaml(content, str(path))
    else:
        try:
            found = tomllib.loads(content)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{str(path)!r} is no TOML: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{str(path)!r} must hold keys and values, got {type(found).__name__}")
    return found


def _yaml(content: str, path: str) -> object:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency(
            "YAML files need PyYAML; run pip install 'ttscale[eval]', or write TOML"
        ) from error
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path!r} is no YAML: {error}") from error
