"""The campaign file (``campaign.toml``) as pydantic models, one model per table and one module per section.

The models are also the settings objects of the rooms: immutable values with units in their descriptions.
Reading the file, and turning validation errors into sentences that help, is in ``config_file.py``.
"""

from alpot.config.assessment import Assessment, PropertyName
from alpot.config.campaign import Campaign
from alpot.config.dft import Dft
from alpot.config.exploration import Exploration
from alpot.config.material import CrystalStarts, FileStarts, Material, PackingStarts, Starts, StartTable, SurfaceStarts
from alpot.config.potential import Descriptor, Potential
from alpot.config.reference import CheapReference, Reference
from alpot.config.resources import Pool, Resources, Starter
from alpot.config.stopping import Stopping
from alpot.config.table import Table
from alpot.config.training import Training

__all__ = [
    "Assessment",
    "Campaign",
    "CheapReference",
    "CrystalStarts",
    "Descriptor",
    "Dft",
    "Exploration",
    "FileStarts",
    "Material",
    "PackingStarts",
    "Pool",
    "Potential",
    "PropertyName",
    "Reference",
    "Resources",
    "StartTable",
    "Starter",
    "Starts",
    "Stopping",
    "SurfaceStarts",
    "Table",
    "Training",
]
