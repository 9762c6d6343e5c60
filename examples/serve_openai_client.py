"""Ask a server through the official OpenAI client: plainly, with ESamp, and through a strategy.

make demo-serve                                    # or:
python examples/serve_openai_client.py             # starts a server and stops it
python examples/serve_openai_client.py http://localhost:8000
"""

from __future__ import annotations

import sys
from typing import Any

import httpx
import openai

from ttscale.serving.running import RunningServer

QUESTION = "A pen costs 3 dollars. How many dollars do 4 pens cost?"
SERVER = ("--max-model-len", "2048", "--max-num-seqs", "32")
LIMITS: dict[str, Any] = {"max_tokens": 128, "temperature": 0.8, "seed": 0}
COUNTERS = ("rows_mixed", "steps_trained", "fallbacks", "live_distillers", "relative_error")


def ask(base_url: str, **extra: Any) -> Any:
    """The completion of the question by the first model of the server."""
    with openai.OpenAI(base_url=base_url, api_key="none") as client:
        model = client.models.list().data[0].id
        turns: Any = [{"role": "user", "content": QUESTION}]
        return client.chat.completions.create(
            model=model, messages=turns, **LIMITS, extra_body=extra
        )


def show(title: str, answer: Any) -> None:
    """Print an answer and what it cost."""
    print(f"\n{title}: {answer.usage.completion_tokens} tokens")
    print(f"  {' '.join((answer.choices[0].message.content or '').split())}")


def demo(url: str) -> None:
    """Ask three times, then print what ESamp did."""
    print(f"Question: {QUESTION}")
    show("Plain", ask(f"{url}/v1"))
    show("With ESamp", ask(f"{url}/v1", vllm_xargs={"esamp_beta": 0.25}))
    # all that changes for a strategy is the base URL
    chosen = ask(f"{url}/ttscale/v1", ttscale={"strategy": "self-consistency", "n": 16})
    show("Self-consistency over 16 ESamp samples", chosen)
    votes = [f"{vote['answer']} ({vote['count']})" for vote in chosen.ttscale["votes"]]
    print(f"  votes: {', '.join(votes) or 'none'}")
    print("\n/metrics:")
    for line in httpx.get(f"{url}/metrics", trust_env=False).text.splitlines():
        if line.startswith("ttscale:esamp_") and any(name in line for name in COUNTERS):
            print(f"  {line}")


def main() -> None:
    """Use the server whose address is given, or one that runs for as long as this does."""
    if len(sys.argv) > 1:
        demo(sys.argv[1].rstrip("/"))
        return
    print("starting a server (10 to 60 s)")
    with RunningServer(SERVER) as server:
        demo(server.url)
    print("\nserver stopped")


if __name__ == "__main__":
    main()
