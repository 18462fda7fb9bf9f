"""The same server as a Ray Serve deployment, replicas and all:

    pip install 'pointcut[server]' 'ray[serve]'
    POINTCUT_TOKEN=... serve run examples.serving.ray_app:app

Each replica has a model, lanes and a cache of its own. Ray spreads requests without looking at them: a picture's requests
meet the replica that encoded it only by luck with more than one, and `pointcut.Client` then uploads it again. So give one
replica each a GPU behind a proxy that is sticky (nginx.conf beside this file), or use `POST /v1/segment`, which needs no
memory.
"""

import os

from ray import serve
from starlette.types import ASGIApp

import pointcut
from pointcut.server.app import create_app
from pointcut.server.config import ServerConfig


def build() -> ASGIApp:
    """The application of one replica."""
    token = os.environ.get("POINTCUT_TOKEN")
    config = ServerConfig(tokens=(token,) if token else ())
    application, _ = create_app(config, [pointcut.load(os.environ.get("POINTCUT_MODEL", "nano"), precision="auto")])
    return application


@serve.deployment(num_replicas=int(os.environ.get("POINTCUT_REPLICAS", "1")), max_ongoing_requests=64)
@serve.ingress(build)
class Pointcut:
    """The server; Ray holds it."""


app = Pointcut.bind()
