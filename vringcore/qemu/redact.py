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

_WHOLE_VALUE = frozenset({"set", "prom-env"})
"""``-set group.id.name=value``: a comma is part of the value. So is it in the short -global."""

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

    Where an argument ends cannot be told, nor what a cut URL would have shown to be its password:
    the line ends with ``<redacted>`` before the first argument that could hold a secret.
    """
    words = line.split(" ")
    kept: list[str] = []
    for before, word, after in zip(("", *words), words, redact(words), strict=False):
        if after != word or "://" in word or before.lstrip("-").lower() in _KERNEL_OPTIONS:
            kept.append(REDACTED)
            break
        kept.append(word)
    return " ".join(kept)


def _argument(option: str, text: str) -> str:
    if option in _KERNEL_OPTIONS:
        return _kernel_line(text)
    if _is_secret(option):
        return REDACTED
    if "=" not in text and ":" not in text and "{" not in text:
        return text  # most arguments: options, and values without parts
    if text.startswith("exec:"):  # -incoming exec:COMMAND
        return f"exec:{REDACTED}"
    if text.lstrip().startswith("{"):
        return _json(option, text)
    whole = option in _WHOLE_VALUE or (option == "global" and "." in text.partition("=")[0])
    parts = [_part(option, part) for part in ([text] if whole else _split(text, ",", ",,"))]
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
        return ":".join(_rbd_part(part) for part in _split(value, ":", "\\:"))
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
    plain = name.lower()
    parts = "".join(c if c.isalnum() else " " for c in plain).split()
    return any(word in plain for word in _SECRET_WORDS) or not _SECRET_PARTS.isdisjoint(parts)


def _split(text: str, separator: str, escaped: str) -> list[str]:
    """Split a list; ``escaped`` stands for a literal separator and is kept as it is."""
    # An argument cannot contain a NUL, so that one can hold the place.
    parts = text.replace(escaped, "\0").split(separator)
    return [part.replace("\0", escaped) for part in parts]


def _kernel_line(line: str) -> str:
    """Redact a kernel command line: words ``name=value``, blanks kept inside double quotes."""
    if '"' not in line:
        return " ".join(map(_kernel_word, line.replace("\t", " ").replace("\n", " ").split(" ")))
    words = [""]
    quoted = False
    for character in line:
        quoted ^= character == '"'
        if character in " \t\n" and not quoted:
            words.append("")
        else:
            words[-1] += character
    return " ".join(_kernel_word(word) for word in words)


def _kernel_word(word: str) -> str:
    name, _, value = word.partition("=")
    name = name.strip('"')
    # The last of several: rootflags=user=me,password=…
    if _sounds_secret(word.rpartition("=")[0]):
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
    separators = ":%" if scheme.endswith(("iscsi", "iser")) else ":"
    found = [at for at in map(userinfo.find, separators) if at >= 0]
    if found:
        return userinfo[: min(found) + 1] + REDACTED
    is_web = scheme.endswith(("http", "https", "ftp", "ftps"))
    return REDACTED if userinfo and is_web else userinfo


def _query(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals or not _sounds_secret(name):
        return pair
    # An option list may go on after the URL.
    options = [part for part in _split(value, ",", ",,")[1:] if "=" in part]
    return ",".join((f"{name}={REDACTED}", *options))


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
