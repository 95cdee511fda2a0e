"""Settings that users write by hand: strict models and the one reader of YAML files."""

from __future__ import annotations

import re
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from reprlib import repr as shortened
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cryslator_flows.errors import CryslatorError, DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails

Content = TypeVar("Content")

# Limits after aliases are written out. pydantic and JSON fail on deeper files and are slow on larger ones.
MAX_DEPTH, MAX_VALUES = 50, 1_000_000
MAX_BYTES = 64 * 2**20


class StrictModel(BaseModel):
    """Model of settings that users write by hand. An unknown key is an error that names the nearest known key."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _know_all_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            # Keys that start with @ belong to monty and come from a document of a store.
            for key in [key for key in data if not str(key).startswith("@") and key not in cls.model_fields]:
                near = get_close_matches(str(key), cls.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(cls.model_fields)}"
                raise PydanticCustomError("unknown_key", "unknown key '{key}'; {hint}", {"key": str(key), "hint": hint})
            return {key: value for key, value in data.items() if not str(key).startswith("@")}
        return data


class YamlFile:
    """Content of a YAML 1.2 or JSON file that users write by hand, with the line of each key.

    ``NO`` and ``12:00:00`` stay text. ``1e-2`` is a number. All numbers must be finite, and each key must be unique.

    Parameters
    ----------
    path : Path or str
        The file.
    error : type of CryslatorError
        Type of error to raise about the file.

    Raises
    ------
    CryslatorError
        The file cannot be read as YAML; the message names file and line.
    """

    def __init__(self, path: Path | str, error: type[CryslatorError] = DataError) -> None:
        self.path, self.error = Path(path), error
        try:
            text = _read(self.path)
        except (OSError, ValueError) as problem:
            reason, advice = getattr(problem, "strerror", None) or problem, "give a YAML file"
            if isinstance(problem, UnicodeDecodeError):
                reason, advice = "not UTF-8 text", "save it as UTF-8"
            raise error(f"{path}: cannot be read as YAML ({reason}); {advice}") from problem
        try:
            self._node, self.content = _load(text)
        except ConstructorError as problem:
            raise error(f"{path}, line {problem.problem_mark.line + 1}: {problem.problem}") from problem
        except YAMLError as problem:
            mark = problem.problem_mark if isinstance(problem, MarkedYAMLError) else None
            line = mark.line if mark else text.count("\n", 0, getattr(problem, "position", 0))
            reason = getattr(problem, "problem", None) or getattr(problem, "reason", "syntax error")
            raise error(
                f"{path}, line {line + 1}: cannot be read as YAML ({reason}); check indentation and colons"
            ) from problem

    def parse(self, kind: type[Content]) -> Content:
        """Validate the content.

        Parameters
        ----------
        kind : type
            A pydantic model, or any other type that pydantic validates.

        Raises
        ------
        CryslatorError
            A value is wrong; the message names file, line and key.
        """
        adapter = TypeAdapter(kind)
        try:
            parsed = adapter.validate_python(self.content)
        except ValidationError as error:
            first = error.errors()[0]
            raise self._error(first["loc"], _reason(first, adapter), first) from error
        for where in _flags_as_numbers(self.content, adapter.dump_python(parsed)):
            raise self._error(where, "expected a number, not true or false")
        return parsed

    def mistake(self, message: str) -> CryslatorError:
        """Return the error, with file and line, of a message that begins with a key: ``relaxation.maker: unknown``."""
        key = re.match(r"[\w.]*", message)
        return self.error(f"{self._place(key[0].split('.') if key else ())[1]}, {message}")

    def _error(self, where: tuple[str | int, ...], reason: str, error: ErrorDetails | None = None) -> CryslatorError:
        kind = "" if error is None else error["type"]
        found, place = self._place(where)
        if error is not None and kind == "unknown_key":
            place = self._place((*where, error["ctx"]["key"]))[1]
        key = ".".join([*found, *map(str, where[-1:] if kind == "missing" else ())]) or "file"
        return self.error(f"{place}, {key}: {reason}")

    def _place(self, where: Iterable[str | int]) -> tuple[list[str], str]:
        """Return the parts of a pydantic location that the file has, and file and line of the last part."""
        node, found = self._node, []
        line = 0 if node is None else node.start_mark.line
        for part in map(str, where):
            if isinstance(node, MappingNode):
                below = {key.value: (key, value) for key, value in node.value if isinstance(key, ScalarNode)}.get(part)
            elif isinstance(node, SequenceNode) and part.isdigit() and int(part) < len(node.value):
                below = (node.value[int(part)], node.value[int(part)])
            else:
                below = None
            # The other parts are tags of unions and similar entries.
            if below is not None:
                found.append(part)
                line, node = below[0].start_mark.line, below[1]
        return found, f"{self.path}, line {line + 1}"


def read_yaml(path: Path | str) -> Any:
    """Read a YAML or JSON file.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    return YamlFile(path).content


def read_strict(path: Path | str, kind: type[Content]) -> Content:
    """Read and validate a YAML or JSON file.

    Raises
    ------
    DataError
        The file cannot be read or a value is wrong; the message names file, line and key.
    """
    return YamlFile(path).parse(kind)


class _Constructor(SafeConstructor):
    """Constructor of plain values. An error about a value names its line."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str) and not value.isascii():
                # JSON writes a character beyond the first 65,536 as two surrogates.
                value = value.encode("utf-16", "surrogatepass").decode("utf-16")
        except YAMLError:
            raise
        except Exception as error:
            kind = str(node.tag).rpartition(":")[2]
            raise _mistake(node, f"{shortened(node.value)} cannot be read as {kind}; correct or quote it") from error
        if isinstance(value, float) and not isfinite(value):
            raise _mistake(node, f"{node.value} is not a finite number; correct it, or leave the key out")
        return value

    def check_mapping_key(self, node: Node, key_node: Node, mapping: Any, key: Any, value: Any) -> bool:  # noqa: ARG002
        if key is None:
            raise _mistake(key_node, "cannot be read as YAML (an empty key); write a key before the colon")
        if key in mapping:
            raise _mistake(key_node, f"key {shortened(key)} stands here again; remove one of the two")
        return True


def _read(path: Path) -> str:
    """Read a text file; a pipe or a device may have no end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("no regular file")
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES >> 20} MB")
    return text


def _load(text: str) -> tuple[Node | None, Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    # An anchor may be set again. The latest one counts.
    yaml.composer.warn_double_anchors = False
    try:
        node = yaml.compose(text)
    except MaxDepthExceededError as error:
        raise ConstructorError(
            None, None, f"more than {MAX_DEPTH} levels; make it flatter", error.problem_mark
        ) from error
    if node is None:
        return None, None
    _extent(node, {})
    return node, _Constructor(loader=yaml).construct_document(node)


def _extent(node: Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return number and depth of the values below a node, with all aliases written out."""
    if id(node) in known:
        if (extent := known[id(node)]) is None:
            raise _mistake(node, "refers to itself; write the value out")
        return extent
    known[id(node)] = None
    below = [] if isinstance(node, ScalarNode) else node.value
    children = [child for item in below for child in (item if isinstance(item, tuple) else (item,))]
    extents = [_extent(child, known) for child in children]
    number, depth = 1 + sum(size for size, _ in extents), 1 + max((depth for _, depth in extents), default=0)
    if number > MAX_VALUES or depth > MAX_DEPTH:
        raise _mistake(
            node, f"more than {MAX_VALUES} values, or {MAX_DEPTH} levels, with aliases; make the file smaller"
        )
    known[id(node)] = number, depth
    return number, depth


def _mistake(node: Node, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


def _reason(error: ErrorDetails, adapter: TypeAdapter[Any]) -> str:
    """Return the message of a validation error without pydantic's vocabulary."""
    kind, given = error["type"], error["input"]
    if kind == "missing":
        return "missing; add this key"
    if kind in {"model_type", "model_attributes_type", "dataclass_type", "dict_type"}:
        return "expected keys and values here"
    if kind in {"list_type", "tuple_type"}:
        return "expected a list, as in [A, B]"
    if kind == "path_type":
        return "expected a path"
    if kind == "literal_error":
        known = re.findall("'([^']*)'", error["ctx"]["expected"])
        return f"{given!r} is unknown; {nearest(str(given), known)}"
    if kind == "too_short":
        return "give at least one"
    if kind.startswith("union_tag"):
        key = error["ctx"]["discriminator"].strip("'")
        return f"{key} must be one of {', '.join(_tags(adapter.json_schema(), key))}"
    return error["msg"].removeprefix("Value error, ")


def _tags(schema: Any, key: str) -> list[str]:
    """Return the values of the key by which a JSON schema distinguishes the members of a union."""
    if isinstance(schema, dict):
        union = schema.get("discriminator")
        if isinstance(union, dict) and union.get("propertyName") == key:
            return list(union["mapping"])
        schema = list(schema.values())
    found = (_tags(part, key) for part in (schema if isinstance(schema, list) else []))
    return next(filter(None, found), [])


def _flags_as_numbers(given: Any, taken: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the places where the file has true or false and pydantic read a number."""
    if isinstance(given, dict) and isinstance(taken, dict):
        pairs = [(key, value, taken[key]) for key, value in given.items() if key in taken]
    elif isinstance(given, list) and isinstance(taken, list | tuple):
        pairs = [(index, *pair) for index, pair in enumerate(zip(given, taken, strict=False))]
    else:
        if isinstance(given, bool) and isinstance(taken, int | float) and not isinstance(taken, bool):
            yield ()
        return
    for key, value, result in pairs:
        for where in _flags_as_numbers(value, result):
            yield (key, *where)
