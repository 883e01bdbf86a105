// What a mosaic will take, told before it begins: space on the disk and time.
import { html, useEffect, useState } from "./view.js";
import { get } from "./api.js";
import { guessSeconds } from "./progress.js";
import { inGb, spell } from "./numbers.js";
import { t } from "./words.js";

export function Needs({ view, scan, say }) {
  const [pace, setPace] = useState(null);
  useEffect(() => { get("/api/pace").then(setPace, say); }, []);
  const forecast = scan?.forecast;
  if (!pace || !forecast) return null;
  const { shape, output_bytes: bytes } = forecast;
  const time = spell(guessSeconds(pace, forecast.n_values));
  const size = shape && { width: shape[1], height: shape[0], size: inGb(bytes), free: inGb(view.free_bytes) };
  return html`<ul class="facts">
    ${size && html`<li>${t("needs.space", size)}</li>`}
    ${size && bytes > view.free_bytes && html`<li class="problem">${t("needs.no-space")}</li>`}
    <li>${pace.n_values ? t("needs.time", { time }) : t("needs.first-time", { time })}</li>
  </ul>`;
}
