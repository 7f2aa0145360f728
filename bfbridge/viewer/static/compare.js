/** A second image beside the first; they move together. */

import {h} from './dom.js';
import {Pane} from './pane.js';

/** @import {App} from './app.js' */
/** @import {Viewer} from './viewer.js' */

let following = false;
/** Removes the second pane. @type {(() => void)|undefined} */
let close;

/** Look at the same part of another image, by its share of the width. @param {Viewer} viewer @param {Viewer} leader */
function follow(viewer, leader) {
  const mine = viewer.info?.image.levels[0].width, its = leader.info?.image.levels[0].width;
  if (!mine || !its || following) return;
  following = true;
  const {view} = leader, scale = mine / its;
  viewer.lookAt({...view, x: view.x * scale, y: view.y * scale, zoom: view.zoom / scale}, {quiet: true});
  following = false;
}

/** Show the same plane of another image. @param {Viewer} viewer @param {Viewer} leader */
function match(viewer, leader) {
  if (!viewer.info) return;
  const {z, t, smooth} = leader.state, {sizes} = viewer.info.image;
  viewer.set({z: Math.min(z, sizes.Z - 1), t: Math.min(t, sizes.T - 1), smooth});
}

/** Show a file beside the first one, or none. @param {App} app @param {string|null} file */
export function compare(app, file) {
  close?.();
  close = undefined;
  app.beside?.setAttribute('aria-pressed', String(Boolean(file)));
  app.panes.classList.toggle('two', Boolean(file));
  app.second = file ? added(app, file) : null;
}

/** @param {App} app @param {string} file */
function added(app, file) {
  const leader = app.viewer, pane = new Pane(app.source, app.palettes, leader.loader), ended = new AbortController();
  const show = (/** @type {string} */ name) => pane.open(name, name === leader.file ? leader.info?.image.index ?? 0 : 0).then(() => follow(pane.viewer, leader), () => undefined);
  const chosen = h('input', {className: 'chosen', value: file, 'aria-label': 'File of the second pane', list: 'bfbridge-files', onchange: () => show(chosen.value)});
  const names = h('datalist', {id: 'bfbridge-files'});
  const folder = file.split('/').slice(0, -1).join('/');
  app.source.list?.(folder).then((found) => names.append(...found.images.map((name) => h('option', {value: folder ? `${folder}/${name}` : name}))), () => undefined);
  pane.element.append(chosen, names);
  app.panes.append(pane.element);
  pane.recolor();
  leader.addEventListener('view', () => follow(pane.viewer, leader), {signal: ended.signal});
  leader.addEventListener('change', () => match(pane.viewer, leader), {signal: ended.signal});
  pane.viewer.addEventListener('view', () => follow(leader, pane.viewer));
  close = () => {
    ended.abort();
    pane.viewer.close();
    pane.element.remove();
  };
  show(file);
  return pane;
}
