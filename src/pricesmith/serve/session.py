"""Sign-ins of people who use the page of a server with keys: a cookie with a random token instead of the key.

token = sessions.open(api_key)      for the cookie; it says nothing about the key
sessions.find(token)                the key's ApiKey, as long as the key is valid
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from pricesmith.serve.keys import ApiKey, KeyRing

COOKIE = "pricesmith_session"
SECONDS = 12 * 3600.0  # a sign-in lasts
MAX_SESSIONS = 10_000  # with more, the oldest one ends


class Sessions:
    """The sign-ins of one process; they end with it. `clock` gives seconds and never goes back."""

    def __init__(self, ring: KeyRing, clock: Callable[[], float] = time.monotonic) -> None:
        self.ring, self.clock = ring, clock
        self.lock = threading.Lock()
        self.opened: OrderedDict[str, tuple[ApiKey, float]] = OrderedDict()  # by the hash of the token

    def open(self, key: ApiKey) -> str:
        """Sign in with a key; the token for the cookie."""
        token = secrets.token_urlsafe(32)
        with self.lock:
            self.opened[hash_token(token)] = (key, self.clock() + SECONDS)
            while len(self.opened) > MAX_SESSIONS:
                self.opened.popitem(last=False)
        return token

    def find(self, token: str) -> ApiKey | None:
        """The key of a sign-in; None if it has ended, or its key was removed or has expired."""
        name = hash_token(token)
        with self.lock:
            key, end = self.opened.get(name, (None, 0.0))
        self.ring.refresh()
        valid = key is not None and key in self.ring.keys and key.is_valid(self.ring.now())
        if key is not None and (not valid or self.clock() >= end):
            self.close(token)
            return None
        return key

    def close(self, token: str) -> None:
        """Sign out."""
        with self.lock:
            self.opened.pop(hash_token(token), None)


def hash_token(token: str) -> str:
    """The hash by which a token is looked up, so that the time of the look-up says nothing about it."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def read_cookie(header: str, name: str = COOKIE) -> str:
    """The value of a cookie in a Cookie header; empty if there is none."""
    try:
        cookie = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""


def session_cookie(token: str, *, https: bool, path: str = "/") -> str:
    """The Set-Cookie header of a sign-in; an empty token deletes it."""
    age = int(SECONDS) if token else 0
    secure = "; Secure" if https else ""
    return f"{COOKIE}={token}; Path={path or '/'}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
