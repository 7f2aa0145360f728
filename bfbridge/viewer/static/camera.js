/** What part of an image is seen: position, scale, rotation, mirroring. */

/** @import {Frame, Matrix, View} from './types.js' */

/** @param {View} view @param {Frame} frame @param {number} [ratio] device pixels @returns {Matrix} */
export function toScreen(view, {width, height}, ratio = 1) {
  const turn = (view.angle * Math.PI) / 180;
  const scale = view.zoom * ratio;
  const cos = exact(Math.cos(turn)) * scale, sin = exact(Math.sin(turn)) * scale;
  const mirror = view.flip ? -1 : 1;
  const a = cos * mirror, b = sin * mirror, c = -sin, d = cos;
  return [a, b, c, d, (width * ratio) / 2 - a * view.x - c * view.y, (height * ratio) / 2 - b * view.x - d * view.y];
}

/** Sine and cosine of right angles are not exact. @param {number} value */
const exact = (value) => (Math.abs(value - Math.round(value)) < 1e-12 ? Math.round(value) : value);

/** @param {Matrix} m @param {number} x @param {number} y @returns {[number, number]} */
export const apply = (m, x, y) => [m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5]];

/** @param {Matrix} m @param {number} x @param {number} y @returns {[number, number]} */
export function invert(m, x, y) {
  const det = m[0] * m[3] - m[1] * m[2];
  const dx = x - m[4], dy = y - m[5];
  return [(m[3] * dx - m[2] * dy) / det, (m[0] * dy - m[1] * dx) / det];
}

/** The box of image pixels that is seen. @param {View} view @param {Frame} frame */
export function seenBox(view, frame) {
  const {width, height} = frame, m = toScreen(view, frame);
  const corners = [[0, 0], [width, 0], [0, height], [width, height]].map(([x, y]) => invert(m, x, y));
  const xs = corners.map((c) => c[0]), ys = corners.map((c) => c[1]);
  return {left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys)};
}

/** The view that shows the whole image. @param {{width: number, height: number}} size @param {Frame} frame @param {View} from @returns {View} */
export function fitted({width: w, height: h}, {width, height}, from) {
  const turned = Math.abs(Math.sin((from.angle * Math.PI) / 180)) > 0.7;
  const zoom = Math.min(width / (turned ? h : w), height / (turned ? w : h)) * 0.98;
  return {...from, x: w / 2, y: h / 2, zoom};
}

/** Zoom about a place on the screen. @param {View} view @param {number} factor @param {number} px @param {number} py @param {Frame} frame @returns {View} */
export function zoomed(view, factor, px, py, frame) {
  const [x, y] = invert(toScreen(view, frame), px, py);
  return moved({...view, zoom: view.zoom * factor}, x, y, px, py, frame);
}

/** Bring an image place to a place on the screen. @param {View} view @param {number} x @param {number} y @param {number} px @param {number} py @param {Frame} frame @returns {View} */
export function moved(view, x, y, px, py, frame) {
  const [hereX, hereY] = invert(toScreen(view, frame), px, py);
  return {...view, x: view.x + x - hereX, y: view.y + y - hereY};
}

/** @param {View} a @param {View} b @param {number} share @returns {View} */
export function between(a, b, share) {
  // Zoom in equal ratios, and the centre so that the fixed point stays fixed.
  const zoom = a.zoom * (b.zoom / a.zoom) ** share;
  const way = Math.abs(b.zoom / a.zoom - 1) < 1e-6 ? share : (1 / a.zoom - 1 / zoom) / (1 / a.zoom - 1 / b.zoom);
  return {...b, zoom, x: a.x + (b.x - a.x) * way, y: a.y + (b.y - a.y) * way};
}
