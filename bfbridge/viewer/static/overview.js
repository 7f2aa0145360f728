/** The whole image in a corner, with a box around the part that is seen. */

import {seenBox} from './camera.js';
import {h, pen} from './dom.js';

/** @import {Pane} from './pane.js' */

/** Size in CSS pixels, at most, and share of the stage's width. */
const WIDTH = 160, HEIGHT = 120, SHARE = 0.25;

/** @param {Pane} pane */
export function addOverview({viewer, stage}) {
  const overview = h('canvas', {className: 'overview', width: 1, height: 1, 'aria-label': 'Overview; click to move', role: 'img', hidden: true});
  let picture = new Image(), url = '', drawn = '';
  /** @type {unknown} */ let pictured = null;

  const jump = (/** @type {PointerEvent} */ e) => {
    const size = viewer.info?.image.levels[0], box = overview.getBoundingClientRect();
    if (size && e.buttons) viewer.lookAt({...viewer.view, x: ((e.clientX - box.left) / box.width) * size.width, y: ((e.clientY - box.top) / box.height) * size.height}, {moving: true});
  };
  overview.addEventListener('pointerdown', (e) => {
    overview.setPointerCapture(e.pointerId);
    viewer.stop();
    jump(e);
  });
  overview.addEventListener('pointermove', jump);

  const draw = () => {
    const size = viewer.info?.image.levels[0];
    if (!size) return;
    overview.hidden = viewer.seesAll();
    if (overview.hidden) return;
    if (pictured !== size) {
      pictured = size;
      drawn = '';
      url = `${viewer.source.thumbnail?.(viewer.file ?? '', viewer.info?.image.index ?? 0, 192)}&z=${viewer.state.z}&t=${viewer.state.t}`;
      picture = new Image();
      picture.onload = draw;
      picture.src = url;
    }
    if (!picture.complete || !picture.naturalWidth) return;
    const scale = Math.min(Math.min(WIDTH, SHARE * viewer.width) / size.width, HEIGHT / size.height), ratio = devicePixelRatio || 1;
    const w = Math.max(8, Math.round(size.width * scale)), height = Math.max(8, Math.round(size.height * scale));
    const box = seenBox(viewer.view, viewer);
    const key = [url, w, ratio, viewer.background, ...Object.values(box)].join();
    if (key === drawn) return;
    drawn = key;
    if (overview.width !== w * ratio) Object.assign(overview, {width: w * ratio, height: height * ratio});
    Object.assign(overview.style, {width: `${w}px`, height: `${height}px`});
    const g = pen(overview);
    g.drawImage(picture, 0, 0, overview.width, overview.height);
    g.strokeStyle = getComputedStyle(overview).color;
    g.lineWidth = 2 * ratio;
    const sx = overview.width / size.width, sy = overview.height / size.height;
    const left = Math.max(1, box.left * sx), top = Math.max(1, box.top * sy);
    g.strokeRect(left, top, Math.max(3, Math.min(overview.width - 1, box.right * sx) - left), Math.max(3, Math.min(overview.height - 1, box.bottom * sy) - top));
  };
  stage.after(overview);
  viewer.addEventListener('drawn', draw);
  draw();
}
