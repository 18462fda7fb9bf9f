"""Writes the pages of the reference that follow from the code: the command, the HTTP interface, errors.

python docs/_tools/reference.py [--check]      # --check: say which pages are not what the code would give
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

import pointcut
from pointcut import errors
from pointcut.cli.main import app
from pointcut.server.app import create_app
from pointcut.server.config import ServerConfig
from pointcut.server.problems import CODES

HERE = Path(__file__).parents[1] / "reference"
NOTE = "<!-- written by docs/_tools/reference.py: change the code, then `make reference` -->\n\n"

COMMAND = """# The command

Generated from the command itself; `pointcut VERB --help` says the same.

Exit codes: 0 done; 1 some inputs failed (the others are done); 2 the call itself was wrong; 3 a film broke off, or pictures
of a batch failed (the others are done); 130 interrupted.

Completion of words in your shell: `pointcut --install-completion`, then a new shell; `pointcut --show-completion` prints
what that adds.
"""

HTTP = """# HTTP

Generated from the server's own OpenAPI document, which a running server has at `/openapi.json`. How to use it, and what its
errors mean: [the server](../server.md).
"""

ERRORS = """# Errors

Every error that Pointcut raises on purpose is a `PointcutError`. Its message says what was expected, what was found, and what
to do next; programs look at the class.
"""

REMEDIES = {
    "PointcutError": "catch it for all of them",
    "InputError": "mend what the message names: it says what was expected and what was found",
    "UnreadableImage": "check the path, and that the file can be opened by a viewer",
    "UnsupportedImage": "convert it to PNG or JPEG, or install the extra that the message names (heic, dicom, geo)",
    "BrokenImage": "fetch or save the file again: it was cut off or altered",
    "ImageTooLarge": "shrink it, `--tile` it, or allow more (`max_pixels`)",
    "InvalidPrompt": "points and boxes are pixels of the upright picture, x before y, and lie within it",
    "ModelError": "see the four below",
    "UnknownModel": "`pointcut models` lists the names; or give a Hub id or a file",
    "WeightsNotFound": "go online once, or fetch the file that the message names and pass its path",
    "WeightsRefused": "use the safetensors of the same model: this file holds more than tensors",
    "WeightsMismatch": "delete and fetch it again (`pointcut models verify`); or it belongs to another model",
    "ServerError": "start the server, or look at its log under the `request_id`",
    "DeviceUnavailable": "`--device auto` or `cpu`",
    "MissingExtra": "install what the message names: pip install 'pointcut[...]'",
    "OutputError": "another `--out`, more space, or rights to write there; what was done is kept",
}


def commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Each verb with the words that call it."""
    for verb, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {verb}")
        else:
            yield f"{name} {verb}", command


def cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def default_of(parameter: Any) -> str:
    if parameter.default in (None, (), [], False, "") or callable(parameter.default):
        return ""
    value = getattr(parameter.default, "value", parameter.default)
    return f"`{value}`"


def kind_of(parameter: Any) -> str:
    """What an option takes that has no word of its own for it."""
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return ",".join(get_args(kind))
    kinds = {int: "NUMBER", float: "NUMBER", Path: "PATH"}
    return next((kinds[one] for one in (kind, *get_args(kind)) if one in kinds), "TEXT")


def command_page() -> str:
    """Every verb with its arguments and options."""
    group = typer.main.get_command(app)
    parts = [NOTE, COMMAND]
    for name, command in commands(group, "pointcut"):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option"]
        words = " ".join(p.metavar or p.name.upper() for p in arguments)
        parts.append(f"\n## {name}\n\n```text\n{name} {words + ' ' if words else ''}[OPTIONS]\n```\n\n")
        paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
        parts += [f"    {text}\n\n" if text.startswith("pointcut ") else f"{cell(text)}\n\n" for text in paragraphs]
        if arguments:
            parts.append("| argument | |\n|---|---|\n")
            parts += [f"| `{p.metavar or p.name.upper()}` | {cell(getattr(p, 'help', '') or '')} |\n" for p in arguments]
            parts.append("\n")
        if options:
            parts.append("| option | | default |\n|---|---|---|\n")
            for p in options:
                names = ", ".join(f"`{one}`" for one in [*p.opts, *p.secondary_opts])
                takes = "" if p.is_flag else f" `{cell(p.metavar or kind_of(p))}`"
                variable = f" Environment: `{p.envvar}`." if p.envvar else ""
                parts.append(f"| {names}{takes} | {cell(p.help or '')}{variable} | {default_of(p)} |\n")
    return "".join(parts)


def http_page() -> str:
    """Every route, with what it takes and answers."""
    application, service = create_app(ServerConfig(), [pointcut.load("nano", device="cpu")])
    try:
        described = application.app.openapi()  # type: ignore[attr-defined]  # within the guard
    finally:
        service.close()
    parts = [NOTE, HTTP]
    for path, verbs in described["paths"].items():
        for verb, route in verbs.items():
            parts.append(f"\n## {verb.upper()} {path}\n\n{cell(route.get('description') or route['summary'])}\n\n")
            taken = [f"`{p['name']}` ({p['in']})" for p in route.get("parameters", [])]
            body = route.get("requestBody", {}).get("content", {})
            if taken:
                parts.append(f"Parameters: {', '.join(taken)}.\n\n")
            for kind, content in body.items():
                parts.append(f"Body `{kind}`. {fields(content.get('schema', {}), described).strip()}".rstrip() + "\n\n")
    return "".join(parts)


def fields(schema: dict[str, Any], described: dict[str, Any]) -> str:
    """What a JSON body may hold."""
    for option in [schema, *schema.get("anyOf", [])]:
        if "$ref" in option:
            schema = described["components"]["schemas"].get(option["$ref"].rsplit("/", 1)[1], {})
    names = schema.get("properties", {})
    lines = [cell(schema.get("description", "")) or "Its fields:"]
    lines += ["\n\n| name | |\n|---|---|\n"] if names else []
    lines += [f"| `{name}` | {cell(one.get('description', ''))}{default_text(one)} |\n" for name, one in names.items()]
    return "".join(lines)


def default_text(field: dict[str, Any]) -> str:
    value = field.get("default")
    return "" if value is None else f" Default: `{json.dumps(value)}`."


def errors_page() -> str:
    """The tree of exceptions, with exit codes and HTTP's codes."""
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n", 1)[1]
    parts = [NOTE, ERRORS, f"\n```text\n{tree}\n```\n\n"]
    parts.append("| class | what to do | also a | exit code | over HTTP |\n|---|---|---|---|---|\n")
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.PointcutError):
            others = [base.__name__ for base in kind.__bases__ if not issubclass(base, errors.PointcutError)]
            told = next((f"{status} `{code}`" for known, status, code in CODES if issubclass(kind, known)), "500 `internal`")
            parts.append(
                f"| `{name}` | {REMEDIES[name]} | {', '.join(f'`{one}`' for one in others)} | {kind.exit_code} | {told} |\n"
            )
    return "".join(parts)


PAGES = {"cli.md": command_page, "http.md": http_page, "errors.md": errors_page}


def main() -> int:
    stale = []
    for name, page in PAGES.items():
        text = page().rstrip() + "\n"
        if not (HERE / name).is_file() or (HERE / name).read_text() != text:
            stale.append(name)
        if "--check" not in sys.argv:
            (HERE / name).write_text(text)
    if "--check" in sys.argv and stale:
        print(f"not what the code gives: {', '.join(stale)}; run `make reference`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
