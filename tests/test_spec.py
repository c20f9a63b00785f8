"""A signature becomes a strict schema."""

import pytest
from pydantic import BaseModel, ValidationError

from posttrain.spec import one_of


def circle(points, *, radius: float = 1.0):
    return [radius * p for p in points]


def square(points, *, side: float):
    return [side for _ in points]


class Shape(BaseModel):
    kind: one_of((circle, square))


def test_the_choice_binds_its_arguments():
    shape = Shape.model_validate({"kind": {"type": "circle", "radius": 3}})
    assert shape.kind.bind()([1, 2]) == [3, 6]


@pytest.mark.parametrize(
    "bad", [{"type": "square"}, {"type": "circle", "side": 1}, {"type": "oval"}, {"type": "circle", "radius": "x"}]
)
def test_wrong_arguments_are_refused(bad):
    with pytest.raises(ValidationError):
        Shape.model_validate({"kind": bad})
