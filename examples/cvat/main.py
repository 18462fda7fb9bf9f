"""A Nuclio function for CVAT: hands what CVAT asks on to a Pointcut server, and its answer back."""

import os
from urllib.error import HTTPError
from urllib.request import Request, urlopen

URL = os.environ.get("POINTCUT_URL", "http://host.docker.internal:7788").rstrip("/")
TOKEN = os.environ.get("POINTCUT_TOKEN", "")


def handler(context, event):
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {TOKEN}"} if TOKEN else {})}
    try:
        with urlopen(Request(f"{URL}/cvat/interactor", event.body, headers), timeout=30) as answer:
            status, body = answer.status, answer.read()
    except HTTPError as error:
        status, body = error.code, error.read()
    return context.Response(body=body, headers={}, content_type="application/json", status_code=status)
