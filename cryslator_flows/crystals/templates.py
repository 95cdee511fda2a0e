"""Sources of templates: AFLOW prototypes, structure types, files, a maggma store, the Materials Project."""

from __future__ import annotations

import gzip
import json
import os
from difflib import get_close_matches
from functools import cache
from glob import glob
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_serializer
from pymatgen.core import Composition, Structure

from cryslator_flows.config import StrictModel
from cryslator_flows.crystals.check import check_structure
from cryslator_flows.crystals.files import read_structures
from cryslator_flows.crystals.orderings import majority
from cryslator_flows.crystals.outside import crystal_alone, structure_from_dict
from cryslator_flows.crystals.prototypes import prototypes
from cryslator_flows.crystals.substitution import Symbol
from cryslator_flows.documents.candidates import Template
from cryslator_flows.errors import StructureError, one_line
from cryslator_flows.system.store_specs import open_store, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator


def _formula_type(name: str) -> str:
    try:
        return str(Composition(name).anonymized_formula)
    except ValueError as error:
        raise ValueError(f"{name!r} is not a formula type; write one as 'ABC3'") from error


# Advice about a name that no type has.
NAMELESS = (
    "`cryslator templates` lists them, many without a name, by formula and space group. Types of more than 24 atoms, "
    "such as olivine (28) and garnet (80), are not in the library: take a CIF with `source: files`"
)


class TemplateSource(StrictModel):
    """Filters that all sources of templates share."""

    anonymous_formulas: list[Annotated[str, AfterValidator(_formula_type)]] | None = Field(
        None, description="Keep only templates of these formula types, as in 'ABC3', with letters in any order"
    )
    elements: list[Symbol] | None = Field(None, description="Keep templates that contain all of these elements")
    n_elements: int | None = Field(None, ge=1, description="Keep templates of this many elements")
    max_atoms: int = Field(40, ge=1, description="Keep templates with at most this many atoms in the cell")

    def load(self) -> Iterator[Template | StructureError]:
        """Yield the templates that pass the filters, and errors about unusable ones."""
        for template in self._read():
            if isinstance(template, StructureError):
                yield template
                continue
            structure = template.structure
            composition = structure.composition.element_composition
            symbols = {element.symbol for element in composition}
            if self.n_elements and len(symbols) != self.n_elements:
                continue
            if self.elements and not symbols.issuperset(self.elements):
                continue
            formulas = self.anonymous_formulas
            if formulas is not None and composition.anonymized_formula not in formulas:
                continue
            if len(structure) > self.max_atoms:
                # Of a library it is a filter; a file that someone gives is not left out silently.
                if isinstance(self, FileTemplates):
                    words = f"{len(structure)} atoms, over max_atoms: {self.max_atoms} of its source; raise it there"
                    yield StructureError(f"template {template.template_id}: {words}", "too many atoms")
                continue
            try:
                check_structure(majority(structure), f"template {template.template_id}")
                yield template
            except StructureError as error:
                yield error

    def _read(self) -> Iterator[Template | StructureError]:
        raise TypeError(f"{type(self).__name__} is not a source of templates; use one of its subclasses")


class AflowTemplates(TemplateSource):
    """Prototypes of the AFLOW library as shipped with pymatgen.

    M. J. Mehl et al., "The AFLOW library of crystallographic prototypes: part 1", Comput. Mater. Sci. 136,
    S1-S828 (2017).
    """

    source: Literal["aflow"] = Field("aflow", description="The AFLOW library")
    prototypes: list[str] | None = Field(None, description="AFLOW labels to keep, as in 'AB3C_cP5_221_a_c_b'")

    def _read(self) -> Iterator[Template | StructureError]:
        library = aflow_library()
        if unknown := set(self.prototypes or ()) - {label for label, _ in library}:
            raise StructureError(f"aflow templates, prototypes: unknown {sorted(unknown)}; see aflowlib.org for labels")
        for label, structure in library:
            if self.prototypes is None or label in self.prototypes:
                # The library has several structure types under one label, which differ in their formula.
                formula = structure.composition.reduced_formula
                yield Template(template_id=f"{formula}:{label}", structure=structure)


@cache
def aflow_library() -> tuple[tuple[str, Structure], ...]:
    """Return labels and structures of pymatgen's AFLOW_PROTOTYPE_LIBRARY, from its file.

    The import of the library parses all its references, which takes seconds.
    """
    library = files("pymatgen.analysis") / "prototypes" / "aflow_prototypes.json.gz"
    entries = json.loads(gzip.decompress(library.read_bytes()))
    return tuple((entry["tags"]["aflow"], Structure.from_dict(entry["snl"])) for entry in entries)


class PrototypeTemplates(TemplateSource):
    """Structure types of the Materials Project, one known crystal of each. `cryslator templates` lists them."""

    source: Literal["prototypes"] = Field(description="The library of structure types in this package")
    names: list[str] | None = Field(None, description="Names of types to keep, as in 'Spinel', in any case")
    space_groups: list[int] | None = Field(None, description="Numbers of the space groups to keep")
    min_members: int = Field(
        3, ge=1, description="Keep types with at least this many known crystals in the Materials Project"
    )

    def check_names(self) -> None:
        """Refuse names that no type has.

        Raises
        ------
        StructureError
            No type has a given name; the message begins with ``names``.
        """
        known = {item.name.casefold(): item.name for item in prototypes() if item.name} if self.names else {}
        for name in self.names or ():
            if name.casefold() not in known:
                holding = [key for key in known if name.casefold() in key]
                near = dict.fromkeys([*holding, *get_close_matches(name.casefold(), known, cutoff=0.7)])
                raise StructureError(
                    f"names: no type is called {name!r}; "
                    + (f"did you mean {' or '.join(repr(known[key]) for key in near)}?" if near else NAMELESS)
                )

    def _read(self) -> Iterator[Template | StructureError]:
        """Yield the types that pass the filters of this source, with most known crystals first."""
        self.check_names()
        wanted = None if self.names is None else {name.casefold() for name in self.names}
        for item in sorted(prototypes(), key=lambda item: -item.n_members):
            if (
                item.n_members >= self.min_members
                and (self.space_groups is None or item.space_group in self.space_groups)
                and (wanted is None or item.name.casefold() in wanted)
            ):
                yield Template(template_id=item.template_id, structure=item.structure)


class FileTemplates(TemplateSource):
    """Structure files, folders of them, or ``.jsonl[.gz]`` lines of `Structure.as_dict()`."""

    source: Literal["files"] = Field(description="Files of your own")
    path: Path = Field(
        description="File, folder, or a pattern such as crystals/*.cif; relative paths count from the campaign file"
    )

    def found(self) -> list[Path]:
        """Return the files and folders of the path, in alphabetical order. The list may be empty."""
        # Unlike Path.exists, os.path.exists returns False for names that are too long for the system.
        if os.path.exists(self.path):  # noqa: PTH110
            return [self.path]
        return sorted(map(Path, glob(str(self.path), recursive=True)))  # noqa: PTH207

    def _read(self) -> Iterator[Template | StructureError]:
        for path in self.found() or [self.path]:
            # The name contains the folder, which distinguishes POSCAR files, and is relative, as folders may move.
            above = (path if path.is_dir() else path.parent).parent
            for name, found in read_structures(path):
                if isinstance(found, StructureError):
                    yield StructureError(f"template {found}", found.cause)
                else:
                    yield Template(template_id=name.removeprefix(f"{above}{os.sep}"), structure=found)


class StoreTemplates(TemplateSource):
    """Structures of any maggma store, such as task documents of earlier calculations."""

    source: Literal["store"] = Field(description="A maggma store")
    store: dict[str, Any] = Field(
        description="Store as in a jobflow.yaml: 'type' and its arguments; `${NAME}` in one, a password for instance, "
        "is taken from the environment where the store is read"
    )
    criteria: dict[str, Any] = Field(default_factory=dict, description="MongoDB query for the documents")
    structure_key: str = Field("output.structure", description="Key of the structure in a document")
    id_key: str = Field("uuid", description="Key of the identifier in a document")

    @field_serializer("store")
    def _without_secrets(self, store: dict[str, Any]) -> Any:
        return without_secrets(store)

    def _read(self) -> Iterator[Template | StructureError]:
        from pydash import get

        store = open_store(self.store, "template store")
        # A job that was run again has a document for each index. The last one counts.
        latest: dict[str, int] = {}
        for document in store.query(self.criteria, [self.id_key, "index"]):
            name = str(get(document, self.id_key))
            latest[name] = max(_index(document), latest.get(name, 0))
        for document in store.query(self.criteria, [self.structure_key, self.id_key, "index"]):
            name = str(get(document, self.id_key))
            if _index(document) < latest.get(name, 0):
                continue
            where = f"template store, document {name}, {self.structure_key}"
            try:
                yield Template(template_id=name, structure=structure_from_dict(get(document, self.structure_key)))
            except StructureError as error:
                yield StructureError(f"{where}: {error}", error.cause)
            # Any document may raise any exception.
            except Exception as error:
                yield StructureError(f"{where}: {one_line(error)}; fix the document or leave it out by 'criteria'")
        store.close()
        if not latest:
            raise StructureError("template store, criteria: no document matches; widen the query")


def _index(document: dict[str, Any]) -> int:
    index = document.get("index")
    return index if isinstance(index, int) else 0


class MaterialsProjectTemplates(TemplateSource):
    """Structures of the Materials Project. Install ``cryslator-flows[mp-api]`` and set an API key to use it."""

    source: Literal["materials-project"] = Field(description="The Materials Project")
    search: dict[str, Any] = Field(description="Arguments of mp-api's materials.summary.search")
    api_key: SecretStr | None = Field(None, exclude=True, description="API key; MP_API_KEY if left out")

    def _read(self) -> Iterator[Template | StructureError]:
        key = None if self.api_key is None else self.api_key.get_secret_value()
        for document in search_materials_project(self.search, key):
            yield Template(template_id=str(document.material_id), structure=crystal_alone(document.structure))


def search_materials_project(search: dict[str, Any], api_key: str | None) -> list[Any]:
    """Return summary documents of the Materials Project.

    Parameters
    ----------
    search : dict
        Arguments of ``MPRester.materials.summary.search``.
    api_key : str or None
        API key. None leaves it to mp-api (``MP_API_KEY`` or pymatgen's settings).

    Returns
    -------
    list
        Documents with ``material_id`` and ``structure``.

    Raises
    ------
    StructureError
        mp-api is not installed, or the query fails.
    """
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        raise StructureError("materials-project templates: pip install 'cryslator-flows[mp-api]' first") from error
    try:
        with MPRester(api_key) as rester:
            return rester.materials.summary.search(**search, fields=["material_id", "structure"])
    except Exception as error:
        raise StructureError(f"materials-project templates, search: {type(error).__name__}: {error}") from error


AnyTemplateSource = Annotated[
    AflowTemplates | PrototypeTemplates | FileTemplates | StoreTemplates | MaterialsProjectTemplates,
    Field(discriminator="source"),
]
