/** What is chosen: files, URLs and folders, with their thumbnails and descriptions. */

import {h, icon, small} from '../../viewer/static/dom.js';
import {encoded} from '../../viewer/static/source.js';
import {errorBox, post} from './requests.js';
import {baseName, bytes, counted, folderOf, pixelSize, sizes} from './text.js';

/** @import {Series, Source} from './types.js' */

const THUMBNAIL = 192;
const MOST_DESCRIBED = 24;
/** More cards are shown without their details. */
const MOST_OPEN = 3;

/** Events: "change". */
export class Chosen extends EventTarget {
  constructor() {
    super();
    /** By path: the description; null while it is read, or after an error. @type {Map<string, Source|null>} */
    this.sources = new Map();
    /** @type {Map<string, HTMLElement>} */
    this.cards = new Map();
    this.compact = false;
    this.count = h('h2');
    this.clear = small('Remove all', () => this.set([]));
    this.cardList = h('ul', {className: 'cards'});
    this.empty = h('p', {className: 'empty'}, 'Choose files in the list. Here you see what they contain; then view or convert them.');
    this.element = h('section', {className: 'card chosen-files', 'aria-label': 'Chosen files'}, h('header', {}, this.count, this.clear), this.cardList, this.empty);
    this.show();
  }

  /** @param {string} path */
  has(path) {
    return this.sources.has(path);
  }

  /** @param {string[]} paths */
  set(paths) {
    for (const path of [...this.sources.keys()]) if (!paths.includes(path)) this.remove(path);
    for (const path of paths) this.add(path);
    this.show();
  }

  /** @param {string} path @param {boolean} on */
  toggle(path, on) {
    if (on) this.add(path);
    else this.remove(path);
    this.show();
  }

  /** @param {string} path */
  remove(path) {
    this.sources.delete(path);
    this.cards.get(path)?.remove();
    this.cards.delete(path);
  }

  /** @param {string} path */
  add(path) {
    if (this.has(path)) return;
    const card = h('li', {className: 'source loading', 'aria-busy': 'true'}, this.head(path), h('p', {className: 'note'}, 'Opening\u2026'));
    this.sources.set(path, null);
    this.cards.set(path, card);
    this.cardList.append(card);
    if (this.sources.size > MOST_DESCRIBED) {
      // Opening hundreds of files takes long, and nobody looks at all of them.
      card.replaceChildren(this.head(path), h('p', {}, small('Show what it contains', () => this.describe(path, card))));
      this.settle(card);
    } else {
      this.describe(path, card);
    }
  }

  /** @param {HTMLElement} card */
  settle(card) {
    card.classList.remove('loading');
    card.removeAttribute('aria-busy');
  }

  /** @param {string} path @param {HTMLElement} card */
  async describe(path, card) {
    try {
      /** @type {Source} */
      const found = await post('choose', {path});
      if (!this.has(path)) return;
      this.sources.set(path, found);
      card.replaceChildren(...(found.folder ? this.folder(found) : this.file(found)));
    } catch (error) {
      card.replaceChildren(this.head(path), errorBox(error));
    }
    this.settle(card);
    this.show();
  }

  /** The name of a source, and the button that removes it. @param {string} path */
  head(path) {
    const name = baseName(path);
    return h('header', {}, h('h3', {title: path}, name), h('button', {className: 'icon', title: 'Remove from the chosen files', 'aria-label': `Remove ${name}`, onclick: () => this.toggle(path, false)}, icon('close')));
  }

  /** @param {Source} source */
  folder(source) {
    return [this.head(source.path), h('p', {}, 'Folder: all images in it and in the folders inside it. Files that belong together are one image.'), h('p', {className: 'soft where'}, source.path)];
  }

  /** @param {Source} source */
  file(source) {
    const [first] = source.series;
    const picture = h('img', {alt: '', loading: 'lazy', src: `thumbnail/${encoded(source.view)}/0.webp?size=${THUMBNAIL}`, onerror: () => picture.classList.add('none')});
    const names = first.channels.map((c) => c.name?.trim()).filter(Boolean);
    const found = first.magnification;
    const belongs = [...this.sources.values()].find((other) => other && other !== source && other.used_files?.includes(source.path));
    const lines = [
      h('p', {}, sizes(first)),
      h('details', {className: 'about', open: this.sources.size <= MOST_OPEN}, h('summary', {}, 'Details'), h('dl', {}, ...[
        ['Pixel size', pixelSize(first)], ['Channels', names.join(', ')], ['Images', source.images > 1 ? source.images.toLocaleString('en') : ''],
        ['Levels', first.levels.length > 1 ? first.levels.map((l) => `${l.sizes.X} \u00d7 ${l.sizes.Y}`).join(', ') : ''],
        ['Magnification', found ? `${found.approximate ? 'about ' : ''}${Number(found.value.toPrecision(3))}\u00d7` : ''],
        ['Size', [source.bytes === null ? '' : bytes(source.bytes), source.files > 1 ? `in ${counted(source.files, 'file')} of one data set` : ''].filter(Boolean).join(' ')],
        ['Folder', folderOf(source.path)], ['Read by', `${source.backend} (${source.backend_reason})`],
      ].filter(([, text]) => text).flatMap(([name, text]) => [h('dt', {}, name), h('dd', {}, text)]))),
    ];
    return [
      this.head(source.path),
      h('div', {className: 'summary'}, h('a', {href: `view/${encoded(source.view)}`, target: '_blank', rel: 'noopener', className: 'picture', tabIndex: -1, 'aria-hidden': 'true'}, picture), h('div', {}, ...lines)),
      source.interrupted && h('p', {className: 'warning'}, source.interrupted),
      belongs && h('p', {className: 'warning'}, `This file belongs to the data set of ${belongs.name}; both are converted once.`),
      source.images > 1 && this.table(source),
      h('p', {className: 'actions'}, h('a', {href: `view/${encoded(source.view)}`, target: '_blank', rel: 'noopener', className: 'small', 'aria-label': `View ${source.name} in a new tab`}, 'View')),
    ].filter((part) => part instanceof Node);
  }

  /** The images of a file. @param {Source} source */
  table(source) {
    const row = (/** @type {Series} */ s) => h('tr', {}, h('td', {}, String(s.index)), h('td', {}, s.name || '\u2013', s.role === 'image' ? '' : ` (${s.role})`), h('td', {}, sizes(s)));
    const more = source.images - source.series.length;
    return h('details', {}, h('summary', {}, `All ${counted(source.images, 'image')}`), h('div', {className: 'scroll'}, h('table', {className: 'plain'},
      h('thead', {}, h('tr', {}, ...['#', 'Name', 'Size'].map((text) => h('th', {scope: 'col'}, text)))), h('tbody', {}, ...source.series.map(row)))), more > 0 && h('p', {className: 'note'}, `and ${counted(more, 'other image')}`));
  }

  show() {
    const {size} = this.sources;
    this.count.textContent = size ? `Chosen: ${size}` : 'Nothing is chosen';
    this.empty.hidden = size > 0;
    this.clear.hidden = size === 0;
    if (this.cardList.classList.toggle('compact', size > MOST_OPEN) !== this.compact) {
      this.compact = !this.compact;
      for (const details of this.cardList.querySelectorAll('details.about')) details.toggleAttribute('open', !this.compact);
    }
    this.dispatchEvent(new Event('change'));
  }
}
