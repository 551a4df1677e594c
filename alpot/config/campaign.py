"""The whole campaign file: one table per module beside this one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alpot.config.assessment import Assessment
from alpot.config.exploration import Exploration
from alpot.config.material import Material
from alpot.config.potential import Potential
from alpot.config.reference import Reference
from alpot.config.resources import Resources
from alpot.config.stopping import Stopping
from alpot.config.table import Table
from alpot.config.training import Training


class Campaign(Table):
    """The whole campaign file."""

    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="seed of all randomness; the same seed on one worker takes the same decisions"
    )
    material: Material
    exploration: Exploration = Exploration()
    reference: Reference
    potential: Potential = Potential()
    training: Training = Training()
    assessment: Assessment = Assessment()
    stopping: Stopping = Stopping()
    resources: Resources = Resources()
