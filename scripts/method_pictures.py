"""Figures of the pages on the method, each drawn from simulated data: called by make_pictures.py."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import zemosaic
from zemosaic.cli import main as command
from zemosaic.io.astrometry.catalogue import tycho2
from zemosaic.kernels.resample.bayer import resample_cfa
from zemosaic.kernels.resample.window import Output, Window
from zemosaic.model.photo_scale import surface_basis
from zemosaic.simulate import FrameRecipe, RawRecipe, SimulatedSky, simulate_frames, simulate_raws

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from malvar import demosaic

Floats = npt.NDArray[np.floating]

STRIP_DEG, CELL_PX = 0.02, 25
"""Half the height of the strip of sky that is drawn, and the cells whose medians are taken."""


def draw_all(work: Path, pictures: Path) -> None:
    """Draw and save every figure; `work` keeps frames and results."""
    mpl.use("Agg")
    frames = work / "method"
    if not frames.exists():
        recipe = FrameRecipe(shape=(300, 400), trail_fraction=0.5)
        simulate_frames(frames, SimulatedSky(3, size_deg=0.45), 8, recipe)
    figures = {
        "matching": lambda: draw_matching(frames, work / "method-out"),
        "gauge": draw_gauge,
        "rejection": lambda: draw_rejection(frames),
        "colour": draw_colour,
        "solving": lambda: draw_solving(work),
    }
    for name, draw in figures.items():
        figure = draw()
        figure.savefig(pictures / f"method-{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)


def draw_matching(frames: Path, out: Path) -> Figure:
    """Levels along a strip of sky, a colour a frame: as read, and matched."""
    if not (out / "match.ecsv").exists() and command(["build", str(frames), "-o", str(out)]) != 0:
        raise SystemExit("the frames of the figures cannot be matched")
    solution = Table.read(out / "match.ecsv")
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), sharex=True)
    for row in solution:
        path = frames / Path(str(row["name"])).name
        data, wcs = fits.getdata(path).astype(float), WCS(fits.getheader(path))
        height, width = (side // CELL_PX for side in data.shape)
        cells = data[: height * CELL_PX, : width * CELL_PX].reshape(height, CELL_PX, width, CELL_PX)
        level = np.nanmedian(cells, axis=(1, 3))
        y, x = (np.indices(level.shape) + 0.5) * CELL_PX - 0.5
        ra, dec = wcs.pixel_to_world_values(x, y)
        inside = abs(dec - 22.0) < STRIP_DEG
        coefficients = np.array([row[f"b{k}"] for k in range(6)])
        surface = np.tensordot(coefficients, surface_basis(x, y, data.shape, 2), 1)
        above.plot(ra[inside], level[inside], ".", ms=4)
        below.plot(ra[inside], (level / row["gain"] - surface)[inside], ".", ms=4)
    above.set(ylabel="as read, ADU")
    below.set(ylabel="d / g - B, ADU", xlabel="right ascension, degrees")
    below.invert_xaxis()
    return figure


def draw_gauge() -> Figure:
    """One set of frames in a row, and two skies that both explain it."""
    x = np.linspace(0, 10, 501)
    sky = 40 * np.exp(-((x - 6) ** 2) / 2)
    starts, width = np.arange(5) * 1.8, 2.8
    rng = np.random.default_rng(1)
    levels, slopes = rng.normal(0, 25, 5), rng.normal(0, 10, 5)
    figure, axes = plt.subplots(3, 2, figsize=(8, 5), sharex=True, sharey="row")
    for column, trend in enumerate((np.zeros_like(x), 12 * (x - 5))):
        axes[0, column].plot(x, sky + trend, "k")
        for start, level, slope in zip(starts, levels, slopes, strict=True):
            part = (x >= start) & (x <= start + width)
            surface = level + slope * (x - start - width / 2) - trend
            axes[1, column].plot(x[part], surface[part])
            axes[2, column].plot(x[part], (sky + trend + surface)[part])
    for axis, name in zip(axes[:, 0], ("sky", "surfaces", "values"), strict=True):
        axis.set_ylabel(name)
    return figure


def draw_rejection(frames: Path) -> Figure:
    """The mean, the default, and what the default clips."""
    plain = zemosaic.coadd(str(frames), match=True, settings={"stack": {"method": "mean"}})
    clipped = zemosaic.coadd(str(frames), match=True)
    noise = np.nanmedian(np.sqrt(clipped.variance))
    middle = np.nanmedian(clipped.data)
    figure, axes = plt.subplots(1, 3, figsize=(10, 4))
    for axis, data in zip(axes, (plain.data, clipped.data), strict=False):
        axis.imshow(data, origin="lower", cmap="gray", vmin=middle - 8 * noise, vmax=middle + 25 * noise)
    axes[2].imshow(clipped.rejected, origin="lower", cmap="magma", vmax=3)
    for axis, name in zip(axes, ("mean", "kappa_sigma", "clipped samples"), strict=True):
        axis.set_title(name)
        axis.set_axis_off()
    return figure


def draw_colour() -> Figure:
    """Where the samples lie, and the colour of a red star by two ways."""
    figure, (lattice, core) = plt.subplots(1, 2, figsize=(9, 4))
    y, x = np.mgrid[:6, :6]
    for name, part in (("green", (x + y) % 2 == 0), ("red", (x % 2 == 1) & (y % 2 == 0))):
        lattice.plot(x[part], y[part], "o", color=name, label=name)
    for k in range(-4, 12, 2):
        lattice.plot([k - 6, k + 6], [-6, 6], color="green", lw=0.5)
        lattice.plot([k - 6, k + 6], [6, -6], color="green", lw=0.5)
    lattice.set(xlim=(-0.7, 5.7), ylim=(-0.7, 5.7), aspect="equal")
    lattice.legend(loc="upper right")
    across, ratios = measure_star()
    for name, values in ratios.items():
        core.plot(across, values, "o-", ms=3, label=name)
    core.axhline(1, color="k", lw=0.8)
    core.set(xlabel="distance from the star's middle, px", ylabel="blue over red, over the truth", ylim=(0.6, 1.8))
    core.legend()
    return figure


def measure_star() -> tuple[Floats, dict[str, Floats]]:
    """Blue over red across a red star of FWHM 2.7 px without noise, averaged over places on the lattice."""
    side, sigma, colours = 64, 2.7 / 2.3548, {"R": 1.3, "G": 1.0, "B": 0.7}
    offsets = np.random.default_rng(1).uniform(-1, 1, (64, 2))
    distance = np.arange(-2, 3)
    sums = {"each colour by itself": np.zeros((2, 5)), "demosaiced (Malvar)": np.zeros((2, 5))}
    for shift_y, shift_x in offsets:
        y, x = np.mgrid[:side, :side] - 32.0
        star = np.exp(-((x - shift_x) ** 2 + (y - shift_y) ** 2) / 2 / sigma**2)
        raw = np.empty((side, side), np.float32)
        for k, colour in enumerate("GRBG"):
            raw[k // 2 :: 2, k % 2 :: 2] = colours[colour] * 1e4 * star[k // 2 :: 2, k % 2 :: 2]
        own, other = resample_onto(raw, shift_y, shift_x), demosaic(raw, np.ones_like(raw), "GRBG")[0]
        moved = np.stack([sample_at(plane, shift_y, shift_x) for plane in other])
        for name, planes in zip(sums, (own, moved), strict=True):
            sums[name] += [planes[2, 32, 30:35], planes[0, 32, 30:35]]
    return distance, {name: blue / red / (colours["B"] / colours["R"]) for name, (blue, red) in sums.items()}


def resample_onto(raw: npt.NDArray[np.float32], shift_y: float, shift_x: float) -> npt.NDArray[np.float32]:
    """The three colours of a raw plane by the package's kernel, with the star brought to pixel (32, 32)."""
    side, step = raw.shape[0], 32
    nodes = np.mgrid[: side // step + 2, : side // step + 2] * float(step)
    ones = np.ones((3, *nodes.shape[1:]))
    window = Window(
        raw[None], np.ones_like(raw)[None], (0, 0), np.stack([nodes[1] + shift_x, nodes[0] + shift_y]), ones, 0 * ones,
        step, (0, 0), np.ones(3), (0, side, 0, side), 0.0, np.inf,
    )  # fmt: skip
    shape = (3, side, side)
    out = Output(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty((side, side), np.uint8))
    resample_cfa(window, out, "GRBG", "lanczos3")
    return out[0]


def sample_at(plane: npt.NDArray[np.float32], shift_y: float, shift_x: float) -> Floats:
    """A plane moved by a part of a pixel, by its Fourier transform: nothing is lost on the way."""
    fy, fx = np.meshgrid(np.fft.fftfreq(plane.shape[0]), np.fft.fftfreq(plane.shape[1]), indexing="ij")
    turned = np.fft.fft2(plane) * np.exp(2j * np.pi * (fy * shift_y + fx * shift_x))
    return np.asarray(np.fft.ifft2(turned).real)


def draw_solving(work: Path) -> Figure:
    """A raw frame, and the catalogue's stars where its solution puts them."""
    folder, places = work / "method-raws", work / "method-wcs"
    known = tycho2().cone(83.8, 22.0, 2.0)
    if not folder.exists():
        sky = SimulatedSky(4, 83.8, 22.0, 1.0, (known.ra_deg, known.dec_deg, known.mag))
        recipe = RawRecipe(shape=(600, 900), panels=(1, 1), cloud_fraction=0, soft_fraction=0, hot_fraction=0)
        simulate_raws(folder, sky, 4, recipe)
    if not places.exists() and command(["solve", str(folder), "--write-wcs", str(places)]) != 0:
        raise SystemExit("the raw frame of the figure cannot be solved")
    path = sorted(folder.glob("*.fit*"))[0]
    raw = fits.getdata(path).astype(float)
    seen = raw[: raw.shape[0] // 2 * 2, : raw.shape[1] // 2 * 2]
    small = seen.reshape(seen.shape[0] // 2, 2, seen.shape[1] // 2, 2).mean(axis=(1, 3))
    wcs = WCS(fits.getheader(places / f"{path.stem}.wcs"))
    x, y = wcs.world_to_pixel_values(known.ra_deg, known.dec_deg)
    inside = (x > 0) & (x < raw.shape[1]) & (y > 0) & (y < raw.shape[0])
    figure, axis = plt.subplots(figsize=(8, 5.4))
    low, high = np.percentile(small, [20, 99.7])
    axis.imshow(
        small, origin="lower", cmap="gray", vmin=low, vmax=high, extent=(-0.5, raw.shape[1], -0.5, raw.shape[0])
    )
    axis.plot(x[inside], y[inside], "o", mfc="none", mec="orange", ms=11)
    axis.set_axis_off()
    return figure
