"""ROS parameters made from the stages' config dataclasses, so that a default and its description live in one place.

Nested dataclasses become dotted names (``window.max_frames``). A field's description is the string literal below it;
its bounds, where it has any, are ``field(metadata={"bounds": (low, high)})``. Parameters are read once: read-only.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterException, InvalidParameterTypeException, InvalidParameterValueException

from art_perception.bounds import outside
from art_perception.errors import ArtPerceptionError

if TYPE_CHECKING:
    from rclpy.node import Node

C = TypeVar("C")


def declare_config(node: Node, config: type[C], prefix: str = "") -> C:
    """Declare one parameter per field of ``config``, recursively, and return the config that the parameters ask for.

    Raises:
        ArtPerceptionError: a parameter has the wrong type or is out of bounds.
        TypeError: a field's type has no counterpart among ROS parameters.
    """
    hints = get_type_hints(config)
    descriptions = field_descriptions(config)
    values: dict[str, Any] = {}
    for item in fields(config):  # type: ignore[arg-type]
        name, hint = prefix + item.name, hints[item.name]
        if is_dataclass(hint):
            values[item.name] = declare_config(node, hint, name + ".")  # type: ignore[arg-type]
        else:
            values[item.name] = _declare_field(node, name, hint, item, descriptions.get(item.name, ""))
    return config(**values)


def parameter_names(config: type, prefix: str = "") -> list[str]:
    """Names that :func:`declare_config` declares for ``config``, without a node."""
    hints = get_type_hints(config)
    names: list[str] = []
    for item in fields(config):
        hint = hints[item.name]
        name = prefix + item.name
        names += parameter_names(hint, name + ".") if is_dataclass(hint) else [name]  # type: ignore[arg-type]
    return names


def field_descriptions(config: type) -> dict[str, str]:
    """Return the string literals below the fields of a dataclass, whitespace folded; empty when there is no source."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0].body  # type: ignore[attr-defined]
    except (OSError, TypeError):
        return {}
    return {
        above.target.id: " ".join(below.value.value.split())
        for above, below in itertools.pairwise(body)
        if isinstance(above, ast.AnnAssign)
        and isinstance(above.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _declare_field(node: Node, name: str, hint: Any, item: Field[Any], description: str) -> Any:
    default = item.default_factory() if callable(item.default_factory) else item.default
    descriptor = _descriptor(hint, item, description)
    try:
        value = node.declare_parameter(name, to_ros(default, hint), descriptor).value
    except InvalidParameterTypeException as error:
        raise ArtPerceptionError(f"parameter {name} has the wrong type ({error}); a float is written 5.0") from error
    except (InvalidParameterValueException, InvalidParameterException) as error:
        raise ArtPerceptionError(f"parameter {name} is out of bounds ({error}): see `ros2 param describe`") from error
    choices = choices_of(hint)
    if choices and value not in choices:
        raise ArtPerceptionError(f"parameter {name} is {value!r}: choose one of {', '.join(choices)}")
    found = from_ros(value, hint)
    wrong = outside(item, found)  # ROS has no ranges for arrays
    if wrong:
        raise ArtPerceptionError(f"parameter {name} {wrong}")
    return found


def _descriptor(hint: Any, item: Field[Any], description: str) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=description, read_only=True)
    choices = choices_of(hint)
    if choices:
        descriptor.additional_constraints = "one of: " + ", ".join(choices)
    if "bounds" in item.metadata and get_origin(hint) is not tuple:
        low, high = item.metadata["bounds"]
        if hint is int:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
        else:
            low, high = float(low), float(high)
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return descriptor


def choices_of(hint: Any) -> list[str]:
    """Values that a ``Literal`` or ``Enum`` field accepts; empty for other types."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [str(member.value) for member in hint] if _is_enum(hint) else []


def to_ros(value: Any, hint: Any) -> Any:
    """Turn a field's value into a parameter value."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, bool | int | float | str):
        return float(value) if hint is float else value
    raise TypeError(f"a config field of type {hint} cannot be a ROS parameter")


def from_ros(value: Any, hint: Any) -> Any:
    """Inverse of :func:`to_ros`."""
    if get_origin(hint) is tuple:
        return tuple(value)
    return hint(value) if _is_enum(hint) else value


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)
