"""The models: what each key means, its default, its bounds."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from zemosaic.settings.grammar import (
    FilePath,
    FilterNames,
    Group,
    GroupKey,
    MaybeCrop,
    MaybePosition,
    MaybeSize,
    NamesOfFilters,
    Products,
    Rotation,
    WhichBits,
)
from zemosaic.settings.slips import find_slip
from zemosaic.text import message

__all__ = [
    "CalibrateSettings",
    "GridSettings",
    "InputSettings",
    "MatchSettings",
    "MeasureSettings",
    "OutputSettings",
    "QualitySettings",
    "RefineSettings",
    "Settings",
    "SolveSettings",
    "StackSettings",
    "SurveySettings",
    "TileSettings",
    "WarpSettings",
]


class _Model(BaseModel):
    """Frozen settings; a slip in them is a `SettingError` that names the key, wherever they are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)

    @model_validator(mode="wrap")
    @classmethod
    def _tell_slips(cls, values: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return make(values)
        except ValidationError as problem:
            stages = {field.annotation: name for name, field in Settings.model_fields.items()}
            raise find_slip(problem, stages.get(cls, ""), cls.model_fields) from problem


_EXPERT: dict[str, JsonValue] = {"expert": True}
"""Marks a key that hardly anyone needs: it counts as none of those that users face."""


Projection = Literal[
    "auto", "TAN", "SIN", "ZEA", "STG", "ARC", "AIR", "AZP", "SZP",
    "CAR", "CEA", "MER", "CYP", "SFL", "PAR", "AIT", "MOL",
    "TSC", "CSC", "QSC", "HPX", "XPH",
]  # fmt: skip
"""By extent, or one that a code alone makes a grid in: those without parameters of their own (FITS WCS paper II)."""


def _stack_methods() -> tuple[str, ...]:
    """The ways to combine samples: the names of the modules in `zemosaic.stages.stack.methods`, none imported."""
    room = Path(__file__).parents[1] / "stages" / "stack" / "methods"
    return tuple(sorted(found.name for found in pkgutil.iter_modules([str(room)])))


if TYPE_CHECKING:
    StackMethod = str
else:
    StackMethod = Literal[_stack_methods()]


class InputSettings(_Model):
    """Which files are frames, and what they hold."""

    include: str = Field("", description="Only file names that match this glob pattern; empty takes all.")
    exclude: str = Field("", description="Leave out file names that match this glob pattern.")
    frames: FilePath = Field(
        "", description="Table of frames of an earlier run, edited: those whose use is false are left out."
    )
    bayer: Literal["auto", "none", "RGGB", "BGGR", "GRBG", "GBRG"] = Field(
        "auto", description="Colour pattern of raw frames; auto believes BAYERPAT or COLORTYP."
    )
    filters: NamesOfFilters = Field(
        FilterNames(),
        description="Names for filters that headers spell differently, 'SPELLING=NAME, ...': 'Red=R' puts both in one "
        "mosaic.",
        json_schema_extra=_EXPERT,
    )
    defect_sigma: float = Field(
        6.0, ge=0, description="Raw frames: hot and cold pixels stand out by this many sigma; 0 looks for none."
    )
    mask_bits: WhichBits = Field(
        "auto",
        description="Masks and DQ planes: the sum of the bits that mean 'do not use', as 1+4; any: every value but 0; "
        "auto knows JWST, Roman, HST, LSST and DECam, and takes any value of others.",
        json_schema_extra=_EXPERT,
    )
    pixel_values: Literal["counts", "surface"] = Field(
        "counts",
        description="How a pixel's value follows its area on the sky inside a frame: counts (area varies) or "
        "surface brightness (flat-fielded data, one area a frame).",
    )


class CalibrateSettings(_Model):
    """Darks, biases and flats of raw frames."""

    darks: FilePath = Field(
        "",
        description="Folder or file of darks, raw or masters (flat-darks too); empty takes those among the inputs, "
        "none uses none.",
    )
    flats: FilePath = Field("", description="Folder or file of flats, raw or masters; empty and none as for darks.")
    biases: FilePath = Field("", description="Folder or file of biases, raw or masters; empty and none as for darks.")
    bad_pixels: FilePath = Field("", description="FITS image of the sensor that is not 0 at bad pixels.")


class GridSettings(_Model):
    """The output grid."""

    projection: Projection = Field(
        "auto",
        description="Projection code of the FITS standard; auto takes TAN, and ZEA, whose pixels have one area, "
        "for frames that reach over more than 10 degrees.",
    )
    scale_arcsec: float = Field(0.0, ge=0, description="Pixel scale; 0 takes the median of the frames.")
    center: MaybePosition = Field(None, description="RA and Dec of the centre in degrees, 'RA,DEC'; empty finds it.")
    size_px: MaybeSize = Field(None, description="'WIDTH,HEIGHT' in pixels; empty takes what the frames cover.")
    rotation: Rotation = Field(
        0.0, description="'north' (up), 'min-area' (smallest box), or an angle in degrees east of north."
    )
    header: FilePath = Field("", description="A FITS or text header file that fixes the whole grid.")
    crop: MaybeCrop = Field(
        None,
        description="none; 'coverage:F' keeps the box where at least the fraction F of the greatest coverage "
        "is reached; 'X0,Y0,X1,Y1' a box of output pixels.",
    )
    max_mpix: float = Field(2000.0, gt=0, description="Above this many output megapixels --yes is needed.")


class WarpSettings(_Model):
    """Resampling onto the output grid."""

    kernel: Literal["nearest", "bilinear", "lanczos2", "lanczos3", "lanczos4", "area", "drizzle"] = Field(
        "lanczos3", description="Resampling kernel."
    )
    clamp: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Against what rings remain of Lanczos: how strongly a value is pulled into the range of the four "
        "nearest pixels; 0 never, 1 fully.",
    )
    pixfrac: float = Field(0.8, gt=0, le=1, description="Drizzle: side of a drop over the side of a pixel.")
    taper_px: float = Field(
        16.0, ge=0, description="Width at a frame's edge over which its weight rises from 0 to full."
    )
    coordinate_error_px: float = Field(
        0.01, gt=0, le=0.5, description="Largest error allowed to interpolated coordinates."
    )


class MeasureSettings(_Model):
    """What is measured on each frame."""

    block_px: int = Field(32, ge=8, le=256, description="Side of a block whose star-free mean is taken.")
    detect_sigma: float = Field(5.0, gt=1, description="Detection threshold for stars, in sky sigma.")


class QualitySettings(_Model):
    """Which frames are too poor to use, by the stars measured on them."""

    triage: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Leave out clouded, trailed, defocused, dawn and wrong-field frames, by comparison with their "
        "neighbours in time; auto does so for raw frames. All frames, also calibrated and few ones, are left out that "
        "moved during the exposure or do not show the stars that others show there. auto leaves it to a table of "
        "frames (input.frames) where there is one.",
    )
    fwhm_max_px: float = Field(0.0, ge=0, description="Leave out frames of a larger FWHM, in their pixels; 0: none.")
    ellipticity_max: float = Field(
        1.0, gt=0, le=1, description="Leave out frames of a larger ellipticity (1 - minor / major axis); 1: none."
    )
    best_fraction: float = Field(1.0, gt=0, le=1, description="Keep this share of the frames, the best ones.")


class SolveSettings(_Model):
    """Plate solving."""

    method: Literal["auto", "header", "register"] = Field(
        "auto",
        description="auto: header WCSs are checked against the stars, missing and wrong ones solved; header: the "
        "header's WCS is taken as it is; register: frames are registered to each other by their stars, on a plane of "
        "their own.",
    )
    radius_deg: float = Field(1.0, gt=0, le=10, description="How far the true centre may be from the header's.")
    scale_tolerance: float = Field(
        0.1, gt=0, lt=0.5, description="Largest relative error of the pixel scale from focal length and pixel size."
    )
    max_log_chance: float = Field(
        -8.0,
        le=-4,
        description="Accept a solution when log10 of its chance probability is below this.",
        json_schema_extra=_EXPERT,
    )
    min_matches: int = Field(6, ge=4, description="Fewest matched stars of a solution.", json_schema_extra=_EXPERT)


class RefineSettings(_Model):
    """Joint astrometric refinement."""

    distortion_order: int = Field(3, ge=0, le=5, description="Degree of a camera's distortion; 0 or 1 for none.")
    max_stars: int = Field(
        120, ge=10, description="Brightest stars of a frame that are used.", json_schema_extra=_EXPERT
    )


class MatchSettings(_Model):
    """Gains and background surfaces that make all frames agree."""

    method: Literal["one-sky", "none"] = Field(
        "one-sky",
        description="one-sky: gains and backgrounds of all frames solved together; none: gains from headers, and "
        "the WCS of each header taken as it is.",
    )
    surface_order: int = Field(
        2,
        ge=0,
        le=2,
        description="Highest order of a frame's background surface; with 2, nights that need it (moonlight) have 3.",
    )
    node_px: int = Field(
        32, ge=16, le=512, description="Spacing of the sky nodes, in output pixels (widened where memory asks)."
    )
    response_order: int = Field(
        2, ge=0, le=4, description="Order of a camera's response over its field; 0 takes it as flat."
    )
    solve_gain: bool = Field(True, description="Whether gains are solved for; otherwise header priors are used.")
    reference: FilePath = Field(
        "", description="FITS image of the same sky, of any resolution, that fixes the slow background."
    )
    reference_arcsec: float = Field(
        0.0, ge=0, description="FWHM of the reference's smallest trusted detail; 0 takes three of its pixels."
    )


class StackSettings(_Model):
    """Combining the frames that reach a pixel."""

    method: StackMethod = Field(
        "kappa_sigma", description="mean and median reject nothing; the others clip outliers first."
    )
    kappa_low: float = Field(3.0, gt=0, description="Clip below centre minus this many sigma.")
    kappa_high: float = Field(3.0, gt=0, description="Clip above centre plus this many sigma.")
    max_iterations: int = Field(5, ge=1, le=50, description="Rounds of clipping at most.")
    structure_guard: float = Field(
        1.2,
        ge=0,
        description="How much of the image's own steepness (largest change within half a FWHM) is added to the "
        "clipping threshold, so that star cores survive changing seeing.",
    )
    region_sigma: float = Field(
        0.0,
        ge=0,
        description="For deep stacks: reject regions of a frame, such as trails too faint for single pixels, whose "
        "mean over 9 x 9 pixels deviates by this many sigma; 5 is safe, 0 looks for none.",
    )
    grow_px: int = Field(3, ge=0, le=16, description="How far a clipped region may grow into its weaker rim.")
    minmax_low: int = Field(1, ge=0, description="minmax: how many lowest values to drop.")
    minmax_high: int = Field(1, ge=0, description="minmax: how many highest values to drop.")
    esd_fraction: float = Field(0.3, gt=0, lt=0.5, description="esd: largest share of values that may be outliers.")
    esd_significance: float = Field(
        0.05, gt=0, lt=1, description="esd: significance of the test.", json_schema_extra=_EXPERT
    )


class TileSettings(_Model):
    """Master tiles: stacks of frames that point alike."""

    group: Group = Field(
        GroupKey(0.25),
        description="Frames within this share of a field (its shorter side) of one pointing make a tile; after commas "
        "what else splits groups: night, filter, mount, angle.",
    )
    cleanup: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Alt-az clean-up: a tile's thin rim gets little weight; auto does so where the mount is "
        "alt-az (EQMODE) or the frames of a tile turn by more than 2 degrees.",
    )
    trim_px: int = Field(
        0, ge=0, description="Cut this many pixels off each side of a tile.", json_schema_extra=_EXPERT
    )
    crop_coverage: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Cut a tile to the box that this share of its greatest coverage reaches; 0: never.",
        json_schema_extra=_EXPERT,
    )
    altaz_min_coverage_abs: float = Field(
        3.0, ge=0, description="Clean-up: fewer frames than this are too few.", json_schema_extra=_EXPERT
    )
    altaz_min_coverage_frac: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Clean-up: less than this share of the greatest coverage is too few.",
        json_schema_extra=_EXPERT,
    )
    altaz_morph_open_px: int = Field(
        3, ge=0, description="Clean-up: good regions narrower than this are dropped.", json_schema_extra=_EXPERT
    )
    altaz_alpha_soft_threshold: float = Field(
        1e-3,
        ge=0,
        lt=1,
        description="Clean-up: alpha is lowered by this much and stretched back to 1.",
        json_schema_extra=_EXPERT,
    )
    altaz_nanize_threshold: float = Field(
        1e-3,
        ge=0,
        lt=1,
        description="Clean-up: pixels of alpha up to this get no weight; not below altaz_alpha_soft_threshold. The "
        "thin rim has alpha 0.01: 0.01 takes it away.",
        json_schema_extra=_EXPERT,
    )
    blend: Literal["mean", "pyramid"] = Field(
        "mean",
        description="How tiles are combined where they overlap: mean, weighted, or as stack.method says for tiles that "
        "were given; pyramid, octave by octave, with no rejection between tiles.",
    )
    two_pass: bool = Field(
        False,
        description="Correct the tiles' gains once more by what overlapping tiles show, and stack them again.",
        json_schema_extra=_EXPERT,
    )
    two_pass_debug_delta_map: bool = Field(
        False,
        description="With two_pass: write twopass_delta_map.npy, the mean difference between tiles and first mosaic.",
        json_schema_extra=_EXPERT,
    )

    @field_validator("two_pass")
    @classmethod
    def _one_way_to_combine(cls, two_pass: bool, others: ValidationInfo) -> bool:
        if two_pass and others.data.get("blend") == "pyramid":
            raise ValueError(message("setting.two-pass-blends"))
        return two_pass

    @field_validator("altaz_nanize_threshold")
    @classmethod
    def _thresholds_agree(cls, nanize: float, others: ValidationInfo) -> float:
        soft = others.data.get("altaz_alpha_soft_threshold", 0.0)
        if nanize < soft:
            raise ValueError(message("setting.thresholds-cross", soft=soft))
        return nanize


class SurveySettings(_Model):
    """Mode grid: the mosaic is cut into tiles, which are stacked, matched and blended."""

    tile_fields: float = Field(1.0, ge=0.1, le=20, description="Side of a tile, in sides of a frame's field.")
    overlap: float = Field(0.1, ge=0.02, le=0.5, description="Share of a tile's side in common with the next.")
    equalize_rgb: Literal["off", "offset", "gain"] = Field(
        "off",
        description="Bring the three colours of each tile to one sky level: offset keeps the colours of stars, gain "
        "changes them; off for science.",
    )
    blend: Literal["pyramid", "feather"] = Field(
        "pyramid", description="How overlaps are blended: octave by octave, or linearly."
    )


class OutputSettings(_Model):
    """What is written."""

    planes: Literal["all", "weight", "data"] = Field(
        "all",
        description="all: data, weight, variance, coverage, rejected, exposure, saturated, alpha; weight: data and "
        "weight.",
    )
    preview: bool = Field(True, description="Write preview.png and preview.jpg.")
    preview_max_px: int = Field(2400, ge=100, description="Longest side of the preview.", json_schema_extra=_EXPERT)
    also: Products = Field(
        ("report", "edit", "viewer"),
        description="What else is made of the mosaic, 'NAME,NAME' or a list. report: a page that tells what the mosaic "
        "is worth; edit: a file that editors of pictures open; tiff: 16 bits on one linear scale; aesthetic: "
        "a picture to look at, its gradient taken off; regions: outlines of frames, and the sky that is covered; "
        "viewer: a page to look around in; hips: tiles for sky atlases; "
        "hips-png: its pictures clear where nothing is, slow. `zemosaic export` makes the same later.",
    )


class Settings(_Model):
    """All settings of a run."""

    input: InputSettings = InputSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    grid: GridSettings = GridSettings()
    measure: MeasureSettings = MeasureSettings()
    quality: QualitySettings = QualitySettings()
    solve: SolveSettings = SolveSettings()
    refine: RefineSettings = RefineSettings()
    match: MatchSettings = MatchSettings()
    warp: WarpSettings = WarpSettings()
    stack: StackSettings = StackSettings()
    tiles: TileSettings = TileSettings()
    survey: SurveySettings = SurveySettings()
    output: OutputSettings = OutputSettings()
