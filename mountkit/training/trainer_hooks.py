"""Stands around methods of Trainer, for which there is no event: the one place that changes it.

A method is hooked in Trainer and in every class below it, also where a mixin has it, and a method
that was assigned to one Trainer alone is hooked with them. However many of them a call passes, what
stands around it is called once, around the outermost.
"""

from __future__ import annotations

import functools
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Any

from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KNOWN = "5.0 to 5.24"

_lock = threading.Lock()
_local = threading.local()


class Call:
    """One call of a hooked method; it may be made more than once.

    ``hidden`` is the error of a method further in, which one further out may have swallowed.
    """

    def __init__(self, method: Callable[..., Any], arguments: Any, options: Any) -> None:
        self._method = method
        self._arguments = arguments
        self._options = options
        self.hidden: Exception | None = None

    def argument(self, position: int, name: str) -> Any:
        """What it was called with; None if that was left out."""
        if name in self._options or len(self._arguments) <= position:
            return self._options.get(name)
        return self._arguments[position]

    def give(self, position: int, name: str, value: Any) -> None:
        """Call it with something else."""
        if name in self._options or len(self._arguments) <= position:
            self._options = {**self._options, name: value}
        else:
            before, after = self._arguments[:position], self._arguments[position + 1 :]
            self._arguments = (*before, value, *after)

    def __call__(self) -> Any:
        """Make it."""
        self.hidden = None
        return self._method(*self._arguments, **self._options)


class _Hook:
    """In the place of a class's method.

    A descriptor that also sets: thus it comes before what was assigned to one object.
    """

    def __init__(
        self, owner: type[Any], name: str, around: Callable[[Any, Call], Any], method: Any
    ) -> None:
        self._owner = owner
        self._name = name
        self._around = around
        # None where the class has it from a mixin, which is none of ours to change.
        self._method = method

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is not None:
            return self._hooked(instance, self._beneath(instance))

        @functools.wraps(self._method or getattr(super(self._owner, self._owner), self._name))
        def unbound(it: Any, *arguments: Any, **options: Any) -> Any:
            return self._hooked(it, self._further_in(it))(*arguments, **options)

        return unbound

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = value

    def __delete__(self, instance: Any) -> None:
        try:
            del instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def _beneath(self, instance: Any) -> Any:
        # Asked by super(), it is about the class's alone.
        if _provider(type(instance), self._name) is self and self._name in instance.__dict__:
            return instance.__dict__[self._name]
        return self._further_in(instance)

    def _further_in(self, instance: Any) -> Any:
        if self._method is None:
            return getattr(super(self._owner, instance), self._name)
        bind = getattr(self._method, "__get__", None)
        return bind(instance, type(instance)) if bind else self._method

    def _hooked(self, instance: Any, method: Any) -> Callable[..., Any]:
        @functools.wraps(method)
        def hooked(*arguments: Any, **options: Any) -> Any:
            under_way: dict[tuple[int, str], Call] = _local.__dict__.setdefault("calls", {})
            key = id(instance), self._name
            outer = under_way.get(key)
            if outer is not None:
                outer.hidden = None
                try:
                    return method(*arguments, **options)
                except Exception as error:
                    outer.hidden = outer.hidden or error
                    raise
            under_way[key] = call = Call(method, arguments, options)
            try:
                return self._around(instance, call)
            finally:
                del under_way[key]

        return hooked


def hook(trainer: type[Any], name: str, around: Callable[[Any, Call], Any]) -> None:
    """Have every call of a method be made by ``around``, which gets the Trainer and the call.

    Done once for each class; again, it hooks the classes that were defined meanwhile, and those
    whose method somebody has replaced.

    Raises ConfigurationError if this Trainer has no such method.
    """
    if not callable(getattr(trainer, name, None)):
        raise ConfigurationError(
            f"Trainer has no {name} in transformers {_version()}, and CheckpointCallback needs it.",
            hint=f"transformers {KNOWN} have it: pip install 'transformers>=5.0,<5.25'; or leave "
            "CheckpointCallback out: mountkit run proves all at the end.",
        )
    with _lock:
        for each in _family(trainer):
            if not isinstance(_provider(each, name), _Hook):
                setattr(each, name, _Hook(each, name, around, each.__dict__.get(name)))


def beneath(owner: type[Any], name: str, around: Callable[..., Any]) -> None:
    """Have a class's own method be made by ``around``, further in than every hook.

    Unlike a hooked one it has the arguments of the class's own method, whatever those of a class
    below it are. ``around`` gets the object, the bound method, its arguments and its options.

    Raises ConfigurationError if the class has no such method.
    """
    method = owner.__dict__.get(name)
    if not callable(method):
        raise ConfigurationError(
            f"{owner.__name__} has no {name} in transformers {_version()}, by which mountkit is "
            "attached.",
            hint=f"transformers {KNOWN} have it: pip install 'transformers>=5.0,<5.25'",
        )

    @functools.wraps(method)
    def made(it: Any, *arguments: Any, **options: Any) -> Any:
        return around(it, functools.partial(method, it), arguments, options)

    setattr(owner, name, made)


def _family(trainer: type[Any]) -> Iterator[type[Any]]:
    """A class and all below it, each after those that it is made of."""
    seen = {trainer}
    found = [trainer]
    for each in found:
        new = [below for below in type.__subclasses__(each) if below not in seen]
        seen.update(new)
        found.extend(new)
    return iter(sorted(found, key=lambda each: len(each.__mro__)))


def _provider(owner: type[Any], name: str) -> Any:
    """What a class has under that name, its own or from another, as it is there."""
    return next((each.__dict__[name] for each in owner.__mro__ if name in each.__dict__), None)


def _version() -> str:
    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return "of an unknown version"
