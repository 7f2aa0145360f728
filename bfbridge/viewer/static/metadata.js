/** What a file says of itself. */

import {h, small} from './dom.js';

/** @import {FileInfo, Quantity} from './types.js' */
/** @import {Viewer} from './viewer.js' */

/** The dialog with metadata. @param {Viewer} viewer */
export function metadataDialog(viewer) {
  const search = h('input', {type: 'search', placeholder: 'Search', 'aria-label': 'Search metadata', oninput: () => show()});
  const body = h('div', {className: 'scroll'});
  const tabs = /** @type {const} */ (['File', 'OME', 'Original']).map((name) => h('button', {role: 'tab', onclick: () => choose(name)}, name));
  const dialog = h('dialog', {className: 'metadata', 'aria-label': 'Metadata'}, h('header', {}, h('div', {role: 'tablist'}, ...tabs), search, small('close', () => dialog.close())), body);
  /** @type {[string, string][]} */
  let rows = [];
  const show = () => {
    const wanted = search.value.toLowerCase();
    const found = rows.filter(([k, v]) => `${k} ${v}`.toLowerCase().includes(wanted));
    body.replaceChildren(h('table', {}, h('tbody', {}, ...found.slice(0, 2000).map(([k, v]) => h('tr', {}, h('th', {scope: 'row'}, k), h('td', {}, v))))),
      h('p', {className: 'note'}, found.length ? `${found.length} entries` : 'Nothing found.'));
  };
  const choose = async (/** @type {'File'|'OME'|'Original'} */ name) => {
    tabs.forEach((tab) => tab.setAttribute('aria-selected', String(tab.textContent === name)));
    const {info, file} = viewer;
    if (!info || !file) return;
    rows = [];
    body.replaceChildren(h('p', {className: 'note'}, 'Loading\u2026'));
    try {
      if (name === 'File') rows = summary(viewer);
      else if (name === 'OME') rows = flattened(new DOMParser().parseFromString(await viewer.source.text('ome', file), 'application/xml').documentElement);
      else rows = Object.entries(JSON.parse(await viewer.source.text('metadata', file)).entries);
      show();
    } catch (error) {
      body.replaceChildren(h('p', {className: 'note'}, error instanceof Error ? error.message : String(error)));
    }
  };
  return {dialog, open: () => {
    dialog.showModal();
    choose('File');
  }};
}

/** @param {Viewer} viewer @returns {[string, string][]} */
function summary(viewer) {
  const info = /** @type {FileInfo} */ (viewer.info), {image} = info;
  const size = (/** @type {Quantity} */ q) => (q ? `${q.value} ${q.unit}` : 'not known');
  return [
    ['file', info.name], ['backend', info.backend], ['chosen because', info.backendReason], ['images', String(info.series.length)],
    ['image', image.name || String(image.index + 1)], ...Object.entries(image.sizes).map(([a, n]) => /** @type {[string, string]} */ ([`size ${a}`, String(n)])),
    ['pixel type', image.dtype], ['samples per pixel', String(image.samples)],
    ...(/** @type {const} */ (['x', 'y', 'z'])).map((a) => /** @type {[string, string]} */ ([`pixel size ${a}`, size(image.pixelSize[a])])),
    ...image.channels.map((c) => /** @type {[string, string]} */ ([`channel ${c.index + 1}`, [c.name?.trim() || (image.kind === 'rgb' ? 'RGB' : '\u2013'), c.emission && `emission ${size(c.emission)}`, c.excitation && `excitation ${size(c.excitation)}`].filter(Boolean).join(', ')])),
  ];
}

/** @param {Element} element @param {string} [path] @returns {[string, string][]} */
function flattened(element, path = '') {
  const here = path ? `${path} \u203a ${element.localName}` : element.localName;
  const own = [...element.attributes].filter((a) => !a.name.startsWith('xmlns')).map((a) => /** @type {[string, string]} */ ([`${here} \u203a ${a.localName}`, a.value]));
  const text = element.children.length ? '' : element.textContent?.trim() ?? '';
  return [...own, ...(text ? [/** @type {[string, string]} */ ([here, text])] : []), ...[...element.children].flatMap((child) => flattened(child, here))];
}
