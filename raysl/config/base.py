"""The base of every configuration model."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


class Config(BaseModel):
    """An immutable, documented piece of configuration that refuses keys it does not know.

    Subclasses give each field a type, bounds and a docstring; `raysl config show` prints them.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        """Name the nearest spelling of each unknown key, which pydantic's own refusal does not."""
        if not isinstance(values, dict):
            return values
        known = {field.alias or name for name, field in cls.model_fields.items()}
        errors: list[InitErrorDetails] = [
            {
                "type": PydanticCustomError(
                    "unknown_key", "{expectation}", {"expectation": _hint(key, known)}
                ),
                "loc": (key,),
                "input": value,
            }
            for key, value in values.items()
            if key not in known
        ]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return plain values (str, int, float, bool, None, list, dict), ready for YAML or JSON."""
        return self.model_dump(mode="json", serialize_as_any=True)


_MOST_LISTED = 40


def nearest(word: str, known: list[str] | set[str]) -> str:
    """Return `did you mean 'x'?` for the closest known word, or what there is when none is close."""
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(known) > _MOST_LISTED:
        return f"none of the {len(known)} known ones is close; raysl config show RECIPE --fields lists them"
    return "known: " + ", ".join(sorted(known))


def _hint(key: str, known: set[str]) -> str:
    return f"unknown key; {nearest(str(key), known)}"
