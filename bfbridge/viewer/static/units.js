/** Lengths and numbers in words. */

/** @import {Quantity} from './types.js' */

/** Metres in units of length, as OME names them. @type {Record<string, number>} */
const METRES = {
  m: 1, meter: 1, metre: 1, cm: 1e-2, centimeter: 1e-2, mm: 1e-3, millimeter: 1e-3, '\u00b5m': 1e-6, '\u03bcm': 1e-6, um: 1e-6,
  micrometer: 1e-6, micron: 1e-6, nm: 1e-9, nanometer: 1e-9, pm: 1e-12, picometer: 1e-12, '\u00c5': 1e-10, '\u212b': 1e-10, angstrom: 1e-10,
  in: 0.0254, inch: 0.0254, km: 1e3, dm: 0.1, ft: 0.3048, mi: 1609.344, yd: 0.9144, pt: 0.0254 / 72, thou: 2.54e-5, li: 0.0254 / 12,
};
/** @type {[number, string][]} */
const SHOWN = [[1, 'm'], [1e-3, 'mm'], [1e-6, '\u00b5m'], [1e-9, 'nm'], [1e-12, 'pm']];

/** @param {Quantity} size @returns {number|null} metres */
export function metres(size) {
  const unit = size && METRES[size.unit];
  return size && unit && size.value > 0 ? size.value * unit : null;
}

/** @param {number} value @param {number} [digits] */
export function short(value, digits = 4) {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  return String(Number(value.toPrecision(digits)));
}

/** A length in metres in the unit that suits it. @param {number} length @param {1|2} [power] 2 for areas */
export function inWords(length, power = 1) {
  const [size, name] = SHOWN.find(([s]) => Math.abs(length) >= s ** power * 0.99999) ?? SHOWN[SHOWN.length - 1];
  return `${short(length / size ** power)} ${name}${power === 2 ? '\u00b2' : ''}`;
}

/** The bar for a scale: 1, 2 or 5 times a power of ten, 60 to 160 CSS pixels. @param {Quantity} pixel @param {number} zoom CSS pixels for one of the image */
export function scaleBar(pixel, zoom) {
  const size = metres(pixel);
  const unit = (size ?? 1) / zoom;
  const most = 160 * unit;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((n) => n * power).find((l) => l <= most * 1.0000001) ?? power;
  if (!size && length < 1) return null;
  return {width: length / unit, length, text: size ? inWords(length) : `${short(length)} px`};
}
