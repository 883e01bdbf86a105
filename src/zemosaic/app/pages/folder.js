// A folder of the server's disks is chosen, and what is in it is said.
import { html } from "./view.js";
import { nightOf } from "./choice.js";
import { t } from "./words.js";

export function FolderChoice({ view, roots, open }) {
  const names = view ? view.folders.map((name) => [name, `${view.path.replace(/[/\\]$/, "")}/${name}`]) : roots.map((root) => [root, root]);
  const parent = view && view.parent;
  return html`<form onSubmit=${(e) => { e.preventDefault(); open(e.target.path.value.trim()); }}>
      <label>${t("start.folder")} <input name="path" value=${view?.path ?? ""} placeholder=${roots[0]} spellcheck="false" /></label>
      <button>${t("start.open")}</button>
    </form>
    <ul class="folders">
      ${view && html`<li><button class="plain" onClick=${() => open(parent ?? roots[0])} disabled=${!parent}>${t("start.up")}</button></li>`}
      ${names.map(([name, path]) => html`<li key=${path}><button class="plain folder" onClick=${() => open(path)}>${name}</button></li>`)}
    </ul>`;
}

export function Found({ view, scan }) {
  if (!scan) return html`<p role="status">${t("start.reading", { n: view.n_images })}</p>`;
  if (!scan.frames) return html`<p>${t("start.images", { n: view.n_images })}</p>`;
  const kinds = {};
  for (const frame of scan.frames) kinds[frame.kind] = (kinds[frame.kind] || 0) + 1;
  const lights = scan.frames.filter((frame) => frame.kind === "light");
  const nights = new Set(lights.map(nightOf).filter(Boolean));
  const filters = [...new Set(lights.map((frame) => frame.filter).filter(Boolean))];
  const seconds = [...new Set(lights.map((frame) => frame.exposure_s).filter((s) => s !== null))];
  return html`<ul class="facts">
    ${Object.entries(kinds).map(([kind, n]) => html`<li>${t(`kind.${kind}`, { n })}</li>`)}
    ${nights.size > 0 && html`<li>${t("start.nights", { n: nights.size })}</li>`}
    ${filters.length > 0 && html`<li>${t("start.filters", { names: filters.join(", ") })}</li>`}
    ${seconds.length > 0 && seconds.length < 5 && html`<li>${t("start.exposures", { names: seconds.join(", ") })}</li>`}
    ${scan.left_out.length > 0 && html`<li>${t("start.unreadable", { n: scan.left_out.length })}</li>`}
  </ul>`;
}

