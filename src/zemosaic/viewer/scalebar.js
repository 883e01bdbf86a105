// A bar of a round angle, and how long it is.
"use strict";

zemosaic.scalebar = (() => {
  // Round angles in arcsec, and how they are told.
  const LENGTHS = [
    [0.5, '0.5"'], [1, '1"'], [2, '2"'], [5, '5"'], [10, '10"'], [20, '20"'], [30, '30"'],
    [60, "1'"], [120, "2'"], [300, "5'"], [600, "10'"], [1200, "20'"], [1800, "30'"],
    [3600, "1°"], [7200, "2°"], [18000, "5°"], [36000, "10°"], [72000, "20°"],
  ];
  const LONGEST_PX = 180;

  // The longest that fits: its words and its pixels on the screen.
  function choose(arcsecPerScreenPixel) {
    const fitting = LENGTHS.filter(([arcsec]) => arcsec / arcsecPerScreenPixel <= LONGEST_PX);
    const [arcsec, words] = fitting.length ? fitting[fitting.length - 1] : LENGTHS[0];
    return { words, px: arcsec / arcsecPerScreenPixel };
  }

  function show(element, viewer, mosaic) {
    const { words, px } = choose(mosaic.scale_arcsec / zemosaic.picture.transform(viewer).scale);
    element.textContent = words;
    element.style.width = `${px}px`;
  }

  return { choose, show };
})();
