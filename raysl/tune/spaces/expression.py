"""Constraints and ties: small expressions over config keys, which never run as code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from raysl.config import nearest
from raysl.errors import InputError

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, group: item in group,
    ast.NotIn: lambda item, group: item not in group,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Not: operator.not_}


def _log2(number: float) -> float:
    if number <= 0:
        raise ValueError(f"log2 of {number:g}: expected a number above 0")
    return math.log2(number)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "int": int,
    "log2": _log2,
}


class Expression:
    """A condition such as `method.w_size >= 2 * method.projector.out`, or a value such as `[crop_min, 1.0]`.

    It may use numbers, strings, `true`, `false` and `null`, config keys, `+ - * / // %`, comparisons, `in`,
    `and`, `or`, `not`, lists, `min`, `max`, `abs`, `int` and `log2`; nothing else.

    Args:
        text: the expression.

    Raises:
        ValueError: it is no such expression.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ValueError(f"{text!r} cannot be read as an expression: {error.msg}") from None
        _check(self._tree, text)

    @property
    def names(self) -> set[str]:
        """The keys it names."""
        return set(_names(self._tree))

    def holds(self, known: Mapping[str, Any]) -> bool:
        """Tell whether a condition is true.

        Args:
            known: values by (dotted) key.

        Raises:
            InputError: it names a key there is not, or compares what cannot be compared.
        """
        return bool(self.value(known, "constraint"))

    def value(self, known: Mapping[str, Any], what: str) -> Any:
        """Compute it.

        Args:
            known: values by (dotted) key.
            what: what to call it in a message.

        Raises:
            InputError: it names a key there is not, or computes with what is no number.
        """
        try:
            return _evaluate(self._tree, known)
        except KeyError as error:
            key = str(error.args[0])
            raise InputError(f"{what} {self.text!r}: no key {key!r}; {nearest(key, set(known))}") from None
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InputError(f"{what} {self.text!r}: {error}") from None


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        key = _key(node)
        if key is not None and key not in _WORDS:
            yield key
        return
    for child in ast.iter_child_nodes(node):
        # The name of a function is not that of a key.
        if not (isinstance(node, ast.Call) and child is node.func):
            yield from _names(child)


def _key(node: ast.AST) -> str | None:
    """Return the dotted key that names and attributes spell, or None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = _key(node.value)
        return None if front is None else f"{front}.{node.attr}"
    return None


_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def _check(node: ast.AST, text: str) -> None:
    """Refuse every kind of node that is not listed."""
    match node:
        case ast.Name() | ast.Attribute() if _key(node) is not None:
            return
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return
        case ast.BinOp(op=op) if type(op) in _BINARY:
            parts: list[ast.expr] = [node.left, node.right]
        case ast.UnaryOp(op=sign) if type(sign) in _UNARY:
            parts = [node.operand]
        case ast.Compare(ops=ops) if all(type(op) in _COMPARE for op in ops):
            parts = [node.left, *node.comparators]
        case ast.BoolOp():
            parts = node.values
        case ast.List() | ast.Tuple():
            parts = node.elts
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            parts = node.args
        case _:
            raise ValueError(
                f"{text!r} uses {ast.unparse(node)!r}; allowed are keys, numbers, comparisons, and/or/not"
            )
    for part in parts:
        _check(part, text)


def _evaluate(node: ast.AST, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name() | ast.Attribute():
            key = _key(node)
            return _WORDS[key] if key in _WORDS else known[str(key)]
        case ast.BinOp():
            return _BINARY[type(node.op)](_evaluate(node.left, known), _evaluate(node.right, known))
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_evaluate(node.operand, known))
        case ast.BoolOp():
            # Lazily, so that `method.name == "x" and ...` guards what follows it.
            decisive = isinstance(node.op, ast.Or)
            return any(bool(_evaluate(part, known)) == decisive for part in node.values) == decisive
        case ast.Compare():
            values = [_evaluate(part, known) for part in (node.left, *node.comparators)]
            pairs = zip(node.ops, values[:-1], values[1:], strict=True)
            return all(_COMPARE[type(op)](left, right) for op, left, right in pairs)
        case ast.List() | ast.Tuple():
            return [_evaluate(part, known) for part in node.elts]
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name](*(_evaluate(part, known) for part in node.args))
    raise TypeError(f"{ast.unparse(node)} cannot be evaluated")
