"""A config as YAML in which every field is explained, and config models as a page of documentation."""

from __future__ import annotations

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from raysl.config import yaml
from raysl.config.base import Config

_NAMES: dict[Any, str] = {
    int: "integer", float: "number", str: "text", bool: "true or false", dict: "mapping", type(None): "null"
}  # fmt: skip
_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >="}


def commented(config: Config) -> str:
    """Return the config as YAML with each field's documentation as a comment above it."""
    return "\n".join(_lines(config, ""))


def _lines(config: Config, indent: str) -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        value: Any = getattr(config, name)
        text = _told(field)
        yield from textwrap.wrap(text, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if isinstance(value, Config):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            written = yaml.dump({name: config.to_dict()[name]}).rstrip()
            yield textwrap.indent(written, indent)


def reference(sections: Mapping[str, type[Config]]) -> str:
    """Return Markdown that documents models: a heading and a table of fields each.

    Models that are the type of a field follow under the name of their class, each once.

    Args:
        sections: models by heading.
    """
    titles = {model: title for title, model in sections.items()}
    waiting, parts = list(titles), []
    while waiting:
        model = waiting.pop(0)
        for field in model.model_fields.values():
            for inner in _models_in(field.annotation):
                if inner not in titles:
                    titles[inner] = inner.__name__
                    waiting.append(inner)
        parts.append(model)
    return "\n\n".join(_section(model, titles) for model in parts) + "\n"


def _section(model: type[Config], titles: Mapping[type[Config], str]) -> str:
    doc = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    rows = [
        f"| `{name}` | {_cell(_type(field.annotation, field.metadata, titles))} "
        f"| {_cell(_default(field))} | {_cell(_told(field))} |"
        for name, field in model.model_fields.items()
    ]
    table = "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])
    return f"## {titles[model]}\n\n{doc}\n\n{table}"


def _models_in(annotation: object) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _type(annotation: Any, metadata: Any, titles: Mapping[type[Config], str]) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0], parts[1:], titles)
    if origin is typing.Literal:
        text = ", ".join(f"`{_written(value)}`" for value in parts)
    elif origin in (typing.Union, types.UnionType):
        text = " or ".join(_type(part, (), titles) for part in parts)
    elif origin in (tuple, list):
        inner = [_type(part, (), titles) for part in parts if part is not Ellipsis]
        text = (
            f"list of {inner[0]}" if len(inner) < len(parts) or len(parts) == 1 else f"[{', '.join(inner)}]"
        )
    elif isinstance(annotation, type) and issubclass(annotation, Config):
        title = titles[annotation]
        text = f"[{title}](#{_anchor(title)})"
    else:
        text = _NAMES.get(origin or annotation, getattr(annotation, "__name__", str(annotation)))
    bounds = ", ".join(_bounds(metadata))
    return f"{text} ({bounds})" if bounds else text


def _bounds(metadata: Any) -> Iterator[str]:
    for item in metadata:
        for part in (item, *getattr(item, "metadata", ())):
            for name, sign in _BOUNDS.items():
                if (bound := getattr(part, name, None)) is not None:
                    yield f"{sign} {bound:g}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Config):
        chosen = [name for name in type(value).model_fields if name in value.model_fields_set]
        given = {name: value.to_dict()[name] for name in chosen}
        return f"`{json.dumps(given)}`" if given else "its own"
    return f"`{_written(value)}`"


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) and value else json.dumps(value)


def _told(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")
