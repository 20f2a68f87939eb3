"""The subset of CloudWatch's metric math that scaling policies use."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

NAN = math.nan


class _Empty(float):
    """No datapoint now, and none in the whole evaluation range."""


EMPTY = _Empty(NAN)
"""A value that `FILL` does not replace, where an empty series is taken to stay empty."""

_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b if b else NAN,  # CloudWatch returns no datapoint
    ast.Pow: operator.pow,
    ast.Gt: lambda a, b: _compared(operator.gt, a, b),
    ast.GtE: lambda a, b: _compared(operator.ge, a, b),
    ast.Lt: lambda a, b: _compared(operator.lt, a, b),
    ast.LtE: lambda a, b: _compared(operator.le, a, b),
    ast.Eq: lambda a, b: _compared(operator.eq, a, b),
    ast.NotEq: lambda a, b: _compared(operator.ne, a, b),
}


def _compared(compare: Callable[[float, float], bool], one: float, other: float) -> float:
    """Compare two values; NaN where either has no datapoint."""
    return NAN if math.isnan(one) or math.isnan(other) else float(compare(one, other))


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "FILL": lambda value, other: other if math.isnan(value) and not isinstance(value, _Empty) else value,
    "IF": lambda condition, yes, no=NAN: NAN if math.isnan(condition) else yes if condition else no,
    "MAX": lambda *values: max(_flat(values)),
    "MIN": lambda *values: min(_flat(values)),
    "SUM": lambda *values: sum(_flat(values)),
    "CEIL": lambda value: NAN if math.isnan(value) else float(math.ceil(value)),
    "FLOOR": lambda value: NAN if math.isnan(value) else float(math.floor(value)),
}


class UnknownMath(ValueError):
    """The expression uses an unsupported function. The message names it."""


def evaluate(expression: str, values: Mapping[str, float]) -> float:
    """Return the value of an expression at one moment; NaN means no datapoint.

    Raises
    ------
    UnknownMath
        It uses an unsupported function or an unknown name.
    """
    return _evaluated(expression, tuple(values.items()))


@lru_cache(maxsize=10_000)
def _evaluated(expression: str, values: tuple[tuple[str, float], ...]) -> float:
    return _value(_parsed(expression), dict(values))


@cache
def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression.strip(), mode="eval").body


def _value(node: ast.AST, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, values), _value(right, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, values)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*_arguments(arguments, values))
    raise UnknownMath(f"{ast.unparse(node)} is not known; known are {', '.join([*_FUNCTIONS, *values])}")


def _arguments(nodes: list[ast.expr], values: Mapping[str, float]) -> list[float]:
    """Evaluate the arguments; a list, as in MAX([a, b]), is flattened."""
    return [_value(one, values) for node in nodes for one in (node.elts if isinstance(node, ast.List) else [node])]


def _flat(values: tuple[float, ...]) -> list[float]:
    return [value for value in values if not math.isnan(value)] or [NAN]
