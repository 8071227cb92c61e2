"""Text and units: durations, rates and counts as people read and write them, and foreign text made safe to show.

All functions are pure, and the module imports nothing of the package. A cell is the width of one ASCII character in a
terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any
from unicodedata import combining, east_asian_width

# -- secrets

# `http:/` too, since `Path` drops a slash of `http://`. A quote or an angle bracket ends a URL in most texts, so they
# only belong to a password that has begun. Digits after a host, with one behind them, are a port. A slash, `?` or `#`
# belongs to the password if what is before it can be no port.
_USERINFO = re.compile(
    r"""
      (?: (?<=://) | (?<=\bhttp:/) | (?<=\bhttps:/) )
      (?: [^/?#\s"<>:,;|\\]*@
        | (?! (?: [\w-]+(?:\.[\w-]+)+ | localhost ) :\d{1,5}[,;|"<>)\]}\\] )
          [^/?#\s"<>:]*: (?: [^/?#\s"<>]*@ | [^/?#\s]*?@(?:[^/?#\s"<>]*@)? )
        | [^/?#\s"<>:@\[\]]*: (?! \d* [/?#] ) [^/?#\s"'<>,;|)}\]]+ [/?#] [^\s"'<>,;|)}\]]* @
      )
    | (?<=\w:/)[^/?#\s"<>:]*:[^/?#\s"<>]*@
    """,
    re.VERBOSE,
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/{0,3}")

_SECRET_WORDS = ("passw", "passphrase", "pwd", "secret", "token", "api", "access", "private", "authorization", "bearer")
"""What a text has in lower case, if `_CREDENTIALS` matches: to look for them takes a tenth of the time."""
_CREDENTIALS = r"""
      (?P<name>
        \b(?:proxy-)?authorization["']?\s*[:=]\s*["']?
          (?: (?:basic|bearer|digest|negotiate|token|apikey)\s+ | (?=["'] | \S*[^a-z\s.,;:] | \S+\s*$) )
        | \bbearer\s+(?=[^\s"',;]*\d|[^\s"',;]{20})
        | (?<![a-z])(?:[a-z]\w*[_-])?
          (?: (?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key)
              (?: =\s* | ["']\s*[:=]\s* | \s+=\s+ )
            | (?:password|passwd|passphrase|pwd|secret|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key)
              :\s*(?=["'] | \S*[^a-z\s.,;:] | \S+\s*$)
          )
      )
      (?: "[^"\n]*" | '[^'\n]*' | [^\s&;,"'<>(){}\[\]]+ )
    """
"""The value of `password=...`, `"token": ...`, `Authorization: Bearer ...` and the like. After a colon without quotes,
a plain word that others follow is taken for prose, as in `password: field required`. `token: ...` is prose as well."""

MASK = "***"
"""Stands for a secret."""


@cache
def _secret() -> re.Pattern[str]:
    # Not at the import, which each process waits for: it takes a millisecond or two.
    return re.compile(_CREDENTIALS, re.VERBOSE | re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Return `text` with `***` for each secret: the `user:password` of a URL, and the value of `password=...`.

    So are tokens, keys of an API, and the credentials after `Authorization:`.
    """
    text = mask_urls(text)
    lower = text.lower()
    if any(word in lower for word in _SECRET_WORDS):
        return _secret().sub(rf"\g<name>{MASK}", text)
    return text


def mask_urls(text: str) -> str:
    """Return `text` with the `user:password@` of every URL in it replaced by `***@`."""
    if "@" not in text or ":/" not in text:
        return text
    return _USERINFO.sub(f"{MASK}@", text)


def mask_url(text: str) -> str:
    """Return a `text` that was meant as a URL without all that may be credentials: what is left of its last `@`."""
    before, at, after = text.rpartition("@")
    if not at:
        return text
    scheme = _SCHEME.match(before)
    return f"{scheme[0] if scheme else ''}{MASK}@{after}"


def mask_values(value: Any, mask: Callable[[str], str] = mask_secrets) -> Any:
    """Return a copy of a decoded JSON value in which every text is masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, (list, tuple)):
        return [mask_values(each, mask) for each in value]
    if isinstance(value, dict):
        return {mask_values(key, mask): mask_values(each, mask) for key, each in value.items()}
    return value


# -- units as people write them

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(ms|s|m|h)?")
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*(ms|s|m|min|h)(?:\s+burst\s+(\d{1,9}))?\s*", re.ASCII)
_BYTES = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "TB": 1_000_000_000_000}
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?) ?([kMGT]?B)?\s*", re.ASCII)
_NUMBER = re.compile(r"\s*(\d{1,18})\s*", re.ASCII)
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*", re.ASCII)

MAX_DURATION = 366 * 24 * 3600.0
"""The longest duration in seconds that is accepted."""


def parse_duration(value: str | float) -> float:
    """Return the seconds of a duration such as `250ms`, `1.5s`, `2m`, `1h`, or of a number of seconds.

    Raises:
        ValueError: It is not a duration, is negative or not finite, or exceeds `MAX_DURATION`.

    """
    if isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, bool):
        raise ValueError(f"a duration is text or a number of seconds, not {value}")  # noqa: TRY004  as documented
    else:
        seconds = value
    # nan fails this test too.
    if not seconds >= 0:
        raise ValueError(f"a duration is 0 or more seconds, not {value!r}")
    if seconds > MAX_DURATION:
        raise ValueError(f"a duration is at most {format_duration(MAX_DURATION)}, not {_shorten(value)}")
    return float(seconds)


def _parse_text(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        if text.strip().startswith("-"):
            raise ValueError(f"a duration is 0 or more seconds, not {_shorten(text)}")
        raise ValueError(f"a duration reads like '250ms', '1.5s', '2m' or '1h', not {_shorten(text)}")
    number, unit = match.groups()
    # Divided rather than multiplied, so that '100ms' is exactly 0.1.
    return float(number) / 1000 if unit == "ms" else float(number) * _SECONDS[unit or "s"]


def _shorten(value: object) -> str:
    # Masked before it is cut: a password that is cut off cannot be recognised.
    text = repr(mask_secrets(value)) if isinstance(value, str) else "that many"
    shown = f"{value:g}" if isinstance(value, float) else text
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


YEAR = 366 * 86_400.0
"""Seconds. Servers ask for waits of any length, infinity included."""


def format_duration(seconds: float | None) -> str:
    """Return `seconds` in the form that `parse_duration` reads, to the nanosecond; `none` for None."""
    if seconds is None:
        return "none"
    if 0 < seconds < 1:
        return f"{_trim(seconds * 1000, 6)}ms"
    for unit in ("h", "m"):
        whole, rest = divmod(seconds, _SECONDS[unit])
        if whole and not rest:
            return f"{whole:.0f}{unit}"
    return f"{_trim(seconds, 9)}s"


def _trim(number: float, digits: int) -> str:
    return f"{number:.{digits}f}".rstrip("0").rstrip(".")


def parse_size(value: str | int) -> int:
    """Return the bytes of a size such as `500MB` or `2GB`, or of a number of bytes. A kilobyte has 1,000.

    Raises:
        ValueError: It is no size.

    """
    match = _SIZE.fullmatch(str(value))
    if match is None or isinstance(value, bool):
        raise ValueError(f"a size reads like '500MB' or '2GB', not {_shorten(value)}")
    return int(float(match[1]) * _BYTES[match[2] or "B"])


def format_size(size: int) -> str:
    """Return a number of bytes in the form that `parse_size` reads, exactly."""
    unit = next(unit for unit, factor in reversed(_BYTES.items()) if (size and size % factor == 0) or unit == "B")
    return f"{size // _BYTES[unit]}{unit}"


def size_text(size: int) -> str:
    """Return a number of bytes with about two digits and the unit that fits it: `0 B`, `37 kB`, `1.2 GB`."""
    unit, factor = next((unit, factor) for unit, factor in reversed(_BYTES.items()) if size >= factor or unit == "B")
    number = size / factor
    return f"{f'{number:.1f}'.removesuffix('.0') if factor > 1 and number < 9.95 else f'{number:,.0f}'} {unit}"


def parse_per_second(text: str) -> tuple[float, int | None]:
    """Return the rate per second and the burst of a text such as `50/s`, `90/min`, `3/10s`, `50/s burst 10`.

    The burst is None if the text has none.

    Raises:
        ValueError: It is not a rate, or the rate or the burst is 0.

    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"a rate reads like 50/s, 90/min, 3/10s or 50/s burst 10, not {text!r}")
    number, length, unit, burst = match.groups()
    seconds = float(length or 1) * _SECONDS[unit]
    if not seconds:
        raise ValueError(f"a rate needs a time that is not 0: {text!r}")
    per_second = float(number) / seconds
    if not 0 < per_second < float("inf"):
        raise ValueError(f"a rate must be above 0, not {text!r}")
    if burst is not None and not int(burst):
        raise ValueError(f"the burst of a rate must be at least 1: {text!r}")
    return per_second, None if burst is None else int(burst)


def parse_failures(text: str) -> tuple[int | None, float | None]:
    """Return a limit of failures as a number or as a share of all workers; the other one is None.

    `10` is (10, None), `first` is (1, None), `5%` is (None, 0.05).

    Raises:
        ValueError: It has another form, or is out of range.

    """
    if text.strip() == "first":
        return 1, None
    if (match := _NUMBER.fullmatch(text)) and int(match[1]):
        return int(match[1]), None
    if (match := _PERCENT.fullmatch(text)) and 0 < float(match[1]) <= 100:
        return None, float(match[1]) / 100
    raise ValueError(f"a halt reads like 10, 5% or first, not {text!r}")


def luck(draw: float) -> str:
    """Return a draw of bad luck with two decimals. It is below 1, so 0.999 is not rounded to 1.00."""
    return f"{min(draw, 0.99) if draw > 0.99 else draw:.2f}"


# -- units as people read them


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:9464`, `[::1]:9464`, or `9464`, which is a port of the loopback interface.

    Raises:
        ValueError: it is no such address.

    """
    host, colon, port = text.strip().rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if is_bracketed else host
    is_host = not colon or (bool(bare) and is_bracketed == (":" in bare) and _HOST.fullmatch(bare) is not None)
    if not is_host or not (port.isascii() and port.isdecimal()) or int(port[:6]) > _HIGHEST_PORT:
        raise ValueError(f"must be HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464, not {printable(mask_url(text))!r}")
    return bare or "127.0.0.1", int(port)


_HOST = re.compile(r"[\w.:%-]+")
_HIGHEST_PORT = 65_535


def clock(seconds: float, *, has_tenths: bool = True) -> str:
    """Return a time since the start of the run: `00:03.2`, or `1:02:03.4` from an hour on."""
    return _clock(int(max(0.0, seconds) * 10), has_tenths)


@lru_cache(128)
def _clock(tenths: int, has_tenths: bool) -> str:
    minutes, tenths = divmod(tenths, 600)
    tail = f"{minutes % 60:02d}:{tenths // 10:02d}" + (f".{tenths % 10}" if has_tenths else "")
    return f"{minutes // 60}:{tail}" if minutes >= 60 else tail


def duration(seconds: float) -> str:
    """Return a time span in at most seven cells, with about three digits: `0.4 ms`, `212 ms`, `1.04 s`, `2m 05s`."""
    milliseconds = seconds * 1000
    if milliseconds < 0.95:
        return f"{max(0.0, milliseconds):.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    return elapsed(seconds)


def elapsed(seconds: float) -> str:
    """Return a time span in seconds or longer units: `0.21 s`, `12.3 s`, `2m 05s`, `1h 02m`, `3d 04h`."""
    seconds = max(0.0, seconds)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole // 60 % 60:02d}m"
    return f"{whole // 86_400}d {whole // 3600 % 24:02d}h"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 worker`, `4,000 workers`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rate(per_second: float) -> str:
    """Return a rate without its unit: with one decimal below 10, else with separated thousands."""
    return f"{per_second:.1f}" if 0 < per_second < 9.95 else f"{per_second:,.0f}"


def short_rate(per_second: float) -> str:
    """Return a rate with about two digits and the unit that fits it: `7/s`, `1.5/s`, `20/min`, `100/h`."""
    for number, unit in ((per_second, "s"), (per_second * 60, "min")):
        if number >= 0.995:
            return f"{f'{number:.1f}'.removesuffix('.0') if number < 9.95 else f'{number:,.0f}'}/{unit}"
    return f"{per_second * 3600:.2g}/h"


def progress_line(progress: tuple[float, float | None, str] | None, status: str) -> str:
    """Return what an attempt says of itself in one line: `3/10 page: waiting for export`; empty if nothing."""
    if progress is None:
        return status
    done, total, unit = progress
    amount = _amount(done) if total is None else f"{_amount(done)}/{_amount(total)}"
    line = f"{amount} {unit}".rstrip()
    return f"{line}: {status}" if status else line


def _amount(number: float) -> str:
    whole = isinstance(number, int) or (number.is_integer() and abs(number) < 2**53)
    return f"{int(number):,}" if whole else f"{number:,.4g}"


def percent(part: int, whole: int) -> str:
    """Return `75 %`, rounded down: it is 100 only for the whole."""
    return f"{100 * part // whole if whole else 0} %"


# -- foreign text

_JOINERS = "\u200c\u200d"
"""Format characters that belong to words and emoji. All others can reorder or hide text."""


def printable(text: str) -> str:
    r"""Return `text` with control, format and lone surrogate characters escaped, as in `\x1b`."""
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(char: str) -> str:
    if char.isprintable() or char in _JOINERS:
        return char
    if char.isspace() and ord(char) >= 0xA0 and char not in "\u2028\u2029":
        return " "
    return char.encode("unicode_escape").decode("ascii")


_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, movements of the cursor, erasing
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\x9d\r\n]*(?:\x07|\x1b\\|\x9c)"  # OSC: links, titles
    r"|\x1b[()][0-9A-B]"  # character sets, of which `tput sgr0` sends one
)


def without_colours(text: str) -> str:
    """Return `text` without terminal sequences, such as colours, links and movements of the cursor (ECMA-48)."""
    return text if text.isprintable() else _SEQUENCE.sub("", text)


def one_line(text: str, limit: int) -> str:
    """Return `text` printable, on one line of at most `limit` characters; runs of white space become one space."""
    if len(text) <= limit and text.isprintable():
        return text
    # Four times the limit is enough of any ordinary text to fill the line, and bounds the work for megabytes.
    line = printable(" ".join(text[: limit * 4].split()))
    if len(line) > limit or len(text) > limit * 4:
        return line[: limit - 1] + "…"
    return line


def cells(text: str) -> int:
    """Return the terminal cells that `text` takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def crop(text: str, width: int, measure: Callable[[str], int] = cells) -> str:
    """Return `text` cut to at most `width` cells, as `measure` counts them, with an ellipsis where it is cut."""
    if len(text) <= width and (text.isascii() or measure(text) <= width):
        return text
    if width <= 0:
        return ""
    text = text[: width - 1]
    while measure(text) > width - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


def pad(text: str, width: int, measure: Callable[[str], int] = cells, *, right: bool = False) -> str:
    """Return `text` cropped or padded with spaces to exactly `width` cells; `right` aligns it to the right."""
    text = crop(text, width, measure)
    blanks = " " * (width - (len(text) if text.isascii() else measure(text)))
    return blanks + text if right else text + blanks


# -- results and errors


def value_text(value: Any) -> str:
    """Return a result as text: a string as it is, other values as JSON, or as their repr if JSON cannot hold them."""
    if isinstance(value, str):
        return value
    import msgspec  # noqa: PLC0415  15 ms, and `--help` does without

    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return repr(value)


_TEXTS_SHARED = 4_096
_texts: dict[str, str] = {}


def share(text: str) -> str:
    """Return `text`, or an equal string that was shared before, so that many rows hold one.

    `sys.intern` would do the same, but the first releases of Python 3.12 never free an interned string (gh-113993).
    """
    shared = _texts.get(text)
    if shared is None:
        if len(_texts) >= _TEXTS_SHARED:
            _texts.clear()
        shared = _texts[text] = text
    return shared


def short_name(name: str) -> str:
    """Return a worker's name as people say it: that of a worker alone in its group is `web`, not `web/web`."""
    above, _, last = name.rpartition("/")
    return above if last and above.rpartition("/")[2] == last else name


def error_line(error_type: str, message: str) -> str:
    """Return the last line of a traceback: `type: message`, or the type alone."""
    return f"{error_type}: {message}" if message else error_type


def short_error_line(error_type: str, message: str) -> str:
    """Return `error_line` printable, on one line of at most 300 characters. Equal lines are the same object."""
    return share(one_line(error_line(error_type, message), 300))


_INTERNED = {number: sys.intern(str(number)) for number in range(600)}
"""The results of most workers, HTTP statuses and small numbers, as shared strings."""


def result_line(result: Any) -> str | None:
    """Return a result on a printable line of at most 200 characters, without credentials; None for None."""
    if result is None:
        return None
    if type(result) is int and -1_000_000 < result < 1_000_000:
        return _INTERNED.get(result) or share(str(result))
    # URLs are masked before it is encoded: an escaped line end does not end one.
    return one_line(mask_secrets(value_text(mask_values(result, mask_urls))), 200)


# `ClientResponseError.__str__` of aiohttp. The URL is left out: it is often the worker's name.
_RESPONSE = re.compile(
    r"(?P<type>\w+): (?P<status>\d{3}), message=(?P<q>['\"])(?P<message>.*?)(?P=q), url=.*", re.DOTALL
)
_NUMBER_PART = r"\d(?:(?<=\b0)x[0-9a-f]+\b|\d*(?:[.,:]\d+)*)"
"""0x7f, a number, a time, an address. It begins with a digit, so that `re` passes over all else at once."""
_NUMBERS = re.compile(_NUMBER_PART, re.IGNORECASE)
_VARIABLES = re.compile(
    rf"""
      \b[a-z][a-z0-9+.-]*://[^\s'"<>]*            # a URL
    | \b[\w-]+(?:\.[\w-]+)*:\d+\b                 # a host and its port
    | {_NUMBER_PART}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_URL_OR_PORT = re.compile(r":(?:\d|//)")


def brief_error(error: str) -> str:
    """Return an error line with the telling part first: the status of an HTTP response, `404 Not Found`."""
    response = _RESPONSE.fullmatch(error)
    if response is None:
        return error
    status = f"{response['status']} {response['message']}".rstrip()
    return status if response["type"] == "ClientResponseError" else f"{status} ({response['type']})"


def error_kind(error: str) -> str:
    """Return an error line without URLs, hosts with ports, and numbers: equal for errors of the same kind.

    The status of an HTTP response stays.
    """
    response = _RESPONSE.fullmatch(error)
    if response is not None:
        return f"{response['type']}: {response['status']} {response['message']}".rstrip()
    error_type, colon, message = error.partition(": ")
    # Looking for URLs and hosts takes six times as long as looking for numbers.
    variables = _VARIABLES if _URL_OR_PORT.search(message) else _NUMBERS
    return error_type + colon + variables.sub("…", message)


_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3[.]\d+|Lib)[/\\]|^<frozen ")
_OWN_TARGET = re.compile(r"[/\\]asyncwatch[/\\]targets[/\\]")
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


@lru_cache(maxsize=1024)
def code_place(stack: str) -> str:
    """Return `file:line function` of the innermost frame of a traceback outside of libraries, else of the innermost.

    Empty without a traceback, as for an injected fault, and for errors of asyncwatch's own HTTP target.
    """
    frames = _FRAME.findall(stack)
    if not frames:
        return ""
    others = [frame for frame in frames if not _LIBRARY.search(frame[0]) and not _OWN_TARGET.search(frame[0])]
    if not others and any(_OWN_TARGET.search(file) for file, _, _ in frames):
        return ""
    file, line, function = (others or frames)[-1]
    return f"{file}:{line} {function}"
