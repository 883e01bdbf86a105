// Brighter, steeper, more colour: a filter of the browser over the finished picture, which costs nothing until used.
"use strict";

zemosaic.stretch = (() => {
  function connect(viewer, controls) {
    const apply = () => {
      const value = (name) => Number(controls[name].value);
      const neutral = ["brightness", "contrast", "saturation"].every((name) => value(name) === 100);
      viewer.drawer.canvas.style.filter = neutral
        ? ""
        : `brightness(${value("brightness")}%) contrast(${value("contrast")}%) saturate(${value("saturation")}%)`;
    };
    for (const name of ["brightness", "contrast", "saturation"]) controls[name].addEventListener("input", apply);
    controls.reset.addEventListener("click", () => {
      for (const name of ["brightness", "contrast", "saturation"]) controls[name].value = 100;
      apply();
    });
  }

  return { connect };
})();
