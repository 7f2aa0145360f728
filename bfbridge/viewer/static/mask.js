/** Labels of another image of the file, drawn above an image. */

import {toScreen} from './camera.js';

/** @import {FileInfo, Look, View} from './types.js' */
/** @import {Viewer} from './viewer.js' */

/** The colour table decides how labels look. @type {Look} */
const LOOK = {low: 0, high: 1, gamma: 1, invert: false, opacity: 1, color: [255, 255, 255], palette: -1};

export class Mask {
  /** @param {Viewer} viewer @param {FileInfo} info of the image with labels */
  constructor(viewer, info) {
    this.viewer = viewer;
    this.tiles = viewer.tilesOf(info, viewer.file ?? '');
    this.series = info.image.index;
    /** Labels may be stored at a lower resolution than the image. */
    this.scale = info.image.levels[0].width / (viewer.info?.image.levels[0].width ?? 1);
  }

  plane() {
    const {Z, T} = this.tiles.image.sizes, {z, t} = this.viewer.shown;
    return {z: Math.min(z, Z - 1), t: Math.min(t, T - 1)};
  }

  /** The label at a place of the image. @param {number} x @param {number} y @returns {number|undefined} */
  idAt(x, y) {
    const {view, ratio} = this.viewer, level = this.tiles.levelFor((view.zoom / this.scale) * ratio);
    return this.tiles.valuesAt(x * this.scale, y * this.scale, this.plane(), [0], level)?.values[0];
  }

  /** @param {boolean} calm */
  paint(calm) {
    const {viewer, tiles, scale} = this;
    const scaled = (/** @type {View} */ view) => ({...view, x: view.x * scale, y: view.y * scale, zoom: view.zoom / scale});
    const plane = this.plane(), view = scaled(viewer.view);
    tiles.request(scaled(viewer.goal), viewer, plane, [0], {calm, next: []});
    const {quads, waits} = tiles.quads(view, viewer, plane, [{c: 0, look: LOOK}]);
    if (waits) viewer.redraw();
    const {opacity = 0.5, picked = 0} = viewer.state.overlay ?? {};
    viewer.painter.draw(quads, toScreen(view, viewer, viewer.ratio), {mode: 'labels', smooth: false, opacity, picked, over: true});
  }
}
