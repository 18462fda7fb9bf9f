"""`pointcut serve`: the page and the HTTP interface."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from ..errors import InputError, MissingExtra
from .garbage import collect_as_usual
from .options import DeviceName, EndpointAddress, PrecisionName, VlmName, describing
from .output import say

MB = 1_000_000


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A model to load, by default nano; repeat for more: requests choose by name."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7788,
    token: Annotated[
        list[str] | None,
        typer.Option(
            "--token",
            metavar="SECRET",
            envvar="POINTCUT_TOKEN",
            help="A secret that every request must bring; repeat it for several people, who do not see each other's pictures.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name by which the server may be called; repeats."),
    ] = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Let requests name pictures by address; only public addresses are fetched.")
    ] = False,
    label_studio: Annotated[
        str, typer.Option("--label-studio", metavar="ADDRESS", help="A Label Studio whose tasks' pictures are read.")
    ] = "",
    label_studio_key: Annotated[
        str,
        typer.Option(envvar="POINTCUT_LABEL_STUDIO_KEY", metavar="KEY", help="Its access token; better in the environment."),
    ] = "",
    index: Annotated[
        str, typer.Option("--index", metavar="DIR", help="An index (`pointcut index`) that whoever may ask may search.")
    ] = "",
    endpoint: EndpointAddress = None,
    vlm: VlmName = "",
    cache: Annotated[int, typer.Option("--cache", min=1, metavar="MB", help="Memory for encoded pictures.")] = 1024,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in this machine's browser.")] = False,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Write a line for each request.")] = False,
) -> None:
    """Serve a page to click on, and an HTTP interface.

    For people, programs and annotation tools. Listens on this machine only; nothing is fetched, loaded or stored because a
    request says so. Ctrl-C ends it when everything that was begun is done.

    pointcut serve --model nano --open
    """
    try:
        from ..server.app import serve as run
        from ..server.config import Limits, ServerConfig
        from ..server.listener import listen
    except ImportError as error:
        raise MissingExtra(f"the server needs the extra: pip install 'pointcut[server]' ({error})") from None
    from ..segment.segmenter import load

    try:
        config = ServerConfig(
            host=host,
            port=port,
            tokens=tuple(token or ()),
            hosts=tuple(allow_host or ()),
            urls=allow_urls,
            label_studio=label_studio,
            label_studio_key=label_studio_key,
            index=index,
            describe=describing(endpoint, vlm) if endpoint or vlm else None,
            limits=Limits(cache=cache * MB),
        )
        line = listen(host, port)  # before the models are loaded, which may take a while
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO if verbose else logging.WARNING)
    models = [load(name, device=device, precision=precision) for name in dict.fromkeys(model or ["nano"])]

    def started(address: str) -> None:
        say(f"Pointcut is at {address} with {', '.join(one.name for one in models)}")
        if config.tokens:
            say("It asks for the token; programs send it as Authorization: Bearer ...")
        if open_page:
            import webbrowser

            webbrowser.open(address)

    collect_as_usual()
    run(config, models, started, line)
