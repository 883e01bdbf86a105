// Twelve settings in words, and all others by search.
import { html, useEffect, useState } from "./view.js";
import { get } from "./api.js";
import { chosenLanguage, t } from "./words.js";

// The ones that a beginner may want, in the order of a run.
const TWELVE = [
  "calibrate.darks", "quality.triage", "quality.best_fraction", "quality.fwhm_max_px", "grid.scale_arcsec", "grid.crop",
  "grid.rotation", "stack.method", "stack.region_sigma", "match.surface_order", "match.reference", "output.also",
];

export function Settings({ settings, change, say }) {
  const [stages, setStages] = useState(null);
  const [wanted, setWanted] = useState("");
  useEffect(() => { get("/api/settings").then(setStages, say); }, [chosenLanguage()]);
  if (!stages) return null;
  const keys = Object.values(stages).flatMap((stage) => stage.keys);
  const byName = new Map(keys.map((key) => [`${key.stage}.${key.name}`, key]));
  const word = wanted.toLowerCase();
  const others = keys.filter((key) => `${key.stage}.${key.name} ${key.prose}`.toLowerCase().includes(word));
  const field = (key) => html`<${Field} key=${`${key.stage}.${key.name}`} of=${key} settings=${settings} change=${change} />`;
  return html`
    <h1>${t("settings.title")}</h1>
    <section class="card">${TWELVE.filter((name) => byName.has(name)).map((name) => html`
      <div class="setting"><h2>${t(`setting.${name}`)}</h2>${field(byName.get(name))}</div>`)}</section>
    <details class="card"><summary>${t("settings.all")}</summary>
      <label>${t("settings.search")} <input type="search" value=${wanted} onInput=${(e) => setWanted(e.target.value)} /></label>
      ${others.map((key) => html`<div class="setting"><h3><code>${key.stage}.${key.name}</code></h3>${field(key)}</div>`)}
    </details>
    <section class="card"><h2>settings.toml</h2><pre>${asToml(settings) || t("settings.default")}</pre></section>`;
}

function Field({ of: key, settings, change }) {
  const value = settings[key.stage]?.[key.name];
  const given = value !== undefined;
  const byDefault = JSON.parse(key.default);
  const id = `set-${key.stage}-${key.name}`;
  const choices = key.allowed.split(", ");
  const put = (text) => change(key.stage, key.name, text === "" ? undefined : read(text, byDefault));
  const shown = given ? (Array.isArray(value) ? value.join(" ") : String(value)) : "";
  return html`<p id="${id}-help">${key.prose} <small>${t("settings.by-default", { value: key.default })}</small></p>
    ${typeof byDefault === "boolean" || (choices.length > 1 && !Array.isArray(byDefault))
      ? html`<select aria-label="${key.stage}.${key.name}" aria-describedby="${id}-help" value=${shown} onChange=${(e) => put(e.target.value)}>
          <option value="">${t("settings.keep")}</option>${choices.map((choice) => html`<option value=${choice}>${choice}</option>`)}</select>`
      : html`<input aria-label="${key.stage}.${key.name}" aria-describedby="${id}-help" value=${shown} placeholder=${key.allowed} onChange=${(e) => put(e.target.value)} />`}
    ${given && html` <button class="plain" onClick=${() => put("")}>${t("settings.reset")}</button>`}`;
}

// What a person typed, as the kind of value that the default is.
function read(text, byDefault) {
  if (typeof byDefault === "boolean") return text === "true";
  if (Array.isArray(byDefault)) return text.split(/[\s,]+/).filter(Boolean);
  return typeof byDefault === "number" && text.trim() !== "" && !isNaN(text) ? Number(text) : text;
}

function asToml(settings) {
  return Object.entries(settings).map(([stage, keys]) =>
    `[${stage}]\n${Object.entries(keys).map(([name, value]) => `${name} = ${JSON.stringify(value)}`).join("\n")}`).join("\n\n");
}
