"""Strategies behind OpenAI's chat format: the routes `/ttscale/v1/...` of the server.

A body that OpenAI's chat route takes, with or without an object `ttscale` in it, is answered with
a completion whose message a strategy chose among many samples.

    body        reads the request: strategy, sampler, form of answer
    engine      draws samples through the server's own chat handler, inside the process
    choice      the winner, by the strategy or by a vote on tool calls and JSON
    answer      the completion, its chunks, and the block `ttscale`
    routes      the HTTP routes, authorisation, cancellation

None of this knows vLLM: `backend.Backend` is what a server must give, and `ttscale.worker.endpoint`
gives it. Nothing here opens a connection, so no header or field can send a key anywhere.
"""
