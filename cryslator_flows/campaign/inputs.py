"""Files that a campaign file names: their paths, and checks for changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.crystals.source_files import structure_files
from cryslator_flows.crystals.templates import FileTemplates, PrototypeTemplates, StoreTemplates
from cryslator_flows.errors import CampaignError, ModelError, StructureError
from cryslator_flows.system.store_specs import absolute, absolute_paths, lacks_environment, make_store, store_paths
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryslator_flows.crystals.templates import TemplateSource
    from cryslator_flows.screening.cuts import PropertyWindow

# Key of `Campaign.content` for the digests of the files; models ignore keys that begin with this character.
DIGESTS = "@digests"
# Its key for the digest of each structure file, and the number of files up to which they are kept.
FILES = "files"
MOST_FILES = 1000
# Key of `Campaign.content` for values that take the place of given ones: what depends on packages and on other keys.
EFFECTIVE = "@effective"
# Names in a list of changed files.
MOST_NAMES = 3


def find_template(source: TemplateSource, key: str, folder: Path) -> None:
    """Make the paths of a source of templates absolute, relative to `folder`, and check that they exist.

    Raises
    ------
    CampaignError
        A file or a structure type is missing; the message begins with its key, which begins with `key`.
    StoreError
        The store does not exist.
    """
    import cryslator_flows.system.sqlite_store  # noqa: F401  maggma finds this store by the name of its class

    if isinstance(source, FileTemplates):
        source.path = absolute(source.path, folder)
        if not source.found():
            raise CampaignError(f"{key}.path: {source.path} does not exist; give a file, a folder, or a pattern")
    elif isinstance(source, PrototypeTemplates):
        try:
            source.check_names()
        except StructureError as error:
            raise CampaignError(f"{key}.{error}") from None
    elif isinstance(source, StoreTemplates):
        source.store = absolute_paths(source.store, folder)
        for name, value in store_paths(source.store):
            for path in value if isinstance(value, list) else [value]:
                check_exists(path, f"{key}.store.{name}")
        if not lacks_environment(source.store):
            make_store(source.store, f"{key}.store")


def check_exists(path: Path | str, key: str) -> None:
    """Refuse a path that does not exist.

    Raises
    ------
    CampaignError
        The message begins with `key`.
    """
    # Unlike Path.exists, False for names that are too long for the system.
    if not os.path.exists(path):  # noqa: PTH110
        raise CampaignError(f"{key}: {path} does not exist; correct the path")


def digests(templates: Sequence[TemplateSource], model: str, replay: Path | None) -> dict[str, Any]:
    """Return digests of the files of a campaign, which do not depend on their folders; None for missing files.

    Under `FILES` is the digest of each structure file, if there are `MOST_FILES` at most.

    Parameters
    ----------
    templates : sequence of TemplateSource
        Sources of templates.
    model : str
        Name or folder of the model.
    replay : Path or None
        Old pairs for rounds of active learning.
    """
    structures: dict[str, str] = {}
    found: dict[str, Any] = {
        f"templates.{number}.path": _digest(source.found(), structures)
        for number, source in enumerate(templates)
        if isinstance(source, FileTemplates)
    }
    if len(structures) <= MOST_FILES:
        found[FILES] = structures
    try:
        found["model"] = find_model(model).version()
    except ModelError:
        found["model"] = None
    return found if replay is None else {**found, "rounds.replay": _digest([replay], {})}


def check_property(name: str, window: PropertyWindow) -> None:
    """Check that the model of a window predicts its property, and give the window the model's unit.

    Raises
    ------
    CampaignError
        The model is not installed, or it predicts another property, or in another unit.
    """
    key, model = f"selection.properties.{name}", window.model
    try:
        config = find_model(model).config()
    except ModelError as error:
        raise CampaignError(f"{key}.model: {error}") from error
    if config.target != name:
        raise CampaignError(
            f"{key}.model: {model!r} predicts {config.target}, not {name}; write {config.target} in its place, or name "
            "another model"
        )
    if window.unit not in (None, config.unit):
        raise CampaignError(f"{key}.unit: {model!r} predicts in {config.unit}, not {window.unit}; convert the window")
    window.unit = config.unit


def comparable(content: dict[str, Any]) -> dict[str, Any]:
    """Return a campaign's content with names and digests of files in place of paths, which change when a folder moves.

    Parameters
    ----------
    content : dict
        See `Campaign.content`.
    """
    found = content.get(DIGESTS, {})

    def portable(path: str | None, key: str) -> list[str | None]:
        return [path and Path(path).name, found.get(key)]

    templates = []
    for number, source in enumerate(content["templates"]):
        if source["source"] == "files":
            source = {**source, "path": portable(source["path"], f"templates.{number}.path")}
        elif source["source"] == "store":
            paths = {key: value if isinstance(value, list) else [value] for key, value in store_paths(source["store"])}
            names = {key: [Path(path).name for path in value] for key, value in paths.items()}
            source = {**source, "store": {**source["store"], **names}}
        templates.append(source)
    changed = {**content, "templates": templates, "model": portable(content["model"], "model")}
    if content.get("rounds"):
        changed["rounds"] = {**content["rounds"], "replay": portable(content["rounds"]["replay"], "rounds.replay")}
    if properties := content["selection"].get("properties"):
        windows = {
            name: {**window, "model": Path(window["model"]).name, "unit": None} for name, window in properties.items()
        }
        changed["selection"] = {**content["selection"], "properties": windows}
    changed.pop(DIGESTS, None)
    changed.pop(EFFECTIVE, None)
    return changed


def effective(content: dict[str, Any]) -> dict[str, Any]:
    """Return a campaign's content with the values that count in place of the given ones; parameters as `comparable`."""
    values = content.get(EFFECTIVE, {})
    return {key: {**given, **values[key]} if given and key in values else given for key, given in content.items()}


def describe_changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Describe the structure files that are new, changed or gone; parameters as for `comparable`, empty if unknown."""
    old, new = (content.get(DIGESTS, {}).get(FILES, {}) for content in (before, now))
    if not old or not new:
        return ""
    kinds = {
        "new": new.keys() - old.keys(),
        "changed": {name for name in new.keys() & old.keys() if new[name] != old[name]},
        "gone": old.keys() - new.keys(),
    }
    return "; ".join(f"{kind}: {_some(sorted(names))}" for kind, names in kinds.items() if names)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _digest(paths: Sequence[Path], each: dict[str, str]) -> str | None:
    """Compute the SHA-256 of names and contents of files and folders; `each` takes a short one of each file."""
    digest = hashlib.sha256()
    for path in paths:
        if not path.exists():
            return None
        for file in structure_files(path):
            # Beside templates the campaign file may lie; it is no template.
            if file.suffix in (".yaml", ".yml"):
                continue
            name = str(file.relative_to(path.parent))
            digest.update(name.encode())
            content_digest = b"unreadable"
            try:
                # Pipes and devices may have no end.
                if not file.is_file():
                    raise OSError
                with file.open("rb") as content:
                    content_digest = hashlib.file_digest(content, "sha256").digest()
            # The enumeration reports it.
            except OSError:
                pass
            digest.update(content_digest)
            each[name] = content_digest[:6].hex()
    return digest.hexdigest()
