/** The list of the computer's folders and files. */

import {button, h, icon, small} from '../../viewer/static/dom.js';
import {errorBox, post} from './requests.js';
import {bytes, counted, date} from './text.js';

/** @import {Entry, Listing, Place} from './types.js' */

const MOST_SHOWN = 500;
const UP = 'M12 19V5M5 12l7-7 7 7', IMAGE = 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01', FILE = 'M6 3h8l4 4v14H6zM14 3v4h4';
/** @type {[keyof Entry, string][]} */
const COLUMNS = [['name', 'Name'], ['size', 'Size'], ['modified', 'Changed'], ['label', 'Kind']];

export class FileList {
  /**
   * @param {Place[]} places
   * @param {{has: (path: string) => boolean, toggle: (path: string, on: boolean) => void, moved: (path: string) => void}} chosen
   */
  constructor(places, chosen) {
    this.chosen = chosen;
    /** @type {Listing} */ this.listing = {path: '', parent: null, parts: [], entries: [], truncated: false};
    /** @type {keyof Entry} */ this.order = 'name';
    this.descending = false;
    this.asked = 0;
    this.address = h('input', {type: 'text', placeholder: 'Path or URL', 'aria-label': 'Path or URL', spellcheck: false, autocomplete: 'off'});
    this.filter = h('input', {type: 'search', placeholder: 'Filter', 'aria-label': 'Filter by name', oninput: () => this.show()});
    this.images = h('input', {type: 'checkbox', onchange: () => this.show()});
    this.hidden = h('input', {type: 'checkbox', onchange: () => this.go(this.listing.path)});
    this.up = button(UP, 'Folder above', () => this.listing.parent && this.go(this.listing.parent));
    this.path = h('nav', {className: 'path', 'aria-label': 'Folder'});
    this.places = h('select', {'aria-label': 'Places', onchange: () => {
      this.go(this.places.value);
      this.places.value = '';
    }}, h('option', {value: '', textContent: 'Places', hidden: true}), ...places.map(({name, path}) => h('option', {value: path, textContent: name, title: path})));
    this.message = h('div');
    this.rows = h('tbody');
    this.heads = COLUMNS.map(([key, text]) => h('th', {scope: 'col', className: `col-${key}`}, h('button', {onclick: () => this.sort(key)}, text)));
    this.note = h('p', {className: 'note', role: 'status'});
    this.element = h('section', {className: 'card browser', 'aria-label': 'Files on this computer'},
      h('form', {className: 'address', onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        this.go(this.address.value);
      }}, this.places, this.address, h('button', {type: 'submit', className: 'small'}, 'Go')),
      h('div', {className: 'bar'}, this.up, this.path),
      h('div', {className: 'bar'}, this.filter, h('label', {}, this.images, 'Images only'), h('label', {}, this.hidden, 'Hidden files'), small('Choose this folder', () => this.chosen.toggle(this.listing.path, true))),
      this.message,
      h('div', {className: 'scroll', tabIndex: -1}, h('table', {className: 'entries'}, h('thead', {}, h('tr', {}, h('th', {scope: 'col', className: 'col-pick'}, h('span', {className: 'unseen'}, 'Chosen')), ...this.heads)), this.rows)),
      this.note);
  }

  /** Show a folder, or choose a file or URL. @param {string} path */
  async go(path) {
    const asked = ++this.asked;
    try {
      const found = await post('folder', {path, hidden: this.hidden.checked});
      if (asked !== this.asked) return;
      this.message.replaceChildren();
      if (found.source) {
        this.chosen.toggle(found.source, true);
        this.address.value = '';
        return;
      }
      const same = found.path === this.listing.path;
      if (!same) this.filter.value = '';
      this.listing = found;
      this.show();
      if (!same) this.rows.closest('.scroll')?.scrollTo(0, 0);
      this.chosen.moved(found.path);
    } catch (error) {
      this.message.replaceChildren(errorBox(error));
    }
  }

  /** @param {keyof Entry} key */
  sort(key) {
    this.descending = this.order === key && !this.descending;
    this.order = key;
    this.show();
  }

  sorted() {
    const {order} = this, sign = this.descending ? -1 : 1;
    const wanted = this.filter.value.toLowerCase();
    const fits = (/** @type {Entry} */ e) => e.name.toLowerCase().includes(wanted) && (!this.images.checked || e.kind !== 'file');
    return this.listing.entries.filter(fits).sort((a, b) => {
      if ((a.kind === 'folder') !== (b.kind === 'folder')) return a.kind === 'folder' ? -1 : 1;
      const x = a[order], y = b[order];
      if (typeof x === 'string' && typeof y === 'string') return sign * x.localeCompare(y, 'en', {numeric: true});
      return sign * (Number(x ?? -1) - Number(y ?? -1));
    });
  }

  show() {
    const {listing} = this, found = this.sorted(), images = found.filter((e) => e.kind === 'image').length;
    this.path.replaceChildren(...listing.parts.flatMap(({name, path}, i) => [i > 1 && h('span', {'aria-hidden': 'true'}, '/'), h('button', {className: 'crumb', onclick: () => this.go(path), 'aria-current': path === listing.path ? 'location' : undefined}, name)]).filter((part) => part !== false));
    this.path.scrollLeft = this.path.scrollWidth;
    this.up.disabled = listing.parent === null;
    this.heads.forEach((head, i) => {
      const here = COLUMNS[i][0] === this.order;
      if (here) head.setAttribute('aria-sort', this.descending ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    this.rows.replaceChildren(...found.slice(0, MOST_SHOWN).map((entry) => this.row(entry)));
    this.note.textContent = found.length > MOST_SHOWN || listing.truncated ? `${counted(found.length, 'entry', 'entries')}${listing.truncated ? ' and more' : ''}; filter to see others.`
      : found.length ? `${counted(found.length, 'entry', 'entries')}, ${counted(images, 'image')}` : listing.entries.length ? 'Nothing has this name.' : 'This folder is empty.';
  }

  /** @param {Entry} entry */
  row(entry) {
    const folder = entry.kind === 'folder';
    const box = h('input', {type: 'checkbox', checked: this.chosen.has(entry.path), 'aria-label': `Choose ${entry.name}`, onchange: () => this.chosen.toggle(entry.path, box.checked)});
    const open = () => (folder ? this.go(entry.path) : this.chosen.toggle(entry.path, !this.chosen.has(entry.path)));
    const cells = [entry.size === null ? '' : bytes(entry.size), date(entry.modified)[0], entry.label];
    const row = h('tr', {className: `kind-${entry.kind}`}, h('td', {className: 'col-pick'}, box),
      h('td', {className: 'col-name'}, h('button', {className: 'entry-name', onclick: open, title: entry.name}, icon(folder ? 'folder' : entry.kind === 'image' ? IMAGE : FILE), h('span', {}, entry.name))),
      ...cells.map((text, i) => h('td', {className: `col-${COLUMNS[i + 1][0]}`, title: i === 1 ? date(entry.modified).join(' ') : text}, text)));
    row.dataset.path = entry.path;
    return row;
  }

  /** Tick what is chosen. */
  update() {
    for (const row of this.rows.children) {
      const box = row.querySelector('input');
      if (box && row instanceof HTMLElement) box.checked = this.chosen.has(row.dataset.path ?? '');
    }
  }
}
