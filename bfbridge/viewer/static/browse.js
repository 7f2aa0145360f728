/** What can be chosen: files, series, wells, associated images; and what a file says of itself. */

import {h, icon, small} from './dom.js';

/** @import {FileInfo, Listing, PlateInfo, Quantity, SeriesInfo, Source} from './source.js' */
/** @import {Viewer} from './viewer.js' */

const MOST_SHOWN = 400;

/** Files of the server. @param {Source} source @param {(file: string) => void} choose @param {() => string|undefined} current */
export function fileList(source, choose, current) {
  const list = h('ul', {className: 'files'});
  const path = h('nav', {className: 'path', 'aria-label': 'Folder'});
  const filter = h('input', {type: 'search', placeholder: 'Filter', 'aria-label': 'Filter files', oninput: () => show()});
  const element = h('section', {className: 'panel', 'aria-label': 'Files'}, h('header', {}, h('h2', {}, 'Files'), filter), path, list);
  /** @type {Listing} */
  let listing = {folder: '', folders: [], images: [], truncated: false};
  const join = (/** @type {string} */ name) => (listing.folder ? `${listing.folder}/${name}` : name);
  const show = () => {
    const wanted = filter.value.toLowerCase();
    const fits = (/** @type {string} */ name) => name.toLowerCase().includes(wanted);
    const images = listing.images.filter(fits);
    list.replaceChildren(
      ...listing.folders.filter(fits).map((name) => h('li', {}, h('button', {className: 'row', onclick: () => go(join(name))}, h('span', {className: 'folder'}, icon('folder')), name))),
      ...images.slice(0, MOST_SHOWN).map((name) => h('li', {}, h('button', {className: 'row', 'aria-current': String(join(name) === current()), onclick: () => choose(join(name))},
        h('img', {loading: 'lazy', alt: '', src: source.thumbnail?.(join(name), 0, 96) ?? '', onerror: (/** @type {Event} */ e) => /** @type {HTMLElement} */ (e.target).classList.add('none')}), name))));
    if (images.length > MOST_SHOWN || listing.truncated) list.append(h('li', {className: 'note'}, `${images.length} files; filter to see others.`));
    if (!images.length && !listing.folders.length) list.append(h('li', {className: 'note'}, 'There are no images in this folder.'));
  };
  const go = async (/** @type {string} */ folder) => {
    if (!source.list) return;
    listing = await source.list(folder);
    const parts = folder ? folder.split('/') : [];
    path.replaceChildren(...['All', ...parts].flatMap((name, i) => [i ? ' / ' : '', small(name, () => go(parts.slice(0, i).join('/')))]));
    path.hidden = !parts.length;
    element.hidden = parts.length === 0 && listing.images.length + listing.folders.length < 2;
    show();
  };
  return {element, go, show, several: () => listing.folder !== '' || listing.images.length + listing.folders.length > 1};
}

/** Series of a file, as wells where there is a plate. @param {Viewer} viewer @param {(series: number) => void} choose */
export function seriesList(viewer, choose) {
  const element = h('section', {className: 'panel', 'aria-label': 'Images of the file', hidden: true});
  const thumb = (/** @type {number} */ series, /** @type {number} */ size) => {
    const src = viewer.source.thumbnail?.(viewer.file ?? '', series, size);
    return src ? h('img', {loading: 'lazy', alt: '', src}) : h('span', {className: 'blank'});
  };
  viewer.addEventListener('open', () => {
    const info = viewer.info;
    if (!info) return;
    const here = info.image.index;
    element.hidden = info.series.length < 2;
    const row = (/** @type {SeriesInfo} */ s) => h('li', {}, h('button', {className: 'row', 'aria-current': String(s.index === here), onclick: () => choose(s.index)},
      thumb(s.index, 96), h('span', {}, s.name || `Image ${s.index + 1}`, h('small', {}, `${s.sizes.X} \u00d7 ${s.sizes.Y}${s.role === 'image' ? '' : ` \u00b7 ${s.role}`}${s.mask ? ' \u00b7 labels' : ''}`))));
    const inPlate = new Set(info.plates.flatMap((p) => p.wells.flatMap((w) => w.fields)));
    const plain = info.series.filter((s) => !inPlate.has(s.index));
    const main = plain.filter((s) => s.role === 'image'), others = plain.filter((s) => s.role !== 'image');
    const group = (/** @type {string} */ title, /** @type {SeriesInfo[]} */ items) => (items.length ? [h('header', {}, h('h2', {}, title)), h('ul', {className: 'files'}, ...items.slice(0, MOST_SHOWN).map(row))] : []);
    element.replaceChildren(...info.plates.flatMap((p) => plateMap(p, here, choose, thumb)), ...group('Images', main), ...group('Associated images', others));
  });
  return element;
}

/** @param {PlateInfo} plate @param {number} here @param {(series: number) => void} choose @param {(series: number, size: number) => HTMLElement} thumb */
function plateMap(plate, here, choose, thumb) {
  const letters = (/** @type {number} */ n) => (n >= 26 ? String.fromCharCode(64 + Math.floor(n / 26)) : '') + String.fromCharCode(65 + (n % 26));
  const wells = new Map(plate.wells.map((w) => [w.row * plate.columns + w.column, w]));
  const current = plate.wells.find((w) => w.fields.includes(here));
  const table = h('table', {className: 'plate'}, h('thead', {}, h('tr', {}, h('th', {}), ...Array.from({length: plate.columns}, (_, c) => h('th', {scope: 'col'}, String(c + 1))))),
    h('tbody', {}, ...Array.from({length: plate.rows}, (_, r) => h('tr', {}, h('th', {scope: 'row'}, letters(r)), ...Array.from({length: plate.columns}, (_, c) => {
      const well = wells.get(r * plate.columns + c);
      const name = `${letters(r)}${c + 1}`;
      if (!well) return h('td', {className: 'empty'});
      return h('td', {}, h('button', {title: `${name}, ${well.fields.length} fields`, 'aria-label': `Well ${name}`, 'aria-current': String(well === current), onclick: () => choose(well.fields[0])}, thumb(well.fields[0], 64)));
    })))));
  const fields = current && current.fields.length > 1 ? h('div', {className: 'fields'}, `Fields of ${letters(current.row)}${current.column + 1}`, ...current.fields.map((s, i) => h('button', {className: 'small', 'aria-current': String(s === here), onclick: () => choose(s)}, String(i + 1)))) : null;
  return [h('header', {}, h('h2', {}, plate.name || 'Plate')), h('div', {className: 'scroll'}, table), ...(fields ? [fields] : [])];
}

/** What the file says of itself. @param {Viewer} viewer */
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
    ['file', info.name], ['read by', `${info.backend}: ${info.backendReason}`], ['images', String(info.series.length)],
    ['image', image.name || String(image.index + 1)], ...Object.entries(image.sizes).map(([a, n]) => /** @type {[string, string]} */ ([`size ${a}`, String(n)])),
    ['pixel type', image.dtype], ['samples per pixel', String(image.samples)],
    ...(/** @type {const} */ (['x', 'y', 'z'])).map((a) => /** @type {[string, string]} */ ([`pixel size ${a}`, size(image.pixelSize[a])])),
    ...image.channels.map((c) => /** @type {[string, string]} */ ([`channel ${c.index + 1}`, [c.name, c.emission && `emission ${size(c.emission)}`, c.excitation && `excitation ${size(c.excitation)}`].filter(Boolean).join(', ')])),
  ];
}

/** @param {Element} element @param {string} [path] @returns {[string, string][]} */
function flattened(element, path = '') {
  const here = path ? `${path} \u203a ${element.localName}` : element.localName;
  const own = [...element.attributes].filter((a) => !a.name.startsWith('xmlns')).map((a) => /** @type {[string, string]} */ ([`${here} \u203a ${a.localName}`, a.value]));
  const text = element.children.length ? '' : element.textContent?.trim() ?? '';
  return [...own, ...(text ? [/** @type {[string, string]} */ ([here, text])] : []), ...[...element.children].flatMap((child) => flattened(child, here))];
}
