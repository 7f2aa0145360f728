/** The page of `bfbridge view`: a file in the address, its view behind the #. */

import {App} from './app.js';
import {h} from './dom.js';
import {HttpSource, encoded} from './source.js';

const meta = (/** @type {string} */ name) => document.querySelector(`meta[name="bfbridge-${name}"]`)?.getAttribute('content') ?? '';
const root = new URL(meta('root'), location.href).href;
const source = new HttpSource(root);
const place = (/** @type {string} */ file) => `${root}view/${encoded(file)}`;
/** The file in the address, without the query, which names the second pane. */
const named = () => decodeURIComponent((location.origin + location.pathname).slice(`${root}view/`.length));

async function start() {
  const palettes = await (await fetch(`${root}static/palettes.json`)).json();
  const app = new App(document.body, source, palettes, {
    opened: (file) => {
      document.title = `${file.split('/').pop()} - bfbridge`;
      if (named() !== file) history.pushState(null, '', place(file));
    },
  });
  Object.assign(window, {bfbridge: app});
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => app.use(import('./theme.js'), ({recolor}) => recolor(app)));
  const {viewer} = app;
  const show = async () => {
    const file = named(), link = location.hash.slice(1);
    if (!file) return app.browse(true);
    const {series, wanted} = link ? (await import('./links.js')).fromLink(link) : {series: 0};
    return app.open(file, series, wanted);
  };
  addEventListener('popstate', show);
  viewer.addEventListener('open', () => {
    if ((viewer.info?.series.length ?? 0) > 1 && innerWidth > 900) app.browse(true);
  }, {once: true});
  const beside = meta('beside');
  await show();
  let timer = 0, changed = false;
  const keep = (/** @type {Event} */ {type}) => {
    changed ||= type === 'change';
    clearTimeout(timer);
    timer = window.setTimeout(async () => {
      // The whole image, fitted to another size of the window, is what the address shows already.
      if (!viewer.info || !(changed || location.hash || !viewer.fitting)) return;
      const {toLink} = await import('./links.js');
      history.replaceState(null, '', `#${toLink(viewer)}`);
    }, 300);
  };
  for (const name of ['change', 'view']) viewer.addEventListener(name, keep);
  // Other files of the folder, once the first picture is requested.
  if (named() && innerWidth > 900) {
    source.list(named().split('/').slice(0, -1).join('/')).then((found) => {
      if (found.folder || found.folders.length + found.images.length > 1) app.browse(true, found);
    }, () => undefined);
  }
  if (beside) app.compare(beside);
  app.main.stage.focus();
  const id = Math.random().toString(36).slice(2);
  const tell = (/** @type {string} */ what) => fetch(`${root}page/${what}/${id}`, {keepalive: true, cache: 'no-store'}).then((r) => r.ok, () => {
    if (what === 'open') app.main.failed(new TypeError());
  });
  if (meta('watched')) {
    tell('open');
    setInterval(() => tell('open'), 5000);
    addEventListener('pagehide', () => tell('closed'));
    addEventListener('pageshow', () => tell('open'));
  }
}

start().catch((error) => document.body.append(h('div', {className: 'fatal', role: 'alert'}, h('strong', {}, 'The viewer cannot start.'), h('span', {}, error.message))));
