"""What a user may set: one frozen model a stage.

The settings file, ``zemosaic config`` and ``docs/reference/settings.md`` are made from these models: a key's name
carries its unit, its description is the prose people read, its bounds are what is checked. A slip is told when settings
are made, by whoever makes them.
"""

from __future__ import annotations

from zemosaic.settings.describe import Key, list_keys, write_page
from zemosaic.settings.grammar import (
    PRODUCT_NAMES,
    Angle,
    BoxCrop,
    CoverageCrop,
    Crop,
    GroupKey,
    MaskBits,
    Size,
    SkyPosition,
)
from zemosaic.settings.load import GivenSettings, load_settings, make_settings
from zemosaic.settings.models import (
    CalibrateSettings,
    GridSettings,
    InputSettings,
    MatchSettings,
    MeasureSettings,
    OutputSettings,
    QualitySettings,
    RefineSettings,
    Settings,
    SolveSettings,
    StackSettings,
    SurveySettings,
    TileSettings,
    WarpSettings,
)

__all__ = [
    "PRODUCT_NAMES",
    "Angle",
    "BoxCrop",
    "CalibrateSettings",
    "CoverageCrop",
    "Crop",
    "GivenSettings",
    "GridSettings",
    "GroupKey",
    "InputSettings",
    "Key",
    "MaskBits",
    "MatchSettings",
    "MeasureSettings",
    "OutputSettings",
    "QualitySettings",
    "RefineSettings",
    "Settings",
    "Size",
    "SkyPosition",
    "SolveSettings",
    "StackSettings",
    "SurveySettings",
    "TileSettings",
    "WarpSettings",
    "list_keys",
    "load_settings",
    "make_settings",
    "write_page",
]
