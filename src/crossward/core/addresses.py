"""Addresses of servers and names of variables that hold keys, as recipes and commands may give them.

What is refused here may hold a secret, so no error repeats it. Reads no environment and asks no server.
"""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

_HOST = re.compile(r"([\w.-]+|\[[\da-fA-F:.]+\])(:\d*)?")
# What keys of well-known services begin with; a variable's name does not go on so for long.
_KEY = re.compile(r"(?i:hf|sk|pk|rk|gsk|ghp|gho|github|glpat|xai|nvapi|r8|pplx|key)[_-]\w{16,}|AIza\w{20,}")


def require_address(url: str) -> str:
    """The address itself; ValueError where it is no http(s) address of a server, or could hold a key.

    >>> require_address("https://example.org:8443/v1")
    'https://example.org:8443/v1'
    """
    parts = _split(url)
    if "@" in url:
        raise ValueError(
            "the endpoint's address holds a password (got one with @): put the key into an environment variable and "
            "name it as api_key_env"
        )
    if "?" in url or "#" in url:
        raise ValueError(
            "the endpoint's address must end with its path, got one with ? or #: a key belongs into an environment "
            "variable, named as api_key_env"
        )
    if parts is None or parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
        raise ValueError(
            f"the endpoint's address must look like http://localhost:8000/v1 (or https), got {_shown(url)}"
        )
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"the endpoint's port must be 0 to 65535, got {_shown(url)}") from None
    return url


def require_no_password(address: str) -> str:
    """The address itself; ValueError where it could hold a user's name and a password.

    >>> require_no_password("head.example:6379")
    'head.example:6379'
    """
    if "@" in address:
        raise ValueError("the address holds a user or a password (got one with @): give HOST:PORT alone")
    return address


def require_no_address(place: str, what: str, wanted: str) -> None:
    """Raise ValueError where a file's or a model's place is a URL; which may hold a key, and is not repeated.

    >>> require_no_address("prompts/es.jsonl", "prompts", "a file")
    """
    if found := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", place):
        raise ValueError(f"{what} cannot be read from an address ({found[1].lower()}://…): give {wanted}")


def is_exposed(url: str) -> bool:
    """Whether what is sent there goes unencrypted over a network.

    >>> is_exposed("http://example.org/v1"), is_exposed("https://example.org/v1"), is_exposed("http://127.0.0.2:8000/v1")
    (True, False, False)
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    return parts.scheme == "http" and not here


def require_variable(name: str) -> str:
    """The name itself; ValueError where it is no environment variable's name, but perhaps the key itself.

    >>> require_variable("OPENAI_API_KEY")
    'OPENAI_API_KEY'
    """
    mixed = len(name) >= 24 and all(re.search(kind, name) for kind in ("[a-z]", "[A-Z]", r"\d"))
    digits = re.fullmatch(r"[0-9a-fA-F]{32,}", name)
    words = re.fullmatch(r"[A-Z_]+", name)  # of which no key consists: GITHUB_MODELS_API_TOKEN
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or mixed or digits or (_KEY.fullmatch(name) and not words):
        raise ValueError(
            "expected the NAME of the environment variable that holds the key, such as OPENAI_API_KEY, got "
            "something else (not repeated here, it may be the key): export the key, and give the variable's name"
        )
    return name


def _split(url: str) -> SplitResult | None:
    """Its parts; None for what no address is. urlsplit itself passes over line breaks."""
    if not url.isprintable() or " " in url:
        return None
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _shown(url: str) -> str:
    """An address that holds no key, cut."""
    return repr(url if len(url) <= 100 else f"{url[:100]}…")
