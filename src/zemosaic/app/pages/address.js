// The address of the page: which run, which part of it.
let changed = () => {};

export const onAddress = (listener) => { changed = listener; };

export function go(path) {
  history.pushState(null, "", path);
  changed();
  window.scrollTo(0, 0);
}

// /run/ID/frames -> { run: "ID", part: "frames" }
export function address() {
  const [, first, run, part] = location.pathname.split("/");
  return first === "run" ? { page: "run", run, part: part || "" } : { page: first || "start" };
}

// Links of the app change the page without loading it again.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  if (!link || link.target || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
window.addEventListener("popstate", () => changed());
