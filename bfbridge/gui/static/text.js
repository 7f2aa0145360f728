/** Numbers, dates and names in words. */

import {short} from '../../viewer/static/units.js';

/** @import {Series} from './types.js' */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** A number of bytes, in decimal units. @param {number} count */
export function bytes(count) {
  let unit = 0;
  while (count >= 999.5 && unit < UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count.toFixed(!unit || count >= 99.5 ? 0 : count >= 9.95 ? 1 : 2)} ${UNITS[unit]}`;
}

/** @param {number} count @param {string} noun @param {string} [plural] */
export const counted = (count, noun, plural = `${noun}s`) => `${count.toLocaleString('en')} ${count === 1 ? noun : plural}`;

/** A time in milliseconds as the date and the time of this place. @param {number} time @returns {[string, string]} */
export function date(time) {
  const at = new Date(time);
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  return [`${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`, `${two(at.getHours())}:${two(at.getMinutes())}`];
}

/** The last part of a path. @param {string} path */
export const baseName = (path) => path.replace(/[/\\]+$/, '').split(/[/\\]/).pop() || path;

/** The folder of a path. @param {string} path */
export const folderOf = (path) => path.replace(/[/\\]+$/, '').replace(/[^/\\]+$/, '');

/** @param {Series} series */
export function sizes({sizes: n, samples_per_pixel: samples, dtype}) {
  const channels = n.C / samples;
  return [
    `${n.X.toLocaleString('en')} \u00d7 ${n.Y.toLocaleString('en')} pixels`, n.Z > 1 && counted(n.Z, 'slice'), (channels > 1 || samples === 1) && counted(channels, 'channel'),
    n.T > 1 && counted(n.T, 'time point'), samples === 3 ? `RGB, ${dtype}` : samples > 1 ? `${samples} samples, ${dtype}` : dtype,
  ].filter(Boolean).join(' \u00b7 ');
}

/** @param {Series} series */
export function pixelSize({pixel_size: size}) {
  const known = (/** @type {const} */ (['x', 'y', 'z'])).map((axis) => size[axis]).filter((q) => q !== null);
  if (!known.length) return 'not known';
  const units = new Set(known.map((q) => q.unit));
  if (units.size === 1) return `${known.map((q) => short(q.value)).join(' \u00d7 ')} ${known[0].unit}`;
  return known.map((q) => `${short(q.value)} ${q.unit}`).join(' \u00d7 ');
}
