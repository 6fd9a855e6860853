"""The update rules, one file each. Every module here is imported; none is listed by hand."""

from importlib import import_module
from pkgutil import iter_modules

from ..rule import registry

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = sorted(name for name, rule in registry.items() if rule.__module__.startswith(__name__))

globals().update({name: registry[name] for name in __all__})
