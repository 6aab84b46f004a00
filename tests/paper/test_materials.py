"""The lines above a picture."""

import types

import numpy as np
import pytest

from infusion_jax.paper import materials


def trained(title):
  return types.SimpleNamespace(run=types.SimpleNamespace(title=title))


@pytest.mark.parametrize(
  ("titles", "told"),
  [(["rising"], ["8 epochs"]), (["rising", "flat"], ["rising: 8 epochs", "flat: 4"])],
)
def test_notes_name_their_models_where_there_are_several(titles, told, monkeypatch):
  seen = []
  monkeypatch.setattr(materials, "titled", lambda *arguments: seen.append(arguments))
  target = types.SimpleNamespace(title="Figure A.2", about="chains")
  notes = ["8 epochs", "4"][: len(titles)]
  picture = np.zeros((1, 1, 3), np.uint8)
  drawn = materials.Materials(target, {}, [trained(t) for t in titles], notes)
  drawn.titled(picture)
  assert seen == [(picture, "Figure A.2: chains", told)]
