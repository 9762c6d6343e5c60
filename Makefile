.PHONY: setup demo demo-serve demo-scale test test-engines check

setup: ## make .venv and the embedded model; does nothing when they are there
	@scripts/setup

demo: setup ## answer maths questions by majority vote over ESamp samples
	.venv/bin/python examples/math_majority_vote.py

demo-serve: setup ## start the server, ask it through the OpenAI client, stop it
	.venv/bin/python examples/serve_openai_client.py

demo-scale: setup ## two replicas behind vllm-router, an evaluation, a replica that dies
	.venv/bin/python examples/scale_out/run.py

test: setup ## run the tests, with the real engine and a real server
	.venv/bin/python -m pytest -m "not own_engine"

test-engines: setup ## tests that start engines of their own: Model Runner V2, kinds of models, faults
	.venv/bin/python -m pytest -m own_engine

check: setup ## ruff, mypy strict and the docs check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python scripts/check_docs.py
