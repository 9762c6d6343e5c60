"""ESamp inside vLLM: the one package that imports vLLM. This text is its design.

What is used of vLLM, and when it runs
    1. Entry point `vllm.general_plugins` -> `plugin.register`, in every vLLM process, before
       engines are made. It wraps the methods of `plugin.WRAPPED`, once, and adds the worker
       method `esamp_report` for `collective_rpc`. Nothing else of vLLM is replaced.
    2. Entry point `vllm.logits_processors` -> `processor.ESampProcessor`. Its `validate_params`
       refuses bad `esamp_*` keys at admission (HTTP 400). On Model Runner V1, `update_state`
       tells, before each forward, which request is in which row; on V2, `add_request` tells which
       request is in which slot. `apply` runs in the sampler after penalties; V1 has divided by
       the temperature before it, V2 does so after it.
    3. `InputProcessor.process_inputs` (front end): refuses ESamp where it cannot work, and on the
       request's private copy of its parameters completes its keys with the operator's defaults
       (`callers`), gives it a group and takes over its token filter. With data parallelism it
       names the engine core that the group lives on (`parallel`).
    4. `BaseModelLoader.load_model` (worker): the model is asked for its first layer's output
       through vLLM's own `set_aux_hidden_state_layers((1,))`; its `forward` then returns
       `cat([hL, h1])`, so the runner's own row selection selects both, and its `compute_logits`
       splits them and mixes. The extra output is part of the compiled graph, hence 5.
    5. `VllmConfig.compute_hash`: salted, or vLLM would reuse compiled graphs without that output.
    6. `Worker.execute_model` (worker): reads from the scheduler's output which requests are new
       and which have ended, which is what keeps groups alive through preemption.
    7. `GPUModelRunner.sample` of V2 (worker, and wrapped only where V2 runs): the one place where
       the step's rows, which V2 orders anew in every step, and `compute_logits` meet.
    8. Entry point `vllm.endpoint_plugins` -> `endpoint.Endpoint` (front end, HTTP servers only, and
       only when VLLM_PLUGINS names it): the routes of `ttscale.serving`, the middleware `gate`,
       and ESamp's counters in the front end's Prometheus registry.

One step, on Model Runner V1
    execute_model      requests join and leave their groups
    update_state       rows of the batch: request, and whether it decodes (has output tokens)
    forward            returns (tokens, 2 hidden)
    compute_logits     rows that decode: predict, mix, project; then train
    grammar bitmask    vLLM's; a masked token stays masked
    apply              FIRE's first token; token filters taken on the reference

One step, on Model Runner V2
    execute_model      requests join and leave their groups
    add_request        slots of the requests that are new, or back after preemption
    forward            returns (tokens, 2 hidden)
    sample             rows of the batch: slot, and whether it decodes (tokens computed so far, and
                       lengths of prompt and prefill; all known to the host)
      compute_logits   as above
      grammar bitmask  as above
      apply            as above, before the temperature
    `rows` turns what either runner tells into the rows of a step; all else is one `Runtime`. On a
    GPU no step waits for the device: what it reads is on the host, what it sends goes through
    pinned memory, and counters are read when a report is asked for.

Pass-through
    `compute_logits` is also called for profiling, dummy runs and prompt log-probabilities. Only the
    first call after `update_state` (V1) or within `sample` (V2) with one row per request is a step;
    all others see hL.

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

More than one process
    Tensor parallel ranks see the same hL and h1, have distillers of the same seeds and places, and
    so mix and train alike, each for itself; nothing is sent between them. How often a step projects
    depends on its rows alone, never on a fault, since the head's projection is a collective
    operation. Data parallel engine cores have distillers of their own. Pipeline parallelism (h1 and
    hL are on different ranks), speculative decoding (a request has several rows) and batch-sharded
    sampling (the head is called otherwise) are refused at admission: see `plugin.why_not`.
    Distiller `vocab` learns through the head and needs its whole matrix in one place: see `head`.

Faults
    Whatever goes wrong inside a step makes the groups concerned sample plainly from then on; it is
    counted by cause and logged once. No request fails. `TTSCALE_DISABLE=1` keeps all of this out;
    requests that ask for ESamp are then refused.
"""
