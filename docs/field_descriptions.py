"""Extension of griffe: descriptions of pydantic fields as docstrings, so that the Python reference shows the fields."""

from __future__ import annotations

import ast
from typing import Any

import griffe


class FieldDescriptions(griffe.Extension):
    """Take the docstring of an attribute ``name: type = Field(..., description="...")`` from its description."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **_: Any) -> None:
        """Look at the call on the right-hand side."""
        call = getattr(node, "value", None)
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Field"):
            return
        for keyword in call.keywords:
            if keyword.arg == "description" and isinstance(keyword.value, ast.Constant):
                attr.docstring = griffe.Docstring(keyword.value.value, parent=attr)
                # The call says nothing more to a reader, and its defaults stand in the tables of the other pages.
                attr.value = None
