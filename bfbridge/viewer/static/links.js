/** The view in a link. */

/** @import {App} from './app.js' */
/** @import {State, View} from './types.js' */
/** @import {Viewer} from './viewer.js' */

/** What a page shows, without the file. @param {Viewer} viewer @returns {string} */
export function toLink(viewer) {
  const {state, goal, info} = viewer;
  const round = (/** @type {number} */ v) => String(Number(v.toPrecision(7)));
  const initial = viewer.defaults();
  const parts = new URLSearchParams({s: String(info?.image.index ?? 0), z: String(state.z), t: String(state.t)});
  if (!viewer.fitting) {
    parts.set('x', round(goal.x));
    parts.set('y', round(goal.y));
    parts.set('zoom', round(goal.zoom));
  }
  if (goal.angle) parts.set('angle', round(goal.angle));
  if (goal.flip) parts.set('flip', '1');
  if (!state.smooth) parts.set('sharp', '1');
  if (state.overlay) parts.set('labels', `${state.overlay.series},${round(state.overlay.opacity)},${state.overlay.picked}`);
  if (JSON.stringify(initial) !== JSON.stringify(state.channels)) {
    parts.set('c', state.channels.map((c) => [c.active ? 1 : 0, c.color.slice(1), round(c.low), round(c.high), round(c.gamma), c.invert ? 1 : 0, round(c.opacity), c.palette ?? ''].join(',')).join(';'));
  }
  return parts.toString();
}

/** @param {string} link @returns {{series: number, wanted: {state: Partial<State>, view: Partial<View>}}} */
export function fromLink(link) {
  const parts = new URLSearchParams(link);
  const number = (/** @type {string} */ name) => {
    const text = parts.get(name), value = Number(text);
    return text === null || !Number.isFinite(value) ? undefined : value;
  };
  /** @type {any} */
  const view = {}, /** @type {any} */ state = {z: number('z'), t: number('t'), smooth: !parts.has('sharp')};
  for (const name of ['x', 'y', 'zoom', 'angle']) if (number(name) !== undefined) view[name] = number(name);
  if (!(view.zoom > 0)) delete view.zoom;
  if (parts.has('flip')) view.flip = true;
  const [series, opacity, picked] = (parts.get('labels') ?? '').split(',').map(Number);
  if (parts.has('labels') && Number.isInteger(series)) state.overlay = {series, opacity: opacity || 0, picked: picked || 0};
  const channels = (parts.get('c') ?? '').split(';').filter(Boolean).map((text) => {
    const [active, color, low, high, gamma, inverted, shown, palette] = text.split(',');
    return {active: active === '1', color: `#${color}`, palette: palette || null, low: Number(low), high: Number(high), gamma: Number(gamma), invert: inverted === '1', opacity: Number(shown)};
  });
  if (channels.length && channels.every((c) => /^#[0-9a-f]{6}$/.test(c.color) && [c.low, c.high, c.opacity].every(Number.isFinite) && c.gamma > 0)) state.channels = channels;
  return {series: number('s') ?? 0, wanted: {state, view}};
}

/** @param {App} app */
export function copyLink(app) {
  navigator.clipboard?.writeText(location.href).then(() => app.say('Link copied.'), () => app.say('The link is in the address bar.'));
}
