/** The page of `bfbridge gui`: files on the left; what is chosen, how it is converted, and the conversions on the right. */

import {button, h} from '../../viewer/static/dom.js';
import {flipTheme} from '../../viewer/static/theme.js';
import {Chosen} from './chosen.js';
import {FileList} from './files.js';
import {Form} from './form.js';
import {Queue} from './queue.js';
import {get, reason} from './requests.js';

/** @import {State} from './types.js' */

const ALIVE = 5000;

async function start() {
  /** @type {State} */
  const state = await get('state');
  const chosen = new Chosen();
  // New files appear in the list.
  const queue = new Queue(state.reveals, () => files.go(files.listing.path));
  /** @type {FileList} */
  const files = new FileList(state.places, {
    has: (path) => chosen.has(path), toggle: (path, on) => chosen.toggle(path, on), moved: (path) => {
      document.title = `${path} - bfbridge`;
    },
  });
  const form = new Form(state, chosen, {folder: () => files.listing.path, added: async () => {
    await queue.update();
    queue.element.scrollIntoView({block: 'nearest'});
  }});
  chosen.addEventListener('change', () => files.update());
  document.body.append(
    h('header', {className: 'top'}, h('h1', {}, 'bfbridge'), h('p', {className: 'soft'}, 'View and convert microscopy images'), button('theme', 'Light or dark', () => flipTheme(document.body))),
    h('main', {className: 'columns'}, files.element, h('div', {className: 'work'}, queue.element, chosen.element, form.element)));
  Object.assign(window, {bfbridge: {chosen, files, form, queue}});
  await Promise.all([files.go(state.start), queue.update()]);
  chosen.set(state.chosen);
  addEventListener('beforeunload', (event) => {
    if (queue.busy) event.preventDefault();
  });
  if (state.watched) watch();
}

/** Tell the server that this page is open, so that it ends when all its pages are closed. */
function watch() {
  const id = Math.random().toString(36).slice(2);
  const tell = (/** @type {string} */ what) => fetch(`page/${what}/${id}`, {keepalive: true, cache: 'no-store'}).catch(() => undefined);
  tell('open');
  setInterval(() => tell('open'), ALIVE);
  addEventListener('pagehide', () => tell('closed'));
  addEventListener('pageshow', () => tell('open'));
}

start().catch((error) => document.body.append(h('div', {className: 'fatal', role: 'alert'}, h('strong', {}, 'The window cannot be shown.'), h('span', {}, reason(error)))));
