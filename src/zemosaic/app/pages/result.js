// What a finished run left: the picture, pages about it, files.
import { html } from "./view.js";
import { fileOf } from "./api.js";
import { chosenLanguage, t } from "./words.js";

export function Result({ run }) {
  const files = Object.entries(run.outputs).map(([name, path]) => [name, inside(run.out, path)]).filter(([, path]) => path);
  const has = (ending) => files.find(([, path]) => path.endsWith(ending))?.[1];
  const preview = has("preview.png") || files.find(([name]) => name.startsWith("preview"))?.[1];
  const viewer = has("viewer/index.html") && `${fileOf(run.id, has("viewer/index.html"))}?language=${chosenLanguage()}&theme=app`;
  const report = has("report.html");
  return html`<section class="card">
    ${viewer ? html`<iframe class="viewer" title=${t("result.viewer")} src=${viewer}></iframe>`
      : preview && html`<img class="growing" alt=${t("result.picture")} src=${fileOf(run.id, preview)} />`}
    <p class="actions">
      ${viewer && html`<a class="button" target="_blank" href=${viewer}>${t("result.viewer")}</a>`}
      ${report && html`<a class="button" target="_blank" href=${fileOf(run.id, report)}>${t("result.report")}</a>`}
      <a class="button" href="/run/${run.id}/frames">${t("run.frames")}</a>
      <a class="button" href="/run/${run.id}/add">${t("add.open")}</a>
    </p>
    <h2>${t("result.files")}</h2>
    <p><code>${run.out}</code></p>
    <ul>${files.map(([name, path]) => html`<li key=${name}><a target="_blank" download href=${fileOf(run.id, path)}>${path}</a></li>`)}</ul>
  </section>`;
}

// The part of a path below the output folder.
function inside(out, path) {
  return path.startsWith(out) ? path.slice(out.length).replace(/^[/\\]/, "").replaceAll("\\", "/") : "";
}
