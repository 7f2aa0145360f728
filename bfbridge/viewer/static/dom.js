/** Elements and icons. */

/**
 * Make an element. Properties named `on...` are listeners, those with a dash are attributes.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Record<string, any>} [properties] @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  if (tag === 'button') element.setAttribute('type', 'button');
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name.includes('-') || name === 'role' || name === 'list') element.setAttribute(name, value);
    else Object.assign(element, {[name]: value});
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map((child) => /** @type {Node|string} */ (child)));
  return element;
}

/** Paths in a square of 24. @type {Record<string, string>} */
const ICONS = {
  folder: 'M3 6h6l2 2.500h10V19H3z', menu: 'M4 6h16M4 12h16M4 18h16', plus: 'M12 5v14M5 12h14', minus: 'M5 12h14', close: 'M6 6l12 12M18 6L6 18',
  fit: 'M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5', full: 'M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5M9 9h6v6H9z',
  turn: 'M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6', flip: 'M12 3v18M9 7l-6 10h6zM15 7l6 10h-6z',
  smooth: 'M3 17c5 0 5-10 9-10s4 10 9 10', ruler: 'M3 16L16 3l5 5L8 21zM7 12l2 2M10 9l2 2M13 6l2 2', area: 'M5 7l8-3 7 7-5 9-9-3z',
  camera: 'M4 8h4l2-3h4l2 3h4v11H4zM12 10.500a3 3 0 1 0 .01 0z', link: 'M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1',
  theme: 'M12 4a8 8 0 1 0 8 8 6 6 0 0 1-8-8z', sliders: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4', compare: 'M12 4v16M4 5h16v14H4z',
  help: 'M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 17.500v.5', play: 'M8 5l11 7-11 7z', pause: 'M8 5v14M16 5v14',
  info: 'M12 11v6M12 7.500v.5M12 3a9 9 0 1 0 .01 0z',
};

/** @param {string} name one of the icons, or a path in a square of 24 */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name] ?? name);
  svg.append(path);
  return svg;
}

/** A button with an icon. @param {string} name @param {string} label @param {() => void} done @param {Record<string, any>} [more] */
export const button = (name, label, done, more = {}) => h('button', {className: 'icon', title: label, 'aria-label': label, onclick: done, ...more}, icon(name));

/** A button with a word. @param {string} text @param {() => void} done @param {Record<string, any>} [more] */
export const small = (text, done, more = {}) => h('button', {className: 'small', onclick: done, ...more}, text);

/** @param {HTMLCanvasElement} canvas */
export const pen = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
