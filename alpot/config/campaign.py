"""The whole campaign file: one table per module beside this one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

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

    @model_validator(mode="after")
    def _properties_to_stop_for(self) -> Campaign:
        if self.stopping.good_generations is not None and not self.assessment.is_judged:
            raise ValueError(
                "stopping.good_generations needs assessment.each_generation, the properties that are looked at, and"
                " assessment.compare_reference = true, what they are compared with"
            )
        return self
