"""Tries what a model's engine would run: ``python -I -m coordinator.blobs.trial_child MEMORY CPU``.

Chat templates are rendered as transformers does, and the tokenizer encodes texts that make bad
patterns slow. The limits are set before any of it is read: memory in bytes, processor time in
seconds, no file written, no process started, and no network where the system allows that.

Standard input is one JSON object: ``json`` (file name -> path), ``templates`` (list of file and
text) and ``special`` (names of special tokens -> text). Standard output is JSON lines:
``{"trying": str}`` before each step, then ``{"refused": str, "hint": str}`` or ``{"done": true}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_MAX_FILES = 64
#: Longest text that a template may make of the small conversations below.
MAX_RENDERED_CHARS = 1_048_576
#: Texts for the tokenizer: long enough that quadratic work shows.
STRESS_CHARS = 20_000
#: Processor time for one text; a good tokenizer takes a hundredth of it.
MAX_TEXT_CPU_S = 2.0
#: Most characters of the patterns that are repeated in texts of their own.
MAX_LETTERS = 96

_USER = {"role": "user", "content": "What is the capital of France?"}
_ANSWER = {"role": "assistant", "content": "Paris."}
_CONVERSATIONS: list[list[dict[str, Any]]] = [
    [_USER],
    [{"role": "system", "content": "Be brief."}, _USER, _ANSWER, _USER],
    [_USER, _ANSWER, _USER, _ANSWER, _USER],
]
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a place.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "Its name."}},
                "required": ["place"],
            },
        },
    }
]


class Refused(Exception):
    """What is wrong with the model, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def set_limits(memory_bytes: int, cpu_s: int) -> None:
    """Limit this process for good."""
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def environment() -> Any:  # noqa: ANN401 - jinja2 is imported under the limits
    """Return a template environment like that of transformers."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}``, which marks what the model says."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> nodes.Node:  # noqa: ANN401
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: object, ensure_ascii: bool = False, **options: Any) -> str:  # noqa: ANN401
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: time.strftime(form, time.gmtime(0))
    return made


def try_template(file: str, text: str, special: dict[str, str]) -> None:
    """Render ``text`` for small conversations. Raises: Refused."""
    from jinja2.exceptions import SecurityError, TemplateError

    hint = "replace the template by one that renders a short conversation at once"
    try:
        template = environment().from_string(text)
    except (TemplateError, RecursionError) as error:
        raise Refused(
            f"{file}: the chat template does not parse: {one_line(error)}", hint
        ) from None
    rendered, problem = 0, ""
    for messages in _CONVERSATIONS:
        for tools in (None, _TOOLS):
            try:
                pieces = template.generate(
                    messages=messages, tools=tools, add_generation_prompt=True, **special
                )
                written = 0
                for piece in pieces:
                    written += len(piece)
                    if written > MAX_RENDERED_CHARS:
                        raise Refused(
                            f"{file}: the chat template writes more than {MAX_RENDERED_CHARS} "
                            "characters for a short conversation",
                            hint,
                        )
                rendered += 1
            except SecurityError as error:
                raise Refused(
                    f"{file}: the chat template is not allowed to do this: {one_line(error)}", hint
                ) from None
            # A template may refuse a conversation, for a role that the model does not know.
            except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                problem = f"{type(error).__name__}: {one_line(error)}"
    if not rendered:
        raise Refused(f"{file}: the chat template renders no conversation: {problem}", hint)


def try_tokenizer(text: str, patterns: list[str]) -> None:
    """Encode texts that make bad patterns slow. Raises: Refused."""
    from tokenizers import Tokenizer

    hint = "save the tokenizer again with the transformers library, from the original model"
    try:
        tokenizer = Tokenizer.from_str(text)
    # The library's panics inherit from BaseException; all of them mean that the file is bad.
    except BaseException as error:
        if isinstance(error, MemoryError):
            raise
        raise Refused(f"tokenizer.json does not load: {one_line(error)}", hint) from None
    for stress in stress_texts(patterns):
        began_s = time.process_time()
        shown = ascii(stress[:4])
        try:
            tokenizer.encode(stress)
        except BaseException as error:
            if isinstance(error, MemoryError):
                raise
            raise Refused(
                f"tokenizer.json: a text of {len(stress)} characters, {shown} repeated, "
                f"cannot be encoded: {one_line(error)}",
                hint,
            ) from None
        took_s = time.process_time() - began_s
        if took_s > MAX_TEXT_CPU_S:
            raise Refused(
                f"tokenizer.json: a text of {len(stress)} characters, {shown} repeated, took "
                f"{took_s:.1f} s of processor time, {MAX_TEXT_CPU_S} s are allowed",
                hint,
            )


def stress_texts(patterns: list[str]) -> list[str]:
    """Return long texts of one repeated piece, those from the patterns' own characters included.

    Each ends in a character that makes a pattern which repeats the piece try again.
    """
    pieces = ["a", " ", "1", "\n", "!", "é", "字", "\u0301", "aA1 !", " \n", "ab ", "'s"]
    letters = list(dict.fromkeys("".join(patterns)))[:MAX_LETTERS]
    pieces += [letter for letter in letters if letter not in pieces]
    return [(piece * STRESS_CHARS)[:STRESS_CHARS] + "\x00" for piece in pieces]


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def run(job: dict[str, Any]) -> None:
    """Try all that ``job`` names. Raises: Refused."""
    from coordinator.core import tokenizer_config
    from coordinator.core.json_shape import check_shape
    from protos.domain.errors import InvalidRequest

    for template in job["templates"]:
        say(trying=template["file"])
        try_template(template["file"], template["text"], job["special"])
    shapes = {
        "added_tokens.json": tokenizer_config.ADDED_TOKENS,
        "vocab.json": tokenizer_config.VOCABULARY,
    }
    for name, path in job["json"].items():
        say(trying=name)
        text = Path(path).read_text(encoding="utf-8")
        try:
            content = json.loads(text)
            if name in shapes:
                check_shape(shapes[name], content, name)
            elif not isinstance(content, dict):
                raise Refused(f"{name} is not a JSON object", "fetch the file again")
            else:
                patterns = tokenizer_config.check_tokenizer(content)
                del content
                try_tokenizer(text, patterns)
        except InvalidRequest as error:
            raise Refused(error.message, error.hint) from None
        except (ValueError, RecursionError) as error:
            raise Refused(
                f"{name} is not JSON: {one_line(error)}", "fetch the file again"
            ) from None


def main(argv: list[str]) -> int:
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    # A panic of the tokenizers library prints its stack; the reason is in the exception too.
    os.environ["RUST_BACKTRACE"] = "0"
    job = json.load(sys.stdin)
    set_limits(int(argv[1]), int(argv[2]))
    try:
        run(job)
    except Refused as refused:
        say(refused=refused.message, hint=refused.hint)
        return 1
    except MemoryError:
        say(memory=True)
        return 1
    say(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
