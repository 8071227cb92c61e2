"""Targets and exceptions by name: imports what a `module:function` or a dotted name means, or says why it cannot."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.abc
import inspect
import os
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from msgspec.structs import replace

from asyncwatch.engine.describe import describe_error, safe_repr
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.threads import in_thread
from asyncwatch.policies import bad_luck as luck
from asyncwatch.policies.classify import Classify, ClassifyBy, ErrorClass, classify, status_of
from asyncwatch.text import error_line, mask_url, one_line, printable

AsyncFunction = Callable[..., Awaitable[Any]]

DEPENDENCIES: Final = frozenset(
    {
        "aiohappyeyeballs",
        "aiohttp",
        "aiosignal",
        "async_timeout",
        "attr",
        "attrs",
        "cffi",
        "click",
        "cloudpickle",
        "cryptography",
        "dask",
        "distributed",
        "frozenlist",
        "idna",
        "importlib_metadata",
        "jinja2",
        "lazy_importer",
        "linkify_it",
        "locket",
        "markdown_it",
        "markupsafe",
        "mdit_py_plugins",
        "mdurl",
        "msgpack",
        "msgspec",
        "multidict",
        "packaging",
        "platformdirs",
        "prometheus_client",
        "propcache",
        "psutil",
        "pygments",
        "rich",
        "sortedcontainers",
        "tblib",
        "textual",
        "tlz",
        "toolz",
        "tornado",
        "typing_extensions",
        "uc_micro",
        "uvloop",
        "yaml",
        "yarl",
        "zict",
        "zipp",
    }
)
"""The top-level modules of installed packages that asyncwatch imports, directly or through others."""
_FILE_TARGET = re.compile(r"(?:\./)?([^:]+)\.py:([^\W\d][\w.]*)")
_SIGNAL = "signal only works in main thread"
"""Of the error that Python raises for a signal handler in another thread."""
_SHOWN = 80
"""Characters, at most, of a wrong target in a message."""


class TargetError(Exception):
    """A target that cannot be used, and why, in one line."""


def load_target(text: str) -> AsyncFunction:
    """Return the function that `text`, a `module:function`, names. A plain one is wrapped, and runs in a thread.

    The part after the colon may be dotted: `module:Class.method`. The module is imported as by `import_module`.

    Raises:
        TargetError: There is no such module or function, the module does not import, or it is no function of a result.

    """
    module_name, colon, path = text.partition(":")
    if not colon or not _is_dotted_name(module_name) or not _is_dotted_name(path) or module_name.endswith(".py"):
        shown = one_line(mask_url(text), _SHOWN)
        hint = path_hint(text)
        example = f" ({hint})" if hint else ", such as jobs:fetch or package.jobs:Client.fetch"
        raise TargetError(f"{shown!r} is not a module:function{example}")
    found = _find(text, module_name, path)
    try:
        problem = _why_no_target(found)
    except BaseException as error:  # as above
        problem = f"cannot be examined: {_text_of(error)}"
    if problem:
        raise TargetError(f"{text}: {problem}")
    return found if _is_async(found) else in_thread(found)


def load_lifespan(text: str) -> Callable[[], Any]:
    """Return the function that `text`, a `module:function`, names, and that returns an async context manager.

    Raises:
        TargetError: There is no such module or function, the module does not import, or the function is another one.

    """
    module_name, colon, path = text.partition(":")
    if not colon or not _is_dotted_name(module_name) or not _is_dotted_name(path):
        raise TargetError(f"{one_line(text, _SHOWN)!r} is not a module:function, such as jobs:lifespan")
    found = _find(text, module_name, path)
    try:
        problem = _why_no_lifespan(found)
    except BaseException as error:  # as in `_find`
        problem = f"cannot be examined: {_text_of(error)}"
    if problem:
        raise TargetError(f"{text}: {problem}")
    lifespan: Callable[[], Any] = found
    return lifespan


def _find(text: str, module_name: str, path: str) -> Any:
    """Return what `path` names in a module."""
    found: Any = import_module(module_name)
    owner = f"module {module_name!r} ({_file_of(found)})"
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            hint = _shadowed_hint(module_name) or _nearest(name, _names_in(found))
            raise TargetError(f"{text}: {owner} has no {name!r}{hint}") from None
        except BaseException as error:  # an attribute can be code, as the body of a module is
            raise TargetError(f"{text}: {owner} raises for {name!r}: {_text_of(error)}") from None
        owner = repr(name)
    return found


def path_hint(text: str) -> str | None:
    """Return what to write for a target that names its file, such as `package/jobs.py:fetch`; None for any other."""
    match = _FILE_TARGET.fullmatch(text)
    if match is None:
        return None
    dotted = match[1].replace("/", ".")
    return f"did you mean {dotted}:{match[2]}?" if _is_dotted_name(dotted) else "run it in the folder of its file"


def import_module(name: str) -> ModuleType:
    """Return the module of that name. The current directory is searched after the standard library.

    Output of the module to stdout goes to stderr.

    Raises:
        TargetError: There is no such module, or it does not import.

    """
    with contextlib.suppress(OSError):  # the current directory may have been removed
        _search_in(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        # Prints of the module must not get between the JSON lines on stdout.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if type(error.name) is str and f"{name}.".startswith(f"{error.name}.") and not _location(error):
            neighbours = [path.stem for path in Path().glob("*.py")]
            hint = _shadowed_hint(name) or ("" if "." in error.name else _nearest(error.name, neighbours))
            raise TargetError(f"there is no module {error.name!r}{hint}") from None
        raise TargetError(_import_failed(name, error)) from None
    except SyntaxError as error:
        if type(error).__module__ != "builtins":  # its attributes could be code
            raise TargetError(_import_failed(name, error)) from None
        line = f":{error.lineno}" if error.lineno else ""
        raise TargetError(f"module {name!r} has a syntax error: {error.msg} ({error.filename}{line})") from None
    except SystemExit as error:
        raise TargetError(
            f"module {name!r} calls sys.exit({safe_repr(error.code)}) when imported{_location(error)}"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # The code of a module can raise any exception.
        raise TargetError(_import_failed(name, error)) from None


class _DependencyFinder(importlib.abc.MetaPathFinder):
    """Finds what asyncwatch itself imports where it is installed, also if a file in `folder` has the same name."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a top-level module that asyncwatch uses, None for any other."""
        if path is not None or fullname not in DEPENDENCIES:
            return None
        return PathFinder.find_spec(fullname, [each for each in sys.path if each not in {"", self.folder}], target)


def _search_in(folder: str) -> None:
    """Search for modules in `folder`, after the standard library and before installed packages.

    A `queue.py` of the user would otherwise be imported by the standard library, and an `aiohttp.py` by asyncwatch.
    """
    path = [each for each in sys.path if each not in {"", folder}]
    installed = (at for at, each in enumerate(path) if "site-packages" in each or "dist-packages" in each)
    path.insert(next(installed, len(path)), folder)
    sys.path[:] = path
    finders = [each for each in sys.meta_path if not isinstance(each, _DependencyFinder)]
    sys.meta_path[:] = [_DependencyFinder(folder), *finders]


def _shadowed_hint(name: str) -> str:
    """Return a hint if a file of the current folder has the name of a module that is found before it."""
    first = name.partition(".")[0]
    beside = next((path for path in (f"{first}.py", first) if os.path.exists(path)), None)  # noqa: PTH110  of any length
    module = sys.modules.get(first)
    if beside is None or module is None or Path(_file_of(module)).is_relative_to(Path.cwd()):
        return ""
    return f"; {beside} has the name of a module of Python or of an installed package: rename it"


def call_problem(target: AsyncFunction, items: int, remedy: str = "items", *, has_lifespan: bool = False) -> str | None:
    """Return why `target` cannot be called with this number of `items`, 0 or 1; None if it can.

    The value of a lifespan is one argument more.

    The text reads well after the name of the target. `remedy` says how to give a target its argument.
    """
    try:
        signature = inspect.signature(target)
    except BaseException as error:  # some callables of extension modules have no signature; others raise by themselves
        pass_on_interrupt(error)
        return None
    try:
        signature.bind(*range(items + has_lifespan))
    except TypeError:
        if has_lifespan:
            called = "an item and the value of the lifespan" if items else "the value of the lifespan alone"
            return f"would be called with {called}, by position; its parameters are {printable(str(signature))}"
        return _mismatch(signature, remedy)
    return None


def _mismatch(signature: inspect.Signature, remedy: str) -> str:
    variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    needed = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in variadic
    ]
    if not needed:
        return "takes no argument, but would be called with an item; leave the items out"
    names = ", ".join(repr(parameter.name) for parameter in needed)
    what = f"needs an argument {names}" if len(needed) == 1 else f"needs {len(needed)} arguments ({names})"
    if len(needed) > 1 or needed[0].kind is inspect.Parameter.KEYWORD_ONLY:
        return f"{what}, but a worker is called with at most one item, by position"
    return f"{what}; give it {remedy}"


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _import_failed(name: str, error: BaseException) -> str:
    text = _text_of(error)
    hint = "; modules are imported in the thread of the event loop, not in the main thread" if _SIGNAL in text else ""
    return f"module {name!r} does not import: {text}{_location(error)}{hint}"


def _text_of(error: BaseException) -> str:
    """Return `type: message` of what code of the user raised. A Ctrl+C is raised again."""
    pass_on_interrupt(error)
    return printable(error_line(*describe_error(error)))


def _file_of(module: ModuleType) -> str:
    try:
        return str(module.__file__ or "built in")
    except BaseException as error:  # a module can replace itself by an object
        pass_on_interrupt(error)
        return "built in"


def _names_in(owner: object) -> list[str]:
    try:
        return [name for name in dir(owner) if type(name) is str]
    except BaseException as error:  # as above
        pass_on_interrupt(error)
        return []


def _location(error: BaseException) -> str:
    """Return the innermost file and line of the error outside Python's import system, as ` (file:line)`."""
    ours = str(Path(__file__))
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        frame
        for frame in frames
        if not frame.filename.startswith("<frozen importlib")
        and Path(frame.filename) != Path(importlib.__file__)
        and frame.filename != ours
    ]
    return f" ({outside[-1].filename}:{outside[-1].lineno})" if outside else ""


def _nearest(word: str, words: list[str]) -> str:
    close = get_close_matches(word, words, n=3)
    return f" (nearest: {', '.join(close)})" if close else ""


def _why_no_target(target: Any) -> str | None:
    """Return why `target` is no function of a result, async or plain; None if it is one."""
    if not callable(target):
        return f"is {_article(type(target).__name__)}, which cannot be called"
    if isinstance(target, type):
        return "is a class; name a method of it or an async function"
    if _is_async(target):
        return None
    candidates = list(_layers(target))
    if any(inspect.isasyncgenfunction(each) for each in candidates):
        return "is an async generator (it has a `yield`); write an async def that returns its result"
    if any(inspect.isgeneratorfunction(each) for each in candidates):
        return "is a generator (it has a `yield`); write a function that returns its result"
    return None


def _is_async(target: Any) -> bool:
    """Return whether `target` is a coroutine function, perhaps in a plain wrapper."""
    return any(inspect.iscoroutinefunction(each) for each in _layers(target))


def _layers(target: Any) -> Iterator[Any]:
    """Yield the functions that a call of `target` may call, as far as it shows."""
    plain = target
    while isinstance(plain, functools.partial):
        plain = plain.func
    yield plain
    yield inspect.unwrap(plain)
    if not inspect.isroutine(plain):
        yield type(plain).__call__


def _why_no_lifespan(found: Any) -> str | None:
    """Return why `found` is no function without arguments that returns an async context manager, as far as it shows."""
    if not callable(found):
        return f"is {_article(type(found).__name__)}, which cannot be called"
    if isinstance(found, type) and not hasattr(found, "__aenter__"):
        return "is a class without __aenter__: no async context manager"
    if inspect.isasyncgenfunction(found) or inspect.isgeneratorfunction(found):
        return "is a generator function; decorate it with @contextlib.asynccontextmanager"
    if inspect.iscoroutinefunction(found):
        return "is an async def that returns; let it yield the value, and add @contextlib.asynccontextmanager"
    with contextlib.suppress(ValueError):  # without a signature
        try:
            inspect.signature(found).bind()
        except TypeError:
            return "must be callable without arguments"
    return None


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


ErrorKinds = Mapping[str, type[Exception]]
"""Exception types by their dotted names."""


def load_error(name: str) -> type[Exception]:
    """Return the exception type of a dotted name such as `builtins.OSError`.

    Raises:
        TargetError: There is none of that name, or it is not a subclass of `Exception`.

    """
    module_name, _, kind_name = name.rpartition(".")
    module = import_module(module_name)
    try:
        kind = getattr(module, kind_name, None)
        # A class can override the results of `isinstance` and `issubclass`.
        is_error = Exception in getattr(kind, "__mro__", ())
    except BaseException as error:  # an attribute can be code
        raise TargetError(f"module {module_name!r} raises for {kind_name!r}: {_text_of(error)}") from None
    if kind is None:
        raise TargetError(f"module {module_name!r} has no {kind_name!r}")
    if not is_error:
        raise TargetError(f"{name} is not a subclass of Exception")
    found: type[Exception] = kind
    return found


def fault_problem(kind: type[Exception]) -> str | None:
    """Return why bad luck cannot create an error of this type; None if it can."""
    try:
        kind("bad luck")
    except BaseException as error:  # whatever its constructor raises
        return f"cannot be created from a text alone: {_text_of(error)}"
    return None


def classify_by(classes: Mapping[str, str], kinds: ErrorKinds) -> Classify:
    """Return a function that classifies errors by these HTTP statuses and dotted names, and others by `classify`."""
    if not classes:
        return classify
    statuses = {int(name): ErrorClass(value) for name, value in classes.items() if name.isdecimal()}

    def by_status(error: BaseException) -> ErrorClass:
        status = status_of(error)
        if status is None:
            status = getattr(error, "status", None)  # of an exception of the user's own
        return statuses[status] if type(status) is int and status in statuses else classify(error)

    by_kind: dict[type[BaseException], ErrorClass | str] = {
        kinds[name]: value for name, value in classes.items() if not name.isdecimal()
    }
    return ClassifyBy(by_kind, by_status)


def with_faults(
    policy: luck.BadLuck, weights: Mapping[str, float], kinds: ErrorKinds, *, is_http: bool
) -> luck.BadLuck:
    """Return bad luck whose faults are given by name and weight. `is_http` workers get aiohttp's errors."""
    faults = tuple(_fault(name, kinds, is_http=is_http) for name in weights)
    shares = tuple(weights.values())
    return replace(policy, faults=faults, weights=None if len(set(shares)) == 1 else shares)


def _fault(name: str, kinds: ErrorKinds, *, is_http: bool) -> Callable[[], Exception]:
    if name in kinds:
        return partial(kinds[name], "bad luck")
    if not is_http and not name.isdecimal():
        named = {fault.__name__: fault for fault in luck.BadLuck().faults}
        return named[name]
    from asyncwatch.targets import http  # noqa: PLC0415  aiohttp, for HTTP workers only

    if name.isdecimal():
        return http.failing(int(name))
    return {fault.__name__: fault for fault in http.HTTP_FAULTS}[name]
