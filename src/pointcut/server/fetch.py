"""Pictures from addresses, where the operator allows it, and from nowhere inside.

One parser reads the address; its name is resolved once; every address it has must be public; and the connection goes to the
address that was checked, so that a second answer of the name server changes nothing. Each redirect is checked anew.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias
from urllib.parse import urljoin

import httpx

from .config import ServerConfig
from .problems import Problem

REDIRECTS = 3
CONNECT, WHOLE = 5.0, 15.0
"""Seconds to connect, and for everything."""

Address: TypeAlias = IPv4Address | IPv6Address
Resolver: TypeAlias = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def public(address: str) -> bool:
    """Whether an address is one of the open internet."""
    ip: Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            ip = inner
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


async def fetch(url: str, config: ServerConfig, resolver: Resolver = resolve) -> bytes:
    """The file at an address. Raises Problem."""
    if not config.urls:
        raise Problem(403, "url_fetch_disabled", "this server fetches no addresses: send the picture itself")
    return await fetch_checked(url, config.limits.body, {}, "", resolver)


async def fetch_checked(url: str, most: int, headers: dict[str, str], trusted: str, resolver: Resolver = resolve) -> bytes:
    """The file at an address, `most` bytes at most. Raises Problem.

    trusted: the origin (scheme://host:port) to which `headers` are sent, and which may have an address that is not public.
    """
    until = time.monotonic() + WHOLE
    for _ in range(1 + REDIRECTS):
        try:
            answer = await asyncio.wait_for(_once(url, most, headers, trusted, resolver), max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise Problem(502, "url_slow", "the address took too long to answer") from None
        except (httpx.HTTPError, OSError) as error:
            raise Problem(502, "url_failed", f"the address cannot be fetched ({type(error).__name__})") from None
        if isinstance(answer, bytes):
            return answer
        url = urljoin(url, answer)
    raise Problem(502, "url_redirects", f"the address leads on more than {REDIRECTS} times")


async def _once(url: str, most: int, headers: dict[str, str], trusted: str, resolver: Resolver) -> bytes | str:
    """The file, or where a redirect leads."""
    target = parse(url)
    own = origin(target) == trusted
    address = await pinned(target, own, resolver)
    request = httpx.Request(
        "GET",
        target.copy_with(host=address),
        headers={"Host": target.netloc.decode(), "Accept-Encoding": "identity", **(headers if own else {})},
        extensions={"sni_hostname": target.host},
    )
    timeout = httpx.Timeout(WHOLE, connect=CONNECT)
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout, verify=True) as client:
        request.extensions["timeout"] = timeout.as_dict()
        response = await client.send(request, stream=True)
        try:
            if response.is_redirect:
                return response.headers["location"]
            if response.status_code != 200:
                raise Problem(502, "url_failed", f"the address answers {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Problem(502, "url_failed", "the address answers in an encoding that was not asked for")
            parts, size = [], 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > most:
                    raise Problem(413, "body_too_large", f"what lies at the address has more than {most} bytes")
                parts.append(part)
            return b"".join(parts)
        finally:
            await response.aclose()


def parse(url: str) -> httpx.URL:
    """Raises Problem for what is not plainly http(s)://host[:port]/path."""
    refused = Problem(403, "url_refused", "only plain http and https addresses are fetched")
    if any(c in url for c in "\\ \t\r\n\0"):
        raise refused
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        raise refused from None
    if target.scheme not in ("http", "https") or not target.host or target.userinfo:
        raise refused
    return target


def origin(url: httpx.URL) -> str:
    port = url.port or (443 if url.scheme == "https" else 80)
    return f"{url.scheme}://{url.host}:{port}"


async def pinned(target: httpx.URL, trusted: bool, resolver: Resolver) -> str:
    """The address that is connected to. Raises Problem if any address of the name is not public."""
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        addresses = await asyncio.to_thread(resolver, target.host, port)
    except OSError:
        raise Problem(502, "url_failed", "the address's name is not known") from None
    if not addresses or not (trusted or all(public(address) for address in addresses)):
        raise Problem(403, "url_refused", "the address is not a public one")
    return addresses[0]
