"""Darks, biases and flats: found, stacked to masters, chosen for each frame, applied to every window that is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zemosaic.engine.events import LeftOut
from zemosaic.engine.store import remember
from zemosaic.errors import FrameRejected, SettingError
from zemosaic.io.read.scan import scan
from zemosaic.model.box import Box
from zemosaic.model.frame import Frame, FrameId, FrameKind
from zemosaic.model.source import ImageSource
from zemosaic.pipelines.run.context import Run
from zemosaic.pipelines.run.keys import make_key
from zemosaic.settings import CalibrateSettings, InputSettings
from zemosaic.stages.raw.calibrate import (
    EXPOSURE_TOLERANCE,
    calibrate_window,
    choose_master,
    combine_flats,
    combine_frames,
    find_bad_pixels,
    flat_levels,
    group_for_masters,
    noise_variance,
    scale_dark,
)

__all__ = ["CalibratedSource", "Correction", "calibrate_frames"]

F4 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CUBE_BYTES_PER_VALUE = 24
"""Stacking to a master: a value, its distance from the median, both sorted, and masks."""

BAND_ROWS = 256
"""Rows of a master that are made at a time, at most: there are bands enough for all workers."""

SAMPLE_ROWS = 64
"""Rows of a frame's middle that tell the noise of its sky."""

_OPTIONS: dict[FrameKind, str] = {"dark": "darks", "bias": "biases", "flat": "flats"}


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What is done to the pixels of a frame; each array of the frame's shape, or None.

    Attributes
    ----------
    dark, flat : ndarray, float32, or None
        Subtracted; divided by.
    bad : ndarray, bool, or None
        Pixels that get weight 0.
    read_variance : float
        Variance of read and dark noise; 0 where unknown.
    """

    dark: F4 | None = None
    flat: F4 | None = None
    bad: Mask | None = None
    read_variance: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Master:
    key: str
    data: F4
    holes: Mask
    variance: float


class CalibratedSource:
    """An `ImageSource` that gives ``(raw - dark) / flat`` with the weight that follows.

    Parameters
    ----------
    source : ImageSource
        The pixels as stored.
    corrections : mapping
        `Frame.calibration` -> `Correction`; frames without one pass as they are.
    """

    def __init__(self, source: ImageSource, corrections: Mapping[str, Correction]) -> None:
        self._source = source
        self._corrections = corrections
        self._shares: dict[FrameId, float] = {}

    def read_window(self, frame: Frame, box: Box) -> tuple[F4, F4]:
        """See `ImageSource.read_window`."""
        data, weight = self._source.read_window(frame, box)
        window = box, data, weight
        correction = self._corrections.get(frame.decided.calibration)
        if correction is None:
            return data, weight
        part = box.slices
        clean, clean_weight = calibrate_window(
            data[0],
            weight[0],
            dark=None if correction.dark is None else correction.dark[part],
            flat=None if correction.flat is None else correction.flat[part],
            bad=None if correction.bad is None else correction.bad[part],
            read_share=0.0 if correction.flat is None else self._read_share(frame, correction.read_variance, window),
            saturation_adu=np.inf if frame.decided.saturation_adu is None else frame.decided.saturation_adu,
        )
        return clean[None], clean_weight[None]

    def _read_share(self, frame: Frame, read_variance: float, window: tuple[Box, F4, F4]) -> float:
        """Share of read and dark noise in the noise of the frame's sky, from the rows in its middle.

        They are read where the window at hand does not hold them.
        """
        if read_variance == 0:
            return 0.0
        share = self._shares.get(frame.id)
        if share is None:
            middle = Box.of_shape(frame.shape)
            y0 = max((middle.height - SAMPLE_ROWS) // 2, 0)
            rows = Box(y0, min(y0 + SAMPLE_ROWS, middle.y1), 0, middle.x1)
            box, data, weight = window
            if box.contains(rows):
                at = rows.relative_to(box).slices
                data, weight = data[:, *at], weight[:, *at]
            else:
                data, weight = self._source.read_window(frame, rows)
            both = (weight[0, :, 2:] > 0) & (weight[0, :, :-2] > 0)
            difference = (data[0, :, 2:] - data[0, :, :-2])[both]
            sky = noise_variance(difference) if difference.size else 0.0
            # Two threads may both come here; they find the same.
            share = self._shares[frame.id] = min(read_variance / sky, 1.0) if sky > 0 else 1.0
        return share


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """Frames after calibration.

    Attributes
    ----------
    frames : list of Frame
        Those that are calibrated have `Frame.calibration` set.
    source : ImageSource
        Where to read them.
    left_out : tuple of LeftOut
        Calibration frames that cannot be read.
    """

    frames: list[Frame]
    source: ImageSource
    left_out: tuple[LeftOut, ...] = ()


def calibrate_frames(
    frames: Sequence[Frame], beside: Sequence[Frame], source: ImageSource, settings: CalibrateSettings, run: Run
) -> Calibrated:
    """Make the masters that frames need, and a source that applies them.

    Parameters
    ----------
    frames : sequence of Frame
        Of the sky.
    beside : sequence of Frame
        Calibration frames that were found among the inputs.
    source : ImageSource
        The pixels as stored.
    settings : CalibrateSettings
    run : Run
        Its store keeps the masters.

    Raises
    ------
    SettingError
        When a place that was given holds no calibration frame of its kind, or none that fits a frame.
    """
    bench = _Bench({kind: _collect(kind, beside, settings, run) for kind in _OPTIONS}, settings, source, run)
    if not any(bench.groups.values()) and not settings.bad_pixels:
        return Calibrated(list(frames), source)
    run.log.start("calibrate")
    done = [bench.calibrated(frame) for frame in frames]
    bench.check_sizes(frames)
    for note, n_frames in sorted(bench.notes.items()):
        run.log.notice(f"{note} ({n_frames} frames)", "warning")
    made = ", ".join(f"{n} of {_OPTIONS[kind]}" for kind, n in Counter(kind for kind, _, _ in bench.masters).items())
    n_done = sum(frame.decided.calibration != "" for frame in done)
    run.log.end("calibrate", f"{n_done} frames of {len(frames)}; masters: {made or 'none'}")
    return Calibrated(done, CalibratedSource(source, bench.corrections), tuple(bench.left_out))


def _collect(kind: FrameKind, beside: Sequence[Frame], settings: CalibrateSettings, run: Run) -> list[Frame]:
    """The calibration frames of a kind: from where the settings say, else those among the inputs."""
    given = str(getattr(settings, _OPTIONS[kind]))
    if not given:
        return [frame for frame in beside if frame.decided.kind == kind]
    if given == "none":
        return []
    if not Path(given).exists():
        raise SettingError(f"calibrate.{_OPTIONS[kind]}: {given} does not exist")
    found = scan([Path(given)], InputSettings(), check=run.cancel.check, kind=kind)
    frames = [frame for frame in found.calibration if frame.decided.kind == kind]
    for rejected in found.rejected:
        run.log.notice(f"{rejected.path}: {rejected.reason}", "warning")
    if not frames:
        others = Counter(frame.decided.kind for frame in found.calibration)
        holds = ", ".join(f"{n} {name} frames" for name, n in others.items()) or "no image"
        raise SettingError(f"calibrate.{_OPTIONS[kind]}: no {kind} in {given}, it holds {holds}")
    return frames


class _Bench:
    """Calibration frames by kind in groups, the masters made of them so far, and the corrections that use them."""

    def __init__(
        self,
        found: Mapping[FrameKind, Sequence[Frame]],
        settings: CalibrateSettings,
        source: ImageSource,
        run: Run,
    ) -> None:
        self.groups = {kind: group_for_masters(frames) for kind, frames in found.items()}
        self.masters: dict[tuple[FrameKind, int, bool], _Master] = {}
        self.corrections: dict[str, Correction] = {}
        self.notes: Counter[str] = Counter()
        self.left_out: list[LeftOut] = []
        self._settings = settings
        self._source = source
        self._run = run
        self._user_map = _read_bad_pixels(settings.bad_pixels, source) if settings.bad_pixels else None

    def calibrated(self, frame: Frame) -> Frame:
        """The frame with the name of its correction, which is made where it is new."""
        if frame.storage.layout not in {"mono", "bayer"}:
            self.notes["colour pictures of three planes are not calibrated: they have been debayered"] += 1
            return frame
        dark, bias, flat = self._choose("dark", frame), self._choose("bias", frame), self._choose("flat", frame)
        ratio = 1.0
        if dark is not None and bias is not None:
            ratio = _exposure_ratio(frame, self.groups["dark"][dark][0])
        pedestal = dark if dark is not None else bias
        if flat is not None and pedestal is None:
            self.notes["a flat but neither dark nor bias: the camera's pedestal is divided by the flat, too"] += 1
        user_map = self._user_map if self._user_map is not None and self._user_map.shape == frame.shape else None
        if pedestal is None and flat is None and user_map is None:
            return frame
        used: dict[FrameKind, int | None] = {"dark": dark, "bias": bias, "flat": flat}
        if dark is not None and ratio == 1:
            used["bias"] = None
        is_bayer = frame.storage.bayer is not None
        masters = {kind: self._master(kind, k, is_bayer) for kind, k in used.items() if k is not None}
        name = make_key("calibration", {kind: m.key for kind, m in masters.items()}, ratio, self._settings.bad_pixels)
        if name not in self.corrections:
            self.corrections[name] = _correction(masters, ratio, user_map)
        return replace(frame, decided=replace(frame.decided, calibration=name, is_flattened=flat is not None))

    def check_sizes(self, frames: Sequence[Frame]) -> None:
        """Say which calibration frames fit no frame; where the user gave them, that is an error."""
        shapes = {frame.shape for frame in frames}
        for kind, groups in self.groups.items():
            if not groups or any(group[0].shape in shapes for group in groups):
                continue
            theirs, ours = (_sizes(found) for found in ({g[0].shape for g in groups}, shapes))
            given = getattr(self._settings, _OPTIONS[kind])
            what = f"no {kind} fits: those in {given or 'the inputs'} have {theirs} pixels, the frames {ours}"
            if given:
                raise SettingError(f"{what}; give others, or calibrate.{_OPTIONS[kind]}=none")
            self._run.log.notice(what, "warning")

    def _choose(self, kind: FrameKind, frame: Frame) -> int | None:
        # What was calibrated before must not be so again.
        if self.groups[kind] and not getattr(self._settings, _OPTIONS[kind]) and not frame.is_counted:
            name = _OPTIONS[kind]
            self.notes[
                f"{name} found among the inputs are not used on stacks or fractional values; --{name} would"
            ] += 1
            return None
        choice = choose_master(frame, [group[0] for group in self.groups[kind]])
        self.notes.update(choice.notes)
        return choice.index

    def _master(self, kind: FrameKind, k: int, is_bayer: bool = False) -> _Master:
        """The master of a group. The colours of a flat count where the frame has them: a flat's header may not say."""
        name = kind, k, is_bayer and kind == "flat"
        if name not in self.masters:
            self.masters[name] = self._make_flat(k, is_bayer) if kind == "flat" else self._make_dark(kind, k)
        return self.masters[name]

    def _make_dark(self, kind: FrameKind, k: int) -> _Master:
        group = self._readable(self.groups[kind][k])
        key = make_key("master", kind, [frame.id for frame in group])
        return self._stored(key, group, lambda: self._stack(group, lambda cube, _: combine_frames(cube)))

    def _make_flat(self, k: int, is_bayer: bool) -> _Master:
        group = self._readable(self.groups["flat"][k])
        pedestal = None if group[0].decided.is_master else self._flat_pedestal(group)
        key = make_key("master", "flat", [f.id for f in group], pedestal.key if pedestal else "", is_bayer)
        dark = None if pedestal is None else pedestal.data

        def make() -> tuple[F4, Mask]:
            levels = np.stack([flat_levels(self._whole(frame), dark, is_bayer) for frame in group])
            return self._stack(
                group,
                lambda cube, box: combine_flats(
                    cube, levels, None if dark is None else dark[box.slices], (box.y0, box.x0)
                ),
            )

        try:
            return self._stored(key, group, make)
        except ValueError as problem:
            raise SettingError(f"the flats with {group[0].name} cannot be used: {problem}") from problem

    def _flat_pedestal(self, flats: Sequence[Frame]) -> _Master | None:
        """What raw flats hold without light: a dark of their exposure time, else the bias."""
        heads = [group[0] for group in self.groups["dark"]]
        dark = choose_master(flats[0], heads).index
        if dark is not None and all(_exposure_ratio(flat, heads[dark]) == 1 for flat in flats):
            return self._master("dark", dark)
        bias = choose_master(flats[0], [group[0] for group in self.groups["bias"]]).index
        if bias is not None:
            return self._master("bias", bias)
        self.notes["raw flats without a bias or a dark of their exposure: vignetting is corrected too little"] += len(
            flats
        )
        return None

    def _readable(self, group: Sequence[Frame]) -> list[Frame]:
        """The frames of a group that can be decoded; the others are announced."""
        good = []
        for frame in group:
            try:
                self._source.read_window(frame, Box(0, 1, 0, frame.shape[1]))
                good.append(frame)
            except FrameRejected as problem:
                self.left_out.append(self._run.log.leave_out(frame, problem))
        if not good:
            raise SettingError(f"none of {len(group)} {group[0].decided.kind} frames can be read: {group[0].name} ...")
        return good

    def _stored(self, key: str, group: Sequence[Frame], make: Callable[[], tuple[F4, Mask]]) -> _Master:
        def make_all() -> _Master:
            data, holes = make()
            variance = 0.0
            if len(group) > 1 and group[0].decided.kind != "flat":
                variance = noise_variance(self._whole(group[0]) - self._whole(group[1]))
            return _Master(key, data, holes, variance)

        return remember(self._run.store, key, make_all, _Master)

    def _whole(self, frame: Frame) -> F4:
        data, _ = self._source.read_window(frame, Box.of_shape(frame.shape))
        return data[0]

    def _stack(self, group: Sequence[Frame], combine: Callable[[F4, Box], F4]) -> tuple[F4, Mask]:
        """Combine whole frames, a band of rows at a time."""
        height, width = group[0].shape
        row_bytes = CUBE_BYTES_PER_VALUE * len(group) * width
        n_rows = int(np.clip(self._run.machine.cache_bytes // row_bytes, 1, min(BAND_ROWS, height)))
        bands = [Box(y, min(y + n_rows, height), 0, width) for y in range(0, height, n_rows)]
        data, holes = np.empty((height, width), np.float32), np.empty((height, width), bool)

        def task(box: Box) -> None:
            self._run.cancel.check()
            cube, hole = np.empty((len(group), *box.shape), np.float32), np.zeros(box.shape, bool)
            for k, frame in enumerate(group):
                values, weight = self._source.read_window(frame, box)
                cube[k] = values[0]
                hole |= weight[0] == 0
            data[box.slices], holes[box.slices] = combine(cube, box), hole

        for _ in self._run.machine.executor_for(row_bytes * n_rows).run(task, bands):
            pass
        return data, holes


def _correction(masters: Mapping[FrameKind, _Master], ratio: float, user_map: Mask | None) -> Correction:
    dark, bias, flat = (masters.get(kind) for kind in ("dark", "bias", "flat"))
    pedestal = dark or bias
    level = None if pedestal is None else pedestal.data
    if dark is not None and bias is not None:
        level = scale_dark(dark.data, bias.data, ratio, 1.0)
    bad = None
    if dark is not None or flat is not None:
        bad = find_bad_pixels(None if dark is None else dark.data, None if flat is None else flat.data)
    for mask in (*(master.holes for master in masters.values()), user_map):
        if mask is not None:
            bad = mask.copy() if bad is None else bad | mask
    variance = next((m.variance for m in (dark, bias) if m is not None and m.variance > 0), 0.0)
    return Correction(level, None if flat is None else flat.data, bad, variance)


def _exposure_ratio(frame: Frame, dark: Frame) -> float:
    """How much longer the frame was exposed than the dark; 1 where that is within tolerance or not known."""
    if not frame.decided.exposure_s or not dark.decided.exposure_s:
        return 1.0
    ratio = frame.decided.exposure_s / dark.decided.exposure_s
    return 1.0 if abs(ratio - 1) <= EXPOSURE_TOLERANCE else ratio


def _read_bad_pixels(path: str, source: ImageSource) -> Mask:
    """A map that is not 0 at bad pixels."""
    if not Path(path).exists():
        raise SettingError(f"calibrate.bad_pixels: {path} does not exist")
    found = scan([Path(path)], InputSettings(), kind="dark")
    if not found.calibration:
        reason = found.rejected[0].reason if found.rejected else "it holds no image"
        raise SettingError(f"calibrate.bad_pixels: {path} cannot be used: {reason}")
    frame = found.calibration[0]
    data, _ = source.read_window(frame, Box.of_shape(frame.shape))
    return np.asarray(data[0] != 0)


def _sizes(shapes: set[tuple[int, int]]) -> str:
    return ", ".join(f"{width} x {height}" for height, width in sorted(shapes))
