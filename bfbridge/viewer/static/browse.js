/** What can be chosen: files, series, wells, associated images. */

import {h, icon, small} from './dom.js';

/** @import {App} from './app.js' */
/** @import {Viewer} from './viewer.js' */
/** @import {Listing, PlateInfo, SeriesInfo, Source} from './types.js' */

const MOST_SHOWN = 400;

/** Fill the panel with the files and the images of the open one. @param {App} app @param {Listing} [listing] of the folder, if known */
export function fillBrowser(app, listing) {
  if (app.browser.hasChildNodes()) return;
  const {source, viewer} = app;
  app.browser.append(seriesList(viewer, (series) => app.open(viewer.file ?? '', series)));
  if (!source.list) return;
  const files = fileList(source, (file) => app.open(file, 0), () => viewer.file);
  app.browser.append(files.element);
  viewer.addEventListener('open', files.show);
  if (listing) files.list(listing);
  else app.use(files.go((viewer.file ?? '').split('/').slice(0, -1).join('/')));
}

/** Files of the server. @param {Source} source @param {(file: string) => void} choose @param {() => string|undefined} current */
function fileList(source, choose, current) {
  const rows = h('ul', {className: 'files'});
  const path = h('nav', {className: 'path', 'aria-label': 'Folder'});
  const filter = h('input', {type: 'search', placeholder: 'Filter', 'aria-label': 'Filter files', oninput: () => show()});
  const element = h('section', {className: 'panel', 'aria-label': 'Files'}, h('header', {}, h('h2', {}, 'Files'), filter), path, rows);
  /** @type {Listing} */
  let listing = {folder: '', folders: [], images: [], truncated: false};
  const join = (/** @type {string} */ name) => (listing.folder ? `${listing.folder}/${name}` : name);
  const show = () => {
    const wanted = filter.value.toLowerCase();
    const fits = (/** @type {string} */ name) => name.toLowerCase().includes(wanted);
    const images = listing.images.filter(fits);
    rows.replaceChildren(
      ...listing.folders.filter(fits).map((name) => h('li', {}, h('button', {className: 'row', onclick: () => go(join(name))}, h('span', {className: 'folder'}, icon('folder')), name))),
      ...images.slice(0, MOST_SHOWN).map((name) => h('li', {}, h('button', {className: 'row', 'aria-current': String(join(name) === current()), onclick: () => choose(join(name))},
        h('img', {loading: 'lazy', alt: '', src: source.thumbnail?.(join(name), 0, 96) ?? '', onerror: (/** @type {Event} */ e) => /** @type {HTMLElement} */ (e.target).classList.add('none')}), name))));
    if (images.length > MOST_SHOWN || listing.truncated) rows.append(h('li', {className: 'note'}, `${images.length} files; filter to see others.`));
    if (!images.length && !listing.folders.length) rows.append(h('li', {className: 'note'}, 'There are no images in this folder.'));
  };
  const list = (/** @type {Listing} */ found) => {
    listing = found;
    const parts = listing.folder ? listing.folder.split('/') : [];
    path.replaceChildren(...['All', ...parts].flatMap((name, i) => [i ? ' / ' : '', small(name, () => go(parts.slice(0, i).join('/')))]));
    path.hidden = !parts.length;
    element.hidden = parts.length === 0 && listing.images.length + listing.folders.length < 2;
    show();
  };
  const go = async (/** @type {string} */ folder) => source.list && list(await source.list(folder));
  return {element, go, list, show};
}

/** Series of a file, as wells where there is a plate. @param {Viewer} viewer @param {(series: number) => void} choose */
function seriesList(viewer, choose) {
  const element = h('section', {className: 'panel', 'aria-label': 'Images of the file', hidden: true});
  const thumb = (/** @type {number} */ series, /** @type {number} */ size) => {
    const src = viewer.source.thumbnail?.(viewer.file ?? '', series, size);
    return src ? h('img', {loading: 'lazy', alt: '', src}) : h('span', {className: 'blank'});
  };
  const show = () => {
    const info = viewer.info;
    if (!info) return;
    const here = info.image.index;
    element.hidden = info.series.length < 2;
    const row = (/** @type {SeriesInfo} */ s) => h('li', {}, h('button', {className: 'row', 'aria-current': String(s.index === here), onclick: () => choose(s.index)},
      thumb(s.index, 96), h('span', {}, s.name || `Image ${s.index + 1}`, h('small', {}, [`${s.sizes.X} \u00d7 ${s.sizes.Y}`, s.mask ? 'labels' : s.role !== 'image' && s.role].filter(Boolean).join(' \u00b7 ')))));
    const inPlate = new Set(info.plates.flatMap((p) => p.wells.flatMap((w) => w.fields)));
    const plain = info.series.filter((s) => !inPlate.has(s.index));
    const main = plain.filter((s) => s.role === 'image'), others = plain.filter((s) => s.role !== 'image');
    const group = (/** @type {string} */ title, /** @type {SeriesInfo[]} */ items) => (items.length ? [h('header', {}, h('h2', {}, title)), h('ul', {className: 'files'}, ...items.slice(0, MOST_SHOWN).map(row))] : []);
    element.replaceChildren(...info.plates.flatMap((p) => plateMap(p, here, choose, thumb)), ...group('Images', main), ...group('Associated images', others));
  };
  viewer.addEventListener('open', show);
  show();
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
