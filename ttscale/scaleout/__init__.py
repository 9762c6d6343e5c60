"""A batch of prompts over many vLLM engines, by Ray Data's vLLM processor.

A row of the dataset is one request: one prompt with all its `n` samples, which therefore run in one
engine and share one ESamp distiller. Ray starts the engines, hands rows to whichever has room, and
starts an engine again that has died. `stage.SampleStage` is what takes a row in a Ray worker: Ray's
own stage (`vLLMEngineStageUDF`), which keeps one sample of a row, and no finish reason, with the
one method replaced that does so. Everything else is Ray's.

`ray_data` runs in the program that asks, `stage` in Ray's workers; both load Ray, and nothing else
of ttscale does.
"""
