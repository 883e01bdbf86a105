"""How well and how fast the joint adjustment works, against simulated truth: a table of docs/measured/places.md.

    python benchmarks/refine_truth.py

Frames of 800 x 1200 pixels of 2.4 arcsec, some 80 detections each with errors of 0.1 pixel, a seventh of the
detections false; every camera with a cubic distortion; starts that are off by an arcsecond and half a thousandth
of rotation; a catalogue of a quarter of the stars, with heavy-tailed proper motions.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from page import add_page_option, page_section
from zemosaic.model.sky.catalogue import CatalogueStars
from zemosaic.model.sky.celestial import unit_vectors
from zemosaic.model.sky.star_field import StarField
from zemosaic.model.sky.tan_sip import TanSip, plane_to_sky, powers_of_degrees, sky_to_plane
from zemosaic.settings import RefineSettings
from zemosaic.stages.refine.refine import refine

SHAPE = (1200, 800)
SCALE_DEG = 2.4 / 3600
CENTRE = (300.0, 62.0)


class ListedCatalogue:
    """A catalogue made of arrays."""

    name = "a list"

    def __init__(self, ra: np.ndarray, dec: np.ndarray) -> None:
        self.ra, self.dec = ra, dec

    def cone(self, ra_deg: float, dec_deg: float, radius_deg: float) -> CatalogueStars:
        near = unit_vectors(self.ra, self.dec) @ unit_vectors(ra_deg, dec_deg) >= np.cos(np.deg2rad(radius_deg))
        return CatalogueStars(self.ra[near], self.dec[near], np.arange(near.sum(), dtype=float), 0.3)


NOTHING = ListedCatalogue(np.zeros(0), np.zeros(0))


@dataclass
class Survey:
    """Simulated frames: what is measured, what the solver would say, and the truth."""

    fields: list[StarField]
    start: list[TanSip]
    truth: list[TanSip]
    catalogue: ListedCatalogue

    def errors_px(self, plates: list[TanSip]) -> np.ndarray:
        """Error of each plate over its whole field, shape (n_frames, n_points, 2)."""
        x, y = np.meshgrid(np.linspace(0, SHAPE[1] - 1, 7), np.linspace(0, SHAPE[0] - 1, 9))
        xy = np.stack([x.ravel(), y.ravel()], axis=1)
        errors = []
        for plate, truth in zip(plates, self.truth, strict=True):
            sky = plate.pixel_to_sky(xy)
            plane = sky_to_plane(*sky, truth.ra_deg, truth.dec_deg)
            errors.append((plane - truth.pixel_to_plane(xy)) @ np.linalg.inv(truth.cd).T)
        return np.array(errors)


def observe(rng: np.random.Generator, truth: TanSip, sky: tuple[np.ndarray, np.ndarray], noise_px: float) -> np.ndarray:
    """Positions of the stars that a frame sees."""
    undistorted = sky_to_plane(*sky, truth.ra_deg, truth.dec_deg) @ np.linalg.inv(truth.cd).T + truth.crpix
    near = (np.abs(undistorted - truth.crpix) < np.array(SHAPE[::-1]) / 2 + 40).all(axis=1)
    xy = undistorted[near].copy()
    for _ in range(25):
        xy = undistorted[near] - truth.distortion(xy)
    seen = (xy >= 0).all(axis=1) & (xy <= [SHAPE[1] - 1, SHAPE[0] - 1]).all(axis=1) & (rng.random(len(xy)) < 0.85)
    stars = np.full((len(near), 2), np.nan)
    stars[np.flatnonzero(near)[seen]] = xy[seen] + rng.normal(0, noise_px, (int(seen.sum()), 2))
    return stars


def make_survey(
    n_frames: int = 16,
    n_cameras: int = 1,
    distortion_px: float = 4.0,
    false_share: float = 0.15,
    seed: int = 3,
    half_side_deg: float = 0.35,
) -> Survey:
    """Overlapping, slightly rotated frames with a cubic distortion a camera; a catalogue with stars that moved."""
    rng = np.random.default_rng(seed)
    n_stars = int(200 * np.pi * (half_side_deg + 0.85) ** 2)
    radius, angle = (half_side_deg + 0.85) * np.sqrt(rng.random(n_stars)), rng.uniform(0, 2 * np.pi, n_stars)
    sky = plane_to_sky(np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1), *CENTRE)
    flux = 10 ** rng.uniform(0, 2, n_stars)
    known = rng.random(n_stars) < 0.25
    moved = rng.standard_t(2.5, (int(known.sum()), 2)) * 0.2 / 3600
    catalogue = ListedCatalogue(
        sky[0][known] + moved[:, 0] / np.cos(np.deg2rad(sky[1][known])), sky[1][known] + moved[:, 1]
    )
    crpix, half = ((SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2), np.hypot(*SHAPE) / 2
    degree = np.array([p + q for p, q in powers_of_degrees(2, 3)])
    sips = [rng.normal(0, distortion_px / 2, (2, 7)) / half**degree for _ in range(n_cameras)]
    survey = Survey([], [], [], catalogue)
    for k in range(n_frames):
        ra, dec = (float(v[0]) for v in plane_to_sky(rng.uniform(-half_side_deg, half_side_deg, (1, 2)), *CENTRE))
        turn = rng.normal(0, 0.05) + np.pi * (k % 2)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shear = rng.normal(0, 1e-4)
        cd = SCALE_DEG * rotation @ np.array([[-1 - shear, 0], [0, 1 - shear]])
        truth = TanSip(ra, dec, crpix, cd, 3, sips[k % n_cameras])
        stars = observe(rng, truth, sky, 0.1)
        seen = np.isfinite(stars[:, 0])
        n_false = int(false_share * seen.sum())
        xy = np.concatenate([stars[seen], rng.uniform(0, [SHAPE[1], SHAPE[0]], (n_false, 2))])
        survey.fields.append(
            StarField(xy, np.concatenate([flux[seen], rng.choice(flux, n_false)]), SHAPE, camera=f"c{k % n_cameras}")
        )
        off, tilt = rng.normal(0, 1.0 / 3600, 2), rng.normal(0, 5e-4)
        start_ra, start_dec = plane_to_sky(off[None], ra, dec)
        start_cd = cd @ np.array([[1, tilt], [-tilt, 1]])
        survey.start.append(TanSip(float(start_ra[0]), float(start_dec[0]), crpix, start_cd))
        survey.truth.append(truth)
    return survey


def print_table() -> None:
    """One row a survey."""
    print("| frames | cameras | distortion, px | rms before, px | rms after | worst frame | worst point | s |")
    print("|---|---|---|---|---|---|---|---|")
    for n_frames, n_cameras, distortion, half_side in (
        (16, 1, 4.0, 0.35),
        (49, 1, 16.0, 0.6),
        (49, 2, 4.0, 0.6),
        (400, 1, 4.0, 1.2),
        (2000, 1, 4.0, 1.5),
    ):
        survey = make_survey(n_frames, n_cameras, distortion, half_side_deg=half_side)
        before = survey.errors_px(survey.start)
        start = time.process_time()
        plates = refine(survey.fields, survey.start, survey.catalogue, RefineSettings()).plates
        wall = time.process_time() - start
        after = survey.errors_px(plates)
        print(
            f"| {n_frames} | {n_cameras} | {distortion:.0f} | {np.sqrt((before**2).mean()):.2f} "
            f"| {np.sqrt((after**2).mean()):.3f} | {np.sqrt((after**2).mean(axis=(1, 2))).max():.3f} "
            f"| {np.abs(after).max():.2f} | {wall:.1f} |",
            flush=True,
        )


ABOUT = """Simulated frames of 800 x 1200 px, some 80 detections each with errors of 0.1 px, one detection in seven
false, a cubic distortion. Errors are against the truth, over the whole field, edges and corners included. s is
processor time."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_page_option(parser)
    with page_section(parser.parse_args().page, __file__, "All frames together", ABOUT):
        print_table()


if __name__ == "__main__":
    main()
