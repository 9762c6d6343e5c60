"""ESamp inside vLLM: the one package that imports vLLM. This text is its design.

What is used of vLLM, and when it runs
    1. Entry point `vllm.general_plugins` -> `plugin.register`, in every vLLM process, before
       engines are made. It wraps the methods of `plugin.WRAPPED`, once, and adds the worker
       method `esamp_report` for `collective_rpc`. Nothing else of vLLM is replaced.
    2. Entry point `vllm.logits_processors` -> `processor.ESampProcessor`. Its `validate_params`
       refuses bad `esamp_*` keys at admission (HTTP 400). On Model Runner V1, `update_state`
       tells, before each forward, which request is in which row; `apply` runs in the sampler
       after penalties and temperature.
    3. `InputProcessor.process_inputs` (front end): refuses ESamp where it cannot work, and on the
       request's private copy of its parameters completes its keys with the operator's defaults
       (`callers`), gives it a group and takes over its token filter.
    4. `BaseModelLoader.load_model` (worker): the model is asked for its first layer's output
       through vLLM's own `set_aux_hidden_state_layers((1,))`; its `forward` then returns
       `cat([hL, h1])`, so the runner's own row selection selects both, and its `compute_logits`
       splits them and mixes. The extra output is part of the compiled graph, hence 5.
    5. `VllmConfig.compute_hash`: salted, or vLLM would reuse compiled graphs without that output.
    6. `Worker.execute_model` (worker): reads from the scheduler's output which requests are new
       and which have ended, which is what keeps groups alive through preemption.
    7. Entry point `vllm.endpoint_plugins` -> `endpoint.Endpoint` (front end, HTTP servers only, and
       only when VLLM_PLUGINS names it): the routes of `ttscale.serving`, the middleware `gate`,
       and ESamp's counters in the front end's Prometheus registry.

One step, on Model Runner V1
    execute_model      requests join and leave their groups
    update_state       rows of the batch: request, and whether it decodes (has output tokens)
    forward            returns (tokens, 2 hidden)
    compute_logits     rows that decode: predict, mix, project; then train
    grammar bitmask    vLLM's; a masked token stays masked
    apply              FIRE's first token; token filters taken on the reference

Pass-through
    `compute_logits` is also called for profiling, dummy runs and prompt log-probabilities. Only
    the first call after `update_state` with one row per request is a step; all others see hL.

Filters
    Alg. 1 takes top-k/top-p/min-p on the reference and re-weights the survivors. So admission
    moves these settings of an ESamp request from vLLM's fields to a private key, and `apply`
    recovers the reference logits as `mixed - delta`, filters them, and masks what fell out.
    The log-probabilities that vLLM returns are those of the mixed distribution, unfiltered.

Who shares a distiller
    The samples of one request (its `n` children) by default; requests that name the same
    `esamp_group`; or all with scope `shared`. Two requests with the same prompt do not share
    unless they name a group, so one tenant's samples never steer another's unasked. Over HTTP a
    group and scope `shared` belong to the caller's API key; see `callers`.

Faults
    Whatever goes wrong inside a step makes the groups concerned sample plainly from then on; it is
    counted by cause and logged once. No request fails. `TTSCALE_DISABLE=1` keeps all of this out;
    requests that ask for ESamp are then refused.
"""
