// The table of a run's frames, as the server has it.
import { get } from "./api.js";

// In the order of time.
export async function readFrames(run) {
  const frames = (await get(`/api/runs/${run}/frames`)).map(read);
  return frames.sort((one, other) => (`${one.date_obs} ${one.path}` < `${other.date_obs} ${other.path}` ? -1 : 1));
}

// A row of the table with its numbers as numbers; of a colour frame the green channel stands for all.
function read(row) {
  const number = (text) => (text === undefined || text === "" ? NaN : Number(text));
  const corners = [1, 2, 3, 4].map((k) => [number(row[`ra${k}_deg`]), number(row[`dec${k}_deg`])]);
  return {
    ...row, use: row.use === "True", corners: corners.every((c) => c.every(Number.isFinite)) ? corners : null,
    sky: number(row.sky ?? row.sky_g), noise: number(row.noise ?? row.noise_g),
    ...Object.fromEntries(["fwhm_px", "ellipticity", "n_stars", "place_rms_px"].map((name) => [name, number(row[name])])),
  };
}
