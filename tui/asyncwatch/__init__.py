"""Run many async workers under a supervisor and watch each of them live.

The public names are those that the stub `__init__.pyi` imports. Each is imported on first use, so that
`import asyncwatch` costs next to nothing and imports neither Textual nor aiohttp nor msgspec.
"""

__version__ = "0.1.0"

_known: dict[str, str] = {}


def __getattr__(name: str) -> object:
    if name == "__all__":
        value: object = sorted({*_modules(), "__version__"})
    elif name.startswith("_") or name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        from importlib import import_module  # noqa: PLC0415  as in `_modules`

        value = getattr(import_module(_modules()[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules()})


def _modules() -> dict[str, str]:
    """Return the module of each public name, as the stub says."""
    if not _known:
        import ast  # noqa: PLC0415  only a program that uses a public name needs these
        import pkgutil  # noqa: PLC0415

        stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")
        imports = [statement for statement in stub.body if isinstance(statement, ast.ImportFrom)]
        _known.update({alias.name: str(each.module) for each in imports for alias in each.names})
    return _known
