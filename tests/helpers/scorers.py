"""What every fitted scorer must survive."""

import torch

from anomalib_memmc.configurable import build as build_component
from anomalib_memmc.scoring import Scorer


@torch.no_grad()
def survives_state_and_export(build, scorer, normals, images):
    """A scorer fitted to ``normals`` scores ``images`` alike after loading, and as an exported graph."""
    model = build(scorer=scorer)
    model.scorer.fit(model.network, [normals])
    other = build(seed=5, scorer=build_component(model.scorer.config(), Scorer))
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.score(images).pred_score, model.score(images).pred_score)
    program = torch.export.export(model, (normals,)).module()
    torch.testing.assert_close(program(normals).pred_score, model(normals).pred_score, atol=1e-4, rtol=1e-4)
