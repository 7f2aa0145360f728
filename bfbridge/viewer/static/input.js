/** Mouse, touch, pen, wheel and keyboard. */

import {invert, moved, toScreen, zoomed} from './camera.js';

/** @import {Viewer} from './viewer.js' */
/** @typedef {{x: number, y: number}} Point */

/** Share of the speed that is left after a millisecond of gliding. */
const FRICTION = 0.9955;
/** CSS pixels per millisecond below which a release does not glide. */
const SLOWEST = 0.08;

/** Move a viewer by pointers and keys. @param {Viewer} viewer @param {HTMLElement} element */
export function listen(viewer, element) {
  /** @type {Map<number, Point>} */
  const down = new Map();
  /** @type {{time: number, x: number, y: number}[]} */
  let trail = [];
  let pinch = {distance: 0, angle: 0};
  let travelled = 0;

  const place = (/** @type {PointerEvent|WheelEvent|MouseEvent} */ event) => {
    const box = element.getBoundingClientRect();
    return {x: event.clientX - box.left, y: event.clientY - box.top};
  };
  const middle = () => {
    const points = [...down.values()];
    return {x: points.reduce((s, p) => s + p.x, 0) / points.length, y: points.reduce((s, p) => s + p.y, 0) / points.length};
  };
  const spread = () => {
    const [a, b] = [...down.values()];
    return {distance: Math.hypot(a.x - b.x, a.y - b.y), angle: Math.atan2(b.y - a.y, b.x - a.x)};
  };

  element.addEventListener('pointerdown', (event) => {
    if (event.button > 1) return;
    element.focus({preventScroll: true});
    element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    if (down.size === 1) {
      travelled = 0;
      trail = [];
      viewer.stop();
      if (viewer.tool?.down(...at(event))) return;
    }
    if (down.size === 2) pinch = spread();
  });

  /** @param {PointerEvent|MouseEvent} event @returns {[number, number]} */
  const at = (event) => {
    const p = place(event);
    return viewer.imagePlace(p.x, p.y);
  };

  element.addEventListener('pointermove', (event) => {
    const now = place(event);
    viewer.point(now);
    const before = down.get(event.pointerId);
    if (!before) {
      viewer.tool?.hover(...at(event));
      return;
    }
    const from = middle();
    down.set(event.pointerId, now);
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
    if (viewer.tool && down.size === 1) {
      viewer.tool.drag(...at(event));
      return;
    }
    const to = middle();
    let view = viewer.view;
    const [x, y] = invert(toScreen(view, viewer), from.x, from.y);
    if (down.size === 2) {
      const next = spread();
      view = zoomed(view, next.distance / Math.max(1, pinch.distance), from.x, from.y, viewer);
      pinch = next;
    }
    viewer.lookAt(viewer.bounded(moved(view, x, y, to.x, to.y, viewer)), {moving: true});
    trail = [...trail.filter((p) => event.timeStamp - p.time < 100), {time: event.timeStamp, ...to}];
  });

  const up = (/** @type {PointerEvent} */ event) => {
    if (!down.delete(event.pointerId)) return;
    if (down.size) {
      trail = [];
      return;
    }
    const tap = travelled < 5;
    if (viewer.tool?.up(...at(event), tap)) return;
    if (tap) viewer.tapped(...at(event));
    const first = trail[0], last = trail[trail.length - 1];
    if (!first || !last || event.timeStamp - last.time > 60 || last.time - first.time < 10) return;
    const vx = (last.x - first.x) / (last.time - first.time), vy = (last.y - first.y) / (last.time - first.time);
    if (Math.hypot(vx, vy) < SLOWEST) return;
    // Where the glide ends is known now: the coarse tiles of that place are requested at once.
    const glide = -1 / Math.log(FRICTION);
    const m = toScreen(viewer.view, viewer);
    const [x, y] = invert(m, viewer.width / 2 - vx * glide, viewer.height / 2 - vy * glide);
    viewer.glideTo(viewer.bounded({...viewer.view, x, y}), glide * 4, (share) => (1 - FRICTION ** (share * glide * 4)) / (1 - FRICTION ** (glide * 4)));
  };
  element.addEventListener('pointerup', up);
  element.addEventListener('pointercancel', up);
  element.addEventListener('pointerleave', () => viewer.point(null));

  element.addEventListener('wheel', (event) => {
    event.preventDefault();
    const p = place(event);
    const unit = event.deltaMode === 1 ? 20 : event.deltaMode === 2 ? 400 : 1;
    const factor = Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.002));
    viewer.zoomBy(Math.min(4, Math.max(0.25, factor)), p.x, p.y, Math.abs(event.deltaY * unit) >= 50 ? 140 : 0);
  }, {passive: false});

  element.addEventListener('dblclick', (event) => {
    if (viewer.tool) viewer.tool.end();
    else {
      const p = place(event);
      viewer.zoomBy(event.shiftKey ? 0.5 : 2, p.x, p.y, 220);
    }
  });

  element.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== element) return;
    if (key(viewer, event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  });
}

/** @param {Viewer} viewer @param {KeyboardEvent} event @returns {boolean} whether the key means something */
export function key(viewer, event) {
  const step = event.shiftKey ? 0.5 : 0.15;
  /** @param {number} dx @param {number} dy */
  const pan = (dx, dy) => {
    const from = viewer.goal;
    const [x, y] = invert(toScreen(from, viewer), viewer.width * (0.5 + dx * step), viewer.height * (0.5 + dy * step));
    viewer.glideTo(viewer.bounded({...from, x, y}), 160);
  };
  const zoom = (/** @type {number} */ factor) => viewer.zoomBy(factor, viewer.width / 2, viewer.height / 2, 140);
  /** @type {Record<string, () => void>} */
  const keys = {
    ArrowLeft: () => pan(-1, 0), ArrowRight: () => pan(1, 0), ArrowUp: () => pan(0, -1), ArrowDown: () => pan(0, 1),
    '+': () => zoom(1.5), '=': () => zoom(1.5), '-': () => zoom(1 / 1.5), _: () => zoom(1 / 1.5),
    0: () => viewer.fit(), Home: () => viewer.fit(), 1: () => viewer.actualSize(),
    PageUp: () => viewer.step('z', 1), PageDown: () => viewer.step('z', -1),
    '.': () => viewer.step('t', 1), ',': () => viewer.step('t', -1),
    r: () => viewer.turn(90), R: () => viewer.turn(-90), f: () => viewer.mirror(), v: () => viewer.mirror(true),
    n: () => viewer.set({smooth: !viewer.state.smooth}), a: () => viewer.autoContrast(),
    Escape: () => viewer.tool?.end(), Enter: () => viewer.tool?.end(), Backspace: () => viewer.tool?.back(),
  };
  const done = keys[event.key];
  if (done) done();
  else viewer.emit('key', event);
  return Boolean(done);
}

