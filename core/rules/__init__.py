"""The update rules, one file each. Every module here is imported; none is listed by hand."""

from importlib import import_module
from pkgutil import iter_modules

from samestep.rule import registry

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [name for name in sorted(registry) if registry[name].__module__.startswith(__name__)]

globals().update({name: registry[name] for name in __all__})
