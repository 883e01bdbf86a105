// The zoomable picture: OpenSeadragon with tiles from disk, and places of the screen as pixels of the mosaic.
"use strict";

zemosaic.picture = (() => {
  // WebGL gives a black picture for files from disk, and a tile description cannot be fetched there: so the canvas
  // drawer, and the description inline.
  function open(element, mosaic) {
    return OpenSeadragon({
      element,
      drawer: "canvas",
      tileSources: tileSource(mosaic),
      showNavigationControl: false,
      showNavigator: true,
      navigatorPosition: "TOP_RIGHT",
      navigatorSizeRatio: 0.15,
      maxZoomPixelRatio: 16,
      visibilityRatio: 0.3,
      animationTime: reducedMotion() ? 0 : 0.5,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
    });
  }

  function tileSource(mosaic) {
    return {
      width: mosaic.width,
      height: mosaic.height,
      tileSize: mosaic.tile_px,
      tileOverlap: 0,
      minLevel: mosaic.bottom_level,
      maxLevel: mosaic.top_level,
      getTileUrl: (level, x, y) => `${mosaic.tiles}/${level}/${x}_${y}.jpg`,
    };
  }

  function reducedMotion() {
    return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  // Zero-based pixel of the mosaic, y up, at a point of the picture's element; not rounded.
  function pixelAt(viewer, point) {
    const item = viewer.world.getItemAt(0);
    if (!item) return null;
    const at = item.viewerElementToImageCoordinates(new OpenSeadragon.Point(point.x, point.y));
    return { x: at.x - 0.5, y: item.getContentSize().y - at.y - 0.5 };
  }

  // How pixels of the mosaic go to the screen: screen = origin + scale * (x, -y).
  function transform(viewer) {
    const item = viewer.world.getItemAt(0);
    const height = item.getContentSize().y;
    const start = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0.5, height - 0.5));
    const end = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(height + 0.5, height - 0.5));
    return { x: start.x, y: start.y, scale: (end.x - start.x) / height };
  }

  // Bring a pixel of the mosaic to the middle, at least so large that pixels can be told apart.
  function goTo(viewer, pixel) {
    const item = viewer.world.getItemAt(0);
    const size = item.getContentSize();
    const point = item.imageToViewportCoordinates(new OpenSeadragon.Point(pixel.x + 0.5, size.y - pixel.y - 0.5));
    viewer.viewport.panTo(point);
    viewer.viewport.zoomTo(Math.max(viewer.viewport.getZoom(), item.imageToViewportZoom(0.5)), point);
  }

  return { open, pixelAt, transform, goTo, tileSource };
})();
