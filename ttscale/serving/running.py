"""Runs `ttscale serve`, or a router, for as long as a block lasts: for examples and tests."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx

from ttscale.errors import EngineError, MissingDependency

COMMAND = ("ttscale.cli", "serve")
POLL_SECONDS = 0.25
STOP_SECONDS = 60.0
SHOWN = 4000  # characters of the log that an error shows
ROUTER = ("vllm_router.launch_router",)
ROUTER_SETTINGS = (
    *("--cb-failure-threshold", "3", "--cb-timeout-duration-secs", "5"),
    *("--health-check-interval-secs", "2", "--health-failure-threshold", "1"),
    *("--worker-startup-check-interval", "1"),
)
"""How soon a replica that is gone is passed over, and one that is back is used again."""


class RunningServer:
    """A server on a free port of this machine, started on entry and stopped on exit.

    Args:
        args: Arguments of `ttscale serve`, without host and port.
        command: What is run by this Python with `-m`.
        environment: Further environment variables.
        log: File for what the server writes; None keeps it in a temporary one.
        start_seconds: Longest time to start.

    Attributes:
        url: Its address, without a path.
        process: The process of the HTTP server.
        log: Where it writes.

    Raises:
        EngineError: On entry: it did not start; the message ends with the end of its log.
    """

    def __init__(
        self,
        args: Sequence[str] = (),
        *,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        start_seconds: float = 300.0,
    ) -> None:
        port = _free_port()
        where = ["--host", "127.0.0.1", "--port", str(port)]
        self.url = f"http://127.0.0.1:{port}"
        self.log = log or Path(tempfile.mkdtemp(prefix="ttscale-server-")) / "log"
        self.process: subprocess.Popen[bytes]
        self._command = [sys.executable, "-m", *command, *args, *where]
        self._environment = {**os.environ, **(environment or {})}
        self._start_seconds = start_seconds

    def __enter__(self) -> RunningServer:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command, stdout=output, stderr=output, env=self._environment
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; a second call does nothing."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """End the server at once, with the engine below it, as a machine that fails would."""
        import psutil  # vLLM brings it

        for below in psutil.Process(self.process.pid).children(recursive=True):
            below.kill()
        self.process.kill()
        self.process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        with httpx.Client(trust_env=False) as client:
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    if client.get(f"{self.url}/health").is_success:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(POLL_SECONDS)
        tail = self.log.read_text(errors="replace")[-SHOWN:]
        raise EngineError(f"the server did not start; its log ends with:\n{tail}")


def running_router(
    replicas: Sequence[str], *, policy: str = "sticky_least_loaded", log: Path | None = None
) -> RunningServer:
    """vllm-router in front of servers, as a context manager like `RunningServer`.

    Args:
        replicas: Addresses of the servers, without a path.
        policy: One that keeps sessions: `sticky_least_loaded` or `consistent_hash`.
        log: File for what the router writes; None keeps it in a temporary one.

    Raises:
        MissingDependency: vllm-router is not installed.
    """
    if importlib.util.find_spec("vllm_router") is None:
        raise MissingDependency("the router is not installed; run pip install 'ttscale[router]'")
    args = ["--worker-urls", *replicas, "--policy", policy, *ROUTER_SETTINGS]
    args += ["--prometheus-port", str(_free_port())]
    return RunningServer(args, command=ROUTER, log=log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
