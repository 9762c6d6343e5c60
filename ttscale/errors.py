"""Every error that ttscale raises on purpose.

    TTScaleError
    ├── InvalidInput (ValueError)     something given was refused at the door
    ├── MissingDependency (ImportError)  an optional extra is not installed
    ├── ModelNotFound                 no model folder lies where one was expected
    ├── EngineError                   the engine could not draw
    │   └── EngineStopped             the engine has been closed or has died
    ├── SandboxUnavailable            this machine cannot isolate a program as demanded
    └── ScoreError                    a verifier could not score one candidate

A message says what was given, what is allowed and what to do.
"""

from __future__ import annotations

__all__ = [
    "EngineError",
    "EngineStopped",
    "InvalidInput",
    "MissingDependency",
    "ModelNotFound",
    "SandboxUnavailable",
    "ScoreError",
    "TTScaleError",
]


class TTScaleError(Exception):
    """Base of every error that ttscale raises on purpose."""


class InvalidInput(TTScaleError, ValueError):
    """A value given by the caller is outside what is allowed."""


class MissingDependency(TTScaleError, ImportError):
    """An optional package is needed and not installed."""


class ModelNotFound(TTScaleError):
    """A model name or folder does not lead to a usable model."""


class EngineError(TTScaleError):
    """The engine refused a request or failed while it ran."""


class EngineStopped(EngineError):
    """The engine has been closed, or its process has died."""


class SandboxUnavailable(TTScaleError):
    """This machine does not offer the isolation that was demanded for a program."""


class ScoreError(TTScaleError):
    """A verifier has no usable score for one candidate; the others keep theirs."""
