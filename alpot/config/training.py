"""``[training]``: how the ensemble is fitted, and how often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from alpot.config.table import Positive, Table


class Training(Table):
    """How the ensemble is fitted."""

    initial_labels: int = Field(100, ge=2, description="labels of random starts before the first training")
    labels_per_generation: int = Field(100, ge=1, description="new labels that start the next training")
    blocks: int = Field(
        16, ge=3, description="blocks of the cross-validation; the paper used 16: 13 to train, 2 to validate, 1 to test"
    )
    validation_blocks: int = Field(2, ge=1, description="blocks that decide when a member stops learning")
    test_blocks: int = Field(1, ge=0, description="blocks of each member's own test set")
    batch_frames: int = Field(4, ge=1, description="frames in one step of the optimizer")
    max_epochs: int = Field(300, ge=1, description="passes through the data at most")
    learning_rate: Positive = Field(3e-3, description="(peak) learning rate of Adam; the paper's is 1e-3")
    schedule: Literal["plateau", "one-cycle"] = Field(
        "one-cycle",
        description="one-cycle: rise and fall once within max_epochs, and keep the last weights; plateau: halve the"
        " rate of a member that stopped improving, as in the paper, and keep its best weights, which takes about ten"
        " times the epochs",
    )
    patience: int = Field(
        50, ge=1, description="plateau: epochs without gain before the rate is halved; the paper waited 100"
    )
    min_learning_rate: Positive = Field(
        1e-5, description="plateau: a member whose rate falls below this has finished; the paper's is 1e-5"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="share of itself that a weight loses per step and unit of learning rate; 0.1 makes fits of few"
        " labels smoother, the paper used none",
    )
    energy_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the squared energy error per atom, in 1/(0.05 eV/atom)²"
    )
    energy_weight_growth: Annotated[float, Field(ge=1)] = Field(
        10.0,
        description="one-cycle: by this factor energy_weight has grown at the end; forces shape the potential first,"
        " energies settle while the learning rate falls",
    )
    force_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the squared force error, in 1/(0.1 eV/Å)²"
    )
    stress_weight: Annotated[float, Field(ge=0)] = Field(
        0.1, description="weight of the squared error of stress × volume per atom (the virial), in 1/(0.1 eV/atom)²"
    )
    warm_start: bool | Literal["auto"] = Field(
        "auto",
        description="continue from the promoted generation's weights, at a third of the learning rate, instead of"
        " random ones; auto: unless the last generation was not promoted",
    )

    @model_validator(mode="after")
    def _some_blocks_left_to_train(self) -> Training:
        if self.validation_blocks + self.test_blocks >= self.blocks:
            raise ValueError(
                f"validation_blocks + test_blocks = {self.validation_blocks + self.test_blocks} leave none of the"
                f" {self.blocks} blocks to train on"
            )
        return self
