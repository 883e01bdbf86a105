// A table of some frames: a button with the name, and the gain; the frame under focus is outlined.
"use strict";

zemosaic.table = (() => {
  function gains(frames, k) {
    return frames.gain.map((column) => (column[k] === null ? "" : zemosaic.number(column[k].toFixed(4)))).join(" ");
  }

  // Fill the body of a table; `hover(k)` and `choose(k)` are told of the frame, null when left.
  function fill(body, frames, numbers, { hover, choose }) {
    body.replaceChildren(...numbers.map((k) => {
      const row = document.createElement("tr"), button = zemosaic.place.element("button", frames.name[k]);
      button.type = "button";
      button.title = frames.name[k];
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        const pressed = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(pressed));
        choose(k, pressed);
      });
      for (const event of ["mouseenter", "focusin"]) row.addEventListener(event, () => hover(k));
      for (const event of ["mouseleave", "focusout"]) row.addEventListener(event, () => hover(null));
      const name = document.createElement("th");
      name.scope = "row";
      name.append(button);
      row.append(name, zemosaic.place.element("td", gains(frames, k)));
      return row;
    }));
  }

  return { fill };
})();
