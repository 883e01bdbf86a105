// Beside the chart: its frames by night and filter, and the ones that were picked on it, to leave out one by one.
import { html, useMemo } from "./view.js";
import { nightOf } from "./choice.js";
import { t } from "./words.js";

// A longer list is read in the table.
const MOST_LISTED = 60;

export function Groups({ frames, choose }) {
  const groups = useMemo(() => [...groupBy(frames, nightOf), ...groupBy(frames, (frame) => frame.filter)], [frames]);
  if (!groups.length) return null;
  return html`<p class="actions" role="group" aria-label=${t("chart.groups")}>${groups.map(([name, members]) => html`
    <button key=${name} onClick=${() => choose(members.map((frame) => frame.path))}>${name} (${members.length})</button>`)}</p>`;
}

// Groups by name; none where all frames are of one.
function groupBy(frames, nameOf) {
  const found = new Map();
  for (const frame of frames) if (nameOf(frame)) found.set(nameOf(frame), [...(found.get(nameOf(frame)) || []), frame]);
  return found.size > 1 ? [...found].sort() : [];
}

export function Hits({ hits, gone, toggle }) {
  if (!hits.length) return null;
  return html`<h3>${t("chart.picked", { n: hits.length })}</h3>
    <ul class="hits" aria-label=${t("chart.picked", { n: hits.length })}>${hits.slice(0, MOST_LISTED).map((frame) => html`<li key=${frame.path}>
      <label><input type="checkbox" checked=${!gone.has(frame.path)} onClick=${() => toggle([frame.path])} /> ${frame.name}</label></li>`)}</ul>
    ${hits.length > MOST_LISTED && html`<p><small>${t("chart.more", { n: hits.length - MOST_LISTED })}</small></p>`}`;
}
