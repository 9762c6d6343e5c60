"""Exit codes."""

DONE = 0
RUN_FAILED = 1  # a question was lost, or lines of the file are broken
BAD_INPUT = 2
NO_ENGINE = 3  # the model or the engine could not be made
INTERRUPTED = 130
