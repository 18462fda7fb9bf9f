"""The server: pictures in, handles out, prompts answered; a page to click on, and what annotation tools ask for.

`create_app` makes an ASGI application of loaded models; `serve` runs it. Nothing here loads a model or opens a path because a
request says so.
"""
