"""Command lines without their secrets.

Works on the forms in which QEMU takes values: ``key=value`` lists with doubled commas (QemuOpts),
JSON, URLs, ``rbd:`` names and the guest kernel's command line. What names a secret held elsewhere
(``password-secret=sec0``, ``keyid=``) is an id and stays. In doubt more is hidden, not less: JSON
that cannot be parsed and commands to be executed go as a whole. JSON is written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

REDACTED = "<redacted>"

_SECRET_ENDINGS = ("password", "passwd", "passphrase", "token", "cookie")
_SECRET_NAMES = frozenset({"pass", "secret", "psk", "key", "osk", "data"})
"""Option names that hold a secret: ``key`` in an rbd name, ``osk`` of applesmc, ``data`` of secret
objects."""

_SECRET_WORDS = (*_SECRET_ENDINGS, "secret", "credential", "apikey", "signature")
_SECRET_PARTS = frozenset({"key", "pass", "psk", "pw", "pwd", "pin", "sig"})
"""Names on a kernel command line or in a URL's query are free, so they are judged by parts."""

_KERNEL_OPTIONS = frozenset({"append", "arg"})
_ON_OFF = frozenset({"on", "off", "yes", "no", "y", "n", "true", "false"})
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-[]$")


def redact(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments with every secret replaced by ``<redacted>``, one for one."""
    result = []
    option = ""
    for argument in argv:
        result.append(_argument(option, argument))
        option = argument.lstrip("-").lower() if argument.startswith("-") else ""
    return tuple(result)


def redact_words(line: str) -> str:
    """Return the beginning of a command line whose arguments are joined by blanks.

    Where an argument ends cannot be told, so what follows a secret is dropped up to the next
    option.
    """
    words = line.split(" ")
    kept: list[str] = []
    hiding = False
    for before, word, after in zip(("", *words), words, redact(words), strict=False):
        if hiding and not word.startswith("-"):
            continue
        hiding = after != word or before.lstrip("-").lower() in _KERNEL_OPTIONS
        kept.append(REDACTED if hiding and after == word else after)
    return " ".join(kept)


def _argument(option: str, text: str) -> str:
    if option in _KERNEL_OPTIONS:
        return _kernel_line(text)
    if _is_secret(option):
        return REDACTED
    if text.lstrip().startswith("{"):
        return _json(option, text)
    parts = [_part(option, part) for part in _split(text, ",")]
    if option == "global" and any(_names_secret(part) for part in parts):
        parts = [f"value={REDACTED}" if part.startswith("value=") else part for part in parts]
    return _urls(",".join(parts))


def _part(option: str, part: str) -> str:
    """Redact one ``key=value`` (or bare value) of a comma-separated list."""
    name, equals, value = part.partition("=")
    if not equals or not _NAME.issuperset(name):
        return _value(option, part)
    if _is_secret(name, option):
        is_switch = option == "vnc" and value.lower() in _ON_OFF
        return part if is_switch else f"{name}={REDACTED}"
    if name.lower() in _KERNEL_OPTIONS:
        return f"{name}={_kernel_line(value)}"
    return f"{name}={_value(option, value)}"


def _value(option: str, value: str) -> str:
    if value.startswith("json:"):
        hidden = _json(option, value.removeprefix("json:").replace(",,", ","))
        return "json:" + hidden.replace(",", ",,")
    if value.startswith("rbd:"):
        return ":".join(_rbd_part(part) for part in _split(value, ":"))
    if value.startswith("exec:"):
        return f"exec:{REDACTED}"
    if "-cmd:" in value:  # -netdev user,guestfwd=tcp:…-cmd:COMMAND
        return f"{value.partition('-cmd:')[0]}-cmd:{REDACTED}"
    if value.startswith("io.systemd.credential"):  # -smbios type=11,value=…
        return f"{value.partition('=')[0]}={REDACTED}"
    return value


def _rbd_part(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}={REDACTED}" if equals and _is_secret(name) else part


def _is_secret(name: str, option: str = "") -> bool:
    last = name.rpartition(".")[2].lower().replace("_", "-")
    if last == "data" and option == "acpitable":  # a list of files
        return False
    if last == "string" and option == "fw_cfg":
        return True
    return last in _SECRET_NAMES or last.endswith(_SECRET_ENDINGS)


def _names_secret(part: str) -> bool:
    name, _, value = part.partition("=")
    return name == "property" and _is_secret(value)


def _sounds_secret(name: str) -> bool:
    plain = name.lower().replace("-", "_").replace(".", "_")
    return any(word in plain for word in _SECRET_WORDS) or not _SECRET_PARTS.isdisjoint(
        plain.split("_")
    )


def _split(text: str, separator: str) -> list[str]:
    """Split a list in which a literal separator is doubled (``,``) or has a backslash (``:``)."""
    parts = [""]
    at = 0
    while at < len(text):
        pair = text[at : at + 2]
        if pair in (separator * 2, "\\" + separator) and (separator == ",") == (pair[0] == ","):
            parts[-1] += pair
            at += 2
        elif text[at] == separator:
            parts.append("")
            at += 1
        else:
            parts[-1] += text[at]
            at += 1
    return parts


def _kernel_line(line: str) -> str:
    """Redact a kernel command line: words ``name=value``, blanks kept inside double quotes."""
    words = [""]
    quoted = False
    for character in line:
        quoted ^= character == '"'
        if character.isspace() and not quoted:
            words.append("")
        else:
            words[-1] += character
    return " ".join(_kernel_word(word) for word in words)


def _kernel_word(word: str) -> str:
    name, equals, value = word.partition("=")
    name = name.strip('"')
    if equals and _sounds_secret(name):
        return f"{name}={REDACTED}"
    if value.startswith("iscsi:") and "@" in value:  # netroot=iscsi:user:password@server (dracut)
        return f"{name}=iscsi:{REDACTED}@{value.rpartition('@')[2]}"
    return _urls(word)


def _urls(text: str) -> str:
    """Redact ``user:password@`` and ``?token=…`` of every URL in a text."""
    head, *rest = text.split("://")
    done = head
    for tail in rest:
        scheme = head
        length = next((i for i, c in enumerate(tail) if c in "/?#\"' \t"), len(tail))
        userinfo, at, host = tail[:length].rpartition("@")
        query, marker, values = tail[length:].partition("?")
        if marker:
            values = "&".join(_query(value) for value in values.split("&"))
        done += f"://{_userinfo(scheme, userinfo)}{at}{host}{query}{marker}{values}"
        head = tail
    return done


def _userinfo(scheme: str, userinfo: str) -> str:
    # iSCSI separates the password by a percent sign (libiscsi's URL syntax).
    for at, character in enumerate(userinfo):
        if character in ":%":
            return userinfo[: at + 1] + REDACTED
    is_web = scheme.endswith(("http", "https", "ftp", "ftps"))
    return REDACTED if userinfo and is_web else userinfo


def _query(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals or not _sounds_secret(name):
        return pair
    # An option list may go on after the URL.
    return f"{name}={REDACTED}" + "".join(value.partition(",")[1:])


def _json(option: str, text: str) -> str:
    from msgspec import DecodeError, json

    try:
        return json.encode(_json_value(option, json.decode(text))).decode()
    except (DecodeError, ValueError, RecursionError):
        return REDACTED


def _json_value(option: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_member(option, name, of, value) for name, of in value.items()}
    if isinstance(value, list):
        return [_json_value(option, each) for each in value]
    return _urls(_value(option, value)) if isinstance(value, str) else value


def _json_member(option: str, name: str, value: Any, around: dict[str, Any]) -> Any:
    runs = name == "args" and around.get("transport") == "exec"
    if (_is_secret(name, option) and not isinstance(value, bool)) or runs:
        return REDACTED
    if name in _KERNEL_OPTIONS and isinstance(value, str):
        return _kernel_line(value)
    return _json_value(option, value)
