// What a mosaic will take, told before it begins: space on the disk and time.
import { html } from "./view.js";
import { inGb, spell } from "./numbers.js";
import { t } from "./words.js";

export function Needs({ view, scan }) {
  const forecast = scan?.forecast;
  if (!forecast) return null;
  const { shape, output_bytes: bytes } = forecast;
  const time = spell(forecast.seconds);
  const size = shape && { width: shape[1], height: shape[0], size: inGb(bytes), free: inGb(view.free_bytes) };
  return html`<ul class="facts">
    ${size && html`<li>${t("needs.space", size)}</li>`}
    ${size && bytes > view.free_bytes && html`<li class="problem">${t("needs.no-space")}</li>`}
    <li>${forecast.is_first ? t("needs.first-time", { time }) : t("needs.time", { time })}</li>
  </ul>`;
}
