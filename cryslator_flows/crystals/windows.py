"""Windows of values that filters and cuts keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from cryslator_flows.config import StrictModel

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Window(StrictModel):
    """Lowest and highest value that a filter keeps.

    Examples
    --------
    >>> Window(min=0.8, max=1.0).holds(0.9)
    True
    """

    min: FiniteFloat | None = Field(None, description="Lowest value that is kept; null for no limit")
    max: FiniteFloat | None = Field(None, description="Highest value that is kept; null for no limit")

    @model_validator(mode="after")
    def _is_window(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("it keeps everything; give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}, so that nothing is kept; exchange them")
        return self

    def holds(self, value: float | None) -> bool:
        """Return True if a value is known and in the window."""
        return value is not None and (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def hold(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Mark the values in the window, [n]; never NaN."""
        low, high = -np.inf if self.min is None else self.min, np.inf if self.max is None else self.max
        return (values >= low) & (values <= high)

    def __str__(self) -> str:
        if self.min is None or self.max is None:
            return f"at most {self.max:g}" if self.min is None else f"at least {self.min:g}"
        return f"{self.min:g} to {self.max:g}"
