"""One batch in a vLLM without the plugin, for `verify` to compare with. Run as a module.

Reads a job as JSON from standard input (model, dtype, prompts, settings) and writes the token ids,
by prompt and sample, as the last line of standard output.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Run the job; see the module docstring."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    job = json.load(sys.stdin)
    from vllm import LLM

    from ttscale.worker.promises import ENGINE, generate, token_ids

    llm = LLM(job["model"], dtype=job["dtype"], **ENGINE)
    outputs = generate(llm, job["prompts"], job["settings"])
    sys.stdout.write(json.dumps(token_ids(outputs)) + "\n")


if __name__ == "__main__":
    main()
