// What the page says in French, by its English words, which stand in the page itself; the run or the browser asks for it.
"use strict";

window.zemosaic = window.zemosaic || {};
zemosaic.words = {
  "Mosaic": "Mosaïque",
  "Zoom": "Zoom",
  "Zoom in": "Agrandir",
  "Zoom out": "Réduire",
  "All": "Tout",
  "Map over it": "Carte par-dessus",
  "Outlines under the pointer": "Contours sous le pointeur",
  "Stretch": "Affichage",
  "Brightness": "Luminosité",
  "Contrast": "Contraste",
  "Colour": "Couleur",
  "As it was": "Comme avant",
  "Go to": "Aller à",
  "RA Dec": "AD Dec",
  "Go": "Aller",
  "Picture": "Image",
  "Before the match, left of the knob": "Avant l'ajustement, à gauche du curseur",
  "This page does not know the projection of this mosaic: it tells pixels only.": "Cette page ne connaît pas la projection de cette mosaïque : elle n'indique que des pixels.",
  "Place and frames": "Point et brutes",
  "Click the picture, or press Enter in it, to see which frames lie over a place.": "Cliquez dans l'image, ou pressez Entrée, pour voir quelles brutes couvrent un point.",
  "This place": "Ce point",
  "Each frame's value there, kept or clipped, is told by": "La valeur de chaque brute en ce point, gardée ou rejetée, est donnée par",
  "Command": "Commande",
  "Frames": "Brutes",
  "Name": "Nom",
  "Table of frames": "Tableau des brutes",
  "frame": "brute",
  "gain": "gain",
  "none": "aucune",
  "frames": "brutes",
  "depth": "profondeur",
  "samples clipped": "valeurs rejetées",
  "in degrees": "en degrés",
  "pixel x, y": "pixel x, y",
  "no data": "aucune donnée",
  "1 frame lies over it.": "1 brute le couvre.",
  "{n} frames lie over it.": "{n} brutes le couvrent.",
  "over the place: {n}": "sur ce point : {n}",
  "{n} of {total} shown": "{n} sur {total} affichées",
  "{n} in all": "{n} en tout",
  "That is no place: give RA and Dec, as 83.82 -5.39 or 5 35 17 -5 23 28.": "Ce n'est pas un point : donnez AD et Dec, comme 83.82 -5.39 ou 5 35 17 -5 23 28.",
  "That place is outside of the mosaic.": "Ce point est en dehors de la mosaïque.",
  "Picture of the mosaic. Arrow keys move, plus and minus zoom, 0 shows all, Enter tells of the middle.": "Image de la mosaïque. Les flèches déplacent, plus et moins changent l'échelle, 0 montre tout, Entrée décrit le milieu.",
};

// Words in the language of the page, {n} and its like filled in.
zemosaic.say = (words, facts = {}) => {
  const text = (document.documentElement.lang === "fr" && zemosaic.words[words]) || words;
  return text.replace(/\{(\w+)\}/g, (whole, name) => facts[name] ?? whole);
};

// A number as the language of the page writes it.
zemosaic.number = (text) => (document.documentElement.lang === "fr" ? text.replace(".", ",") : text);

// Put the words that stand in the page into its language.
zemosaic.translate = (language) => {
  document.documentElement.lang = language;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const words = node.data.trim();
    if (words && zemosaic.words[words]) node.data = node.data.replace(words, () => zemosaic.say(words));
  }
  for (const name of ["aria-label", "placeholder"]) {
    for (const element of document.querySelectorAll(`[${name}]`)) element.setAttribute(name, zemosaic.say(element.getAttribute(name)));
  }
};
