"""Tables of the reference pages, made from the models, the settings and the command line when the site is built."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import griffe
import typer
from pydantic.json_schema import GenerateJsonSchema, NoDefault
from typer.cli import get_docs_for_click

from cryslator_flows.api import Campaign
from cryslator_flows.cli.main import app
from cryslator_flows.documents.adaptation import Adaptation, HeldOutScores
from cryslator_flows.documents.candidates import Candidate, Template, Translation
from cryslator_flows.documents.properties import PropertyComparison
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.rounds import RoundOutcome
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.settings import CryslatorSettings
from cryslator_flows.system.console import markdown_table
from cryslator_flows.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

Schema = dict[str, Any]
WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "map",
}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}
DOCUMENTS: tuple[type[BaseModel], ...] = (
    CampaignSummary,
    RoundOutcome,
    Adaptation,
    HeldOutScores,
    RelaxationComparison,
    Translation,
    Candidate,
    Template,
    PropertyComparison,
)


@dataclass(frozen=True)
class Key:
    """One key of a file that users write, or one field of a document.

    Parameters
    ----------
    name, kind, default, meaning : str
        As they stand in the table, in Markdown; `default` is empty where nothing stands for a key that is left out.
    """

    name: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """The keys of one map of a file, or the fields of one document.

    Parameters
    ----------
    title : str
        Where the map stands in the file, or name of the document.
    text : str
        What it is.
    keys : tuple of Key
        In the order of the code.
    """

    title: str
    text: str
    keys: tuple[Key, ...]


class _AllDefaults(GenerateJsonSchema):
    """JSON schemas that also tell the defaults which functions make."""

    def get_default_value(self, schema: Any) -> Any:
        value = super().get_default_value(schema)
        return schema["default_factory"]() if value is NoDefault and "default_factory" in schema else value


def sections(model: type[BaseModel], title: str = "", by_class: bool = False) -> list[Section]:
    """Return a model and the models in it, each once.

    Parameters
    ----------
    model : type of BaseModel
        The model.
    title : str
        Title of the first section.
    by_class : bool
        Name the other sections by their classes, not by where they stand in a file.

    Returns
    -------
    list of Section
        The model first, then the others in the order in which its keys come to them.
    """
    schema = model.model_json_schema(schema_generator=_AllDefaults)
    definitions = schema.get("$defs", {})
    if "$ref" in schema:
        schema = definitions[_name(schema)]
    titles: dict[str, str] = {}
    rows = [(title, schema)]

    def follow(part: Schema, path: str) -> None:
        for key, value in part["properties"].items():
            for name, inner in _references(value, f"{path}.{key}".lstrip(".")):
                if name not in titles and "properties" in definitions[name]:
                    titles[name] = name if by_class else _titled(inner, definitions[name])
                    rows.append((titles[name], definitions[name]))
                    follow(definitions[name], inner)

    follow(schema, "")
    return [Section(name, *_read(part, definitions, titles)) for name, part in rows]


def campaign_file() -> str:
    """All keys of a campaign file."""
    return _markdown(sections(Campaign, "All keys"))


def recipe() -> str:
    """All keys of a recipe."""
    return _markdown(sections(Recipe, "All keys"))


def documents() -> str:
    """All fields of the documents that a campaign leaves."""
    found: dict[str, Section] = {}
    for model in DOCUMENTS:
        for section in sections(model, model.__name__, by_class=True):
            found.setdefault(section.title, section)
    return _markdown(list(found.values()), head="field")


def settings() -> str:
    """All environment variables."""
    (section,) = sections(CryslatorSettings)
    prefix = CryslatorSettings.model_config["env_prefix"]
    keys = tuple(Key(prefix + key.name.upper(), key.kind, key.default, key.meaning) for key in section.keys)
    return _table(keys, head="variable")


def commands() -> str:
    """All commands and their options, as typer documents them."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="cryslator")
    # The page has a title of its own, and typer cuts the first lines of the commands short.
    text = re.sub(r"^# .*\n", "", text).strip()
    for name, part in command.commands.items():
        text = re.sub(
            rf"^\* `{name}`: .*$",
            f"* [`{name}`](#cryslator-{name}): {cleandoc(part.help).splitlines()[0]}",
            text,
            count=1,
            flags=re.M,
        )
    return text


def _read(part: Schema, definitions: Schema, titles: dict[str, str]) -> tuple[str, tuple[Key, ...]]:
    docstring = griffe.Docstring(part.get("description", "")).parse("numpy", warnings=False)
    text = next((item.value for item in docstring if item.kind is griffe.DocstringSectionKind.text), "")
    described = {
        name.strip(): parameter.description
        for item in docstring
        if item.kind is griffe.DocstringSectionKind.parameters
        for parameter in item.value
        for name in parameter.name.split(",")
    }
    keys = []
    for name, value in part["properties"].items():
        required = name in part.get("required", ()) or "const" in value
        default = "required" if required else _default(value, definitions)
        meaning = value.get("description") or described.get(name, "")
        if not meaning and "$ref" in value:
            meaning = definitions[_name(value)].get("description", "").split("\n\n")[0]
        keys.append(Key(name, _kind(value, titles), default, " ".join(meaning.split())))
    # What tells the kind of a map comes first.
    return text, tuple(sorted(keys, key=lambda key: "const" not in part["properties"][key.name]))


def _references(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Names of the models that a key holds, and where in the file they stand."""
    if not isinstance(value, dict):
        return
    if "$ref" in value:
        yield _name(value), path
    for choice in (*value.get("anyOf", ()), *value.get("oneOf", ()), *value.get("prefixItems", ())):
        yield from _references(choice, path)
    yield from _references(value.get("items"), path)
    yield from _references(value.get("additionalProperties"), f"{path}.NAME")


def _name(value: Schema) -> str:
    return str(value["$ref"]).rpartition("/")[2]


def _titled(path: str, part: Schema) -> str:
    """Return the place in the file, and the value that tells which of several kinds it is."""
    tags = [f"{name}: {value['const']}" for name, value in part["properties"].items() if "const" in value]
    return ", ".join([path, *tags])


def _kind(value: Schema, titles: dict[str, str]) -> str:
    """Return the values that a key may have, in words."""
    if "$ref" in value:
        title = titles[_name(value)]
        return f"[{title.rpartition(', ')[2]}](#{_anchor(title)})"
    if "const" in value or "enum" in value:
        return " or ".join(f"`{item}`" for item in value.get("enum", [value.get("const")]))
    if choices := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(choice, titles) for choice in choices))
    kind = value.get("type")
    bounds = [text.format(f"{value[name]:g}") for name, text in BOUNDS.items() if name in value]
    if kind == "array":
        if "prefixItems" in value:
            return f"list of {len(value['prefixItems'])}: {_kind(value['prefixItems'][0], titles)}"
        return f"list of {_kind(value['items'], titles)}" if value.get("items") else "list"
    if kind == "object" and isinstance(inner := value.get("additionalProperties"), dict) and inner:
        return f"map of names to {_kind(inner, titles)}"
    if value.get("format") in ("path", "date-time"):
        return {"path": "path", "date-time": "date and time"}[value["format"]]
    return ", ".join([WORDS.get(kind, "anything") if isinstance(kind, str) else "anything", *bounds])


def _default(value: Schema, definitions: Schema) -> str:
    if "default" not in value:
        return ""
    default = value["default"]
    if isinstance(default, dict) and default:
        # What is not a default of the part itself.
        parts = [definitions[name]["properties"] for name, _ in _references(value, "")]
        known = {key: inner.get("default") for part in parts for key, inner in part.items()}
        default = {key: item for key, item in default.items() if key not in known or known[key] != item}
        if not default:
            return "see there"
        return ", ".join(f"`{key}: {item}`" for key, item in default.items())
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default}`" if isinstance(default, str) and default else f"`{json.dumps(default)}`"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", title.lower()).strip("-")


def _table(keys: tuple[Key, ...], head: str = "key") -> str:
    rows = ((f"`{key.name}`", key.kind, key.default, key.meaning) for key in keys)
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    return markdown_table([head, "type", "default", "meaning"], escaped)


def _markdown(parts: list[Section], head: str = "key") -> str:
    return "\n\n".join(
        f"## {part.title} {{ #{_anchor(part.title)} }}\n\n{part.text}\n\n{_table(part.keys, head)}" for part in parts
    )
