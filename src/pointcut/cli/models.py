"""`pointcut models`: what models there are, where their weights lie, fetching and checking them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..weights import specs
from .output import emit, fail, say

app = typer.Typer(help="List, fetch and check models.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Lists the models where no verb is given."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Every model, and whether its weights are on this machine."""
    rows = [_row(spec) for spec in specs.MODELS]
    if as_json:
        emit(rows)
        return
    print(f"{'name':<18}{'family':<9}{'million':>8}  {'here':<5}{'Hub id':<34}licence")
    for row in rows:
        here = "yes" if row["path"] else "no"
        print(
            f"{row['name']:<18}{row['family']:<9}{row['parameters_million']:>8}  {here:<5}"
            f"{row['hub_id'] or 'built in':<34}{row['licence']}"
        )
    say("fetch one: pointcut models pull NAME; use one: pointcut segment IMAGE --model NAME --point X,Y")


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names or Hub ids (owner/name@revision).")],
    force: Annotated[bool, typer.Option("--force", help="Download again what is here already.")] = False,
) -> None:
    """Download weights, and check them.

    Size and SHA-256 are compared before a file is put in place.
    """
    from ..weights import hub

    for name in names:
        wanted = hub.wanted(name)
        if wanted is None:
            say(f"{name}: built in, nothing to fetch")
            continue
        print(hub.download(wanted) if force else hub.fetch(wanted))


@app.command()
def where(name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]) -> None:
    """Print the path of a model's weights.

    Fails if they are not on this machine.
    """
    path = _path(name)
    if path is None:
        fail(f"{name} is not on this machine; fetch it: pointcut models pull {name}")
        raise typer.Exit(1)
    print(path)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Default: all that are here.")] = None,
) -> None:
    """Compare weights on this machine with their recorded SHA-256."""
    from ..weights import hub

    wanted = names or [spec.name for spec in specs.MODELS if _path(spec.name)]
    bad = 0
    for name in wanted:
        path = _path(name)
        if path is None:
            fail(f"{name} is not on this machine; fetch it: pointcut models pull {name}")
            bad += 1
            continue
        expected, got = hub.expected_digest(path), hub.sha256(path)
        if expected is None:
            print(f"{name}: no digest was recorded; its SHA-256 is {got}  {path}")
        elif expected == got:
            print(f"{name}: ok  {path}")
        else:
            bad += 1
            fail(f"{name}: {path} is damaged: SHA-256 {got}, expected {expected}; pointcut models pull {name} --force")
    if bad:
        raise typer.Exit(1)


def _path(name: str) -> Path | None:
    from ..weights import hub

    wanted = hub.wanted(name)
    if wanted is None:
        return specs.BUILT_IN
    return hub.local_copy(wanted)


def _row(spec: specs.ModelSpec) -> dict[str, Any]:
    path = _path(spec.name)
    return {
        "name": spec.name,
        "family": spec.family,
        "parameters_million": spec.parameters,
        "hub_id": spec.hub_id,
        "file": spec.meta_file,
        "url": spec.url,
        "licence": spec.licence,
        "path": str(path) if path else None,
    }
