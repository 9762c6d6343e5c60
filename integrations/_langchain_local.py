"""Calls of tools and answers in a form, held to their schemas.

An engine itself knows only text. It holds every sample to a JSON schema: the form's own, or that of
one call of a tool. So every sample is such JSON unless it is cut off. What an engine cannot do is
leave it to the model whether to call a tool: telling calls from text is the work of a server's
parser. vLLM's server, too, holds the arguments of calls to their schema only when asked to.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatResult
from langchain_core.utils.function_calling import convert_to_openai_function
from pydantic import BaseModel

from ttscale.engines import Engine
from ttscale.errors import InvalidInput
from ttscale.integrations._langchain_draw import Wanted, from_engine
from ttscale.sampling import Sampler
from ttscale.strategies.messages import forced, named_tool
from ttscale.types import Candidate

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
INTRODUCTION = "Answer with a call of one of these tools, as JSON with its name and arguments:"


async def ask_engine(engine: Engine, wanted: Wanted, given: Mapping[str, Any]) -> ChatResult:
    """Samples of an engine, in the form that the request's fields in `given` ask for.

    Raises:
        InvalidInput: The fields ask for what an engine cannot do.
    """
    choice = given.get("tool_choice")
    functions = [tool.get("function") or {} for tool in given.get("tools") or ()]
    if not functions or choice == "none":
        schema = form_schema(wire_form(given.get("response_format")))
        return await from_engine(engine, replace(wanted, sampler=_held(wanted.sampler, schema)))
    if not forced(choice):
        raise InvalidInput(
            "tools with engine= need tool_choice='any' or a tool's name, got "
            f"{choice!r}: an engine cannot tell free calls from text. Start a server "
            "(`ttscale serve --enable-auto-tool-choice --tool-call-parser NAME`) and give its "
            "base_url in place of engine"
        )
    named = named_tool(choice)
    callable_ones = [f for f in functions if named in (None, f.get("name"))]
    if not callable_ones:
        raise InvalidInput(f"tool_choice must name one of the tools, got {named!r}")
    shown = _with_tools(wanted.messages, callable_ones)
    held = _held(wanted.sampler, call_schema(callable_ones))
    return await from_engine(engine, replace(wanted, messages=shown, sampler=held), as_call)


def wire_form(form: Any) -> Any:
    """A response format as it travels; a class becomes its JSON schema."""
    if not (isinstance(form, type) and issubclass(form, BaseModel)):
        return form
    function = convert_to_openai_function(form, strict=False)
    schema = {"name": function["name"], "schema": function["parameters"]}
    return {"type": "json_schema", "json_schema": schema}


def with_strict_calls(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request to vLLM, whose forced calls are held to the schema of arguments.

    vLLM does so only for tools that say `strict`; what the caller says of it stays.
    """
    if not given.get("tools") or not forced(given.get("tool_choice")):
        return dict(given)
    tools = [
        {**tool, "function": {"strict": True, **tool["function"]}} if "function" in tool else tool
        for tool in given["tools"]
    ]
    return {**given, "tools": tools}


def form_schema(form: object) -> Mapping[str, Any] | None:
    """The JSON schema that a response format stands for; None for text.

    Raises:
        InvalidInput: It is none of OpenAI's formats.
    """
    kind = form.get("type") if isinstance(form, Mapping) else form
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return ANY_OBJECT
    described = form.get("json_schema") if isinstance(form, Mapping) else None
    if kind == "json_schema" and isinstance(described, Mapping) and "schema" in described:
        schema: Mapping[str, Any] = described["schema"]
        return schema
    raise InvalidInput(
        "response_format must be a class or have the type text, json_object or json_schema "
        f"(with a schema), got {form!r}"
    )


def call_schema(functions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The JSON schema of one call of one of the functions: its name and arguments."""
    shared: dict[str, Any] = {}
    calls = []
    for function in functions:
        parameters = dict(function.get("parameters") or ANY_OBJECT)
        shared |= parameters.pop("$defs", {})  # references to them start at the whole schema
        members = {"name": {"const": function["name"]}, "arguments": parameters}
        fixed = {"required": list(members), "additionalProperties": False}
        calls.append({"type": "object", "properties": members, **fixed})
    whole = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**whole, "$defs": shared} if shared else whole


def as_call(candidate: Candidate) -> AIMessage:
    """A sample that is one call of a tool; an invalid call when it is not, for instance cut off."""
    try:
        content = json.loads(candidate.text)
        name, arguments = str(content["name"]), dict(content["arguments"])
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        bad = invalid_tool_call(args=candidate.text, error=f"no call of a tool: {error!r}")
        return AIMessage(content="", invalid_tool_calls=[bad])
    made = tool_call(name=name, args=arguments, id=f"call_{uuid.uuid4().hex}")
    return AIMessage(content="", tool_calls=[made])


def _held(sampler: Sampler, schema: Mapping[str, Any] | None) -> Sampler:
    return sampler if schema is None else replace(sampler, json_schema=json.dumps(schema))


def _with_tools(
    messages: Sequence[BaseMessage], functions: Sequence[Mapping[str, Any]]
) -> list[BaseMessage]:
    """The messages with the tools described in the system message; engines have no other place."""
    told = "\n".join([INTRODUCTION, *(json.dumps(function) for function in functions)])
    if messages and isinstance(messages[0], SystemMessage):
        return [SystemMessage(f"{messages[0].text}\n\n{told}"), *messages[1:]]
    return [SystemMessage(told), *messages]
