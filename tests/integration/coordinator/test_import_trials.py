"""Templates and tokenizers are tried in a child with limits before a model is registered."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from coordinator.blobs.import_trial import Template, Trial, TrialLimits, try_model
from protos.domain.errors import InvalidRequest, Overloaded
from tests.support.model_files import model_files
from tests.support.waiting import wait_until_async

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% generation %}{{ m.content | trim }}{% endgeneration %}{% endfor %}"
    "{{ tools | tojson(indent=4) if tools }}{{ strftime_now('%d %b %Y') }}"
)
NO_LIMIT_REACHED = TrialLimits()
LITTLE = TrialLimits(memory_bytes=512 * 1024**2, cpu_s=2, wall_s=30.0)


def trial_children() -> list[str]:
    """Return the children of this process that try a model."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [one for one in children if b"trial_child" in Path(f"/proc/{one}/cmdline").read_bytes()]


def tokenizer(pattern: str, **changes: object) -> str:
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        },
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
    }
    return json.dumps(content | changes)


async def try_files(folder: Path, limits: TrialLimits, *templates: str, **files: str) -> None:
    paths = {}
    for name, text in files.items():
        path = folder / name
        path.write_text(text)
        paths[f"{name}.json"] = str(path)
    trial = Trial(paths, [Template("chat_template.jinja", one) for one in templates], {})
    await try_model(trial, asyncio.Semaphore(1), limits)


async def refusal_of(folder: Path, *templates: str, limits=LITTLE, **files: str) -> str:
    with pytest.raises(InvalidRequest) as refused:
        await try_files(folder, limits, *templates, **files)
    assert refused.value.hint
    return refused.value.message


async def test_good_templates_and_tokenizers_pass(tmp_path):
    await try_files(
        tmp_path,
        NO_LIMIT_REACHED,
        CHATML,
        STRICT,
        tokenizer=tokenizer(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"),
        vocab='{"a": 0}',
        added_tokens='{"<s>": 1}',
    )


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "took more than 2 s of processor time",
        ),
        ("{{ 'x' * 4000000000 }}", "took more than 512 MiB of memory"),
        ("{{ 'x' * 2000000 }}", "writes more than"),
        (
            "{% set ns = namespace(s='x') %}{% for a in range(40) %}"
            "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
            "of memory",
        ),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "not allowed to do this"),
        ("{{ messages.append(1) }}", "not allowed to do this"),
        ("{% for message in %}", "does not parse"),
        ("{{ raise_exception('never') }}", "renders no conversation"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "chat_template.jinja"),
        ("{% include '/etc/passwd' %}", "chat_template.jinja"),
    ],
)
async def test_a_template_that_would_hold_up_the_engine_is_refused(tmp_path, template, says):
    message = await refusal_of(tmp_path, template)
    assert "chat_template.jinja" in message
    assert says in message


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(x+x+)+y", r"(?:a|aa)+$", r"(é+)+\z"])
async def test_a_pattern_that_backtracks_for_ever_is_refused(tmp_path, pattern):
    message = await refusal_of(tmp_path, tokenizer=tokenizer(pattern))
    assert "tokenizer.json" in message
    assert "a text of" in message


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"tokenizer": "not json"}, "tokenizer.json is not JSON"),
        ({"tokenizer": "[" * 100_000}, "tokenizer.json is not JSON"),
        ({"tokenizer": "[]"}, "not a JSON object"),
        ({"tokenizer": tokenizer("(")}, "does not load"),
        ({"tokenizer": tokenizer("a", model={"type": "BPE", "vocab": 5})}, "does not load"),
        ({"tokenizer": tokenizer("a", plugin="x")}, "plugin"),
        ({"vocab": '{"a": "/etc/passwd"}'}, "vocab.json.a is"),
        ({"added_tokens": "[1]"}, "added_tokens.json is a list"),
    ],
)
async def test_tokenizers_that_are_none_are_refused(tmp_path, files, says):
    assert says in await refusal_of(tmp_path, **files)


async def test_a_file_that_takes_much_memory_is_refused(tmp_path):
    (tmp_path / "vocab").write_text("[" + ",".join(["{}"] * 4_000_000) + "]")
    trial = Trial({"vocab.json": str(tmp_path / "vocab")}, [], {})
    with pytest.raises(InvalidRequest, match=r"vocab\.json took more than 128 MiB of memory"):
        await try_model(
            trial, asyncio.Semaphore(1), TrialLimits(128 * 1024**2, cpu_s=20, wall_s=60.0)
        )


async def test_the_wall_time_is_limited_and_no_child_is_left(tmp_path):
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    message = await refusal_of(tmp_path, loop, limits=TrialLimits(cpu_s=60, wall_s=2.0))
    assert message == "chat_template.jinja took more than 2 s when it was tried"
    assert not trial_children()


async def test_trials_wait_for_each_other_and_not_for_ever():
    place = asyncio.Semaphore(1)
    await place.acquire()
    trial = Trial({}, [Template("t.jinja", CHATML)], {})
    with pytest.raises(Overloaded):
        await try_model(trial, place, TrialLimits(queue_s=0.05))
    assert not trial_children()
    place.release()
    await try_model(trial, place, TrialLimits())
    assert not place.locked()


async def test_a_cancelled_import_leaves_no_child(tmp_path):
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    place = asyncio.Semaphore(1)
    trial = Trial({}, [Template("t.jinja", loop)], {})
    task = asyncio.ensure_future(try_model(trial, place, TrialLimits(cpu_s=60)))
    await wait_until_async(trial_children, 20, "the child runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not trial_children()
    assert not place.locked()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"chat_template.jinja": b"{% for %}"}, "chat_template.jinja"),
        ({"tokenizer_config.json": b'{"chat_template": "{% for %}"}'}, "tokenizer_config.json"),
        ({"chat_template.json": b'{"chat_template": "{% for %}"}'}, "chat_template.json"),
        ({"tokenizer.json": tokenizer(r"(a+)+$").encode()}, "tokenizer.json"),
        ({"chat_template.jinja": b"\xff\xfe"}, "not UTF-8"),
        ({"chat_template.jinja": b"x" * (2 * 1024**2)}, "are allowed"),
    ],
)
async def test_a_model_is_registered_only_if_its_files_pass(admin, files, says):
    from tests.integration.coordinator.test_admin_models import refusal_of as refusal_of_import

    error = await refusal_of_import(admin, model_files() | files)
    assert says in error.message


async def test_a_whole_model_is_registered(admin):
    from tests.integration.coordinator.test_admin_models import import_model

    files = model_files() | {
        "tokenizer.json": tokenizer(r"\s+|\S+").encode(),
        "chat_template.jinja": CHATML.encode(),
        "vocab.json": b'{"a": 0}',
    }
    assert (await import_model(admin, files)).family == "llama"
