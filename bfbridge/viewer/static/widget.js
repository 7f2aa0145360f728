/** The viewer in a notebook: tiles travel over the notebook's own connection. */

import {App} from './app.js';
import {SourceError, decode} from './source.js';

/** @import {TileRequest} from './types.js' */

/** @typedef {{get(name: string): any, set(name: string, value: any): void, save_changes(): void, send(content: any): void,
 *   on(name: string, done: (...args: any[]) => void): void, off(name: string, done: (...args: any[]) => void): void}} Model */

/** The kernel as a source. */
class KernelSource {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    this.prefix = Math.random().toString(36).slice(2);
    this.count = 0;
    /** @type {Map<string, {resolve: (reply: any) => void, reject: (error: unknown) => void}>} */
    this.waiting = new Map();
    this.heard = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
      const waiting = this.waiting.get(content.id);
      if (!waiting) return;
      this.waiting.delete(content.id);
      if (content.error) waiting.reject(new SourceError(content.status, content.error));
      else waiting.resolve({...content, buffers});
    };
    model.on('msg:custom', this.heard);
  }

  close() {
    this.model.off('msg:custom', this.heard);
  }

  /** @param {string} kind @param {any} asked @param {AbortSignal} [signal] @returns {Promise<any>} */
  ask(kind, asked, signal) {
    const id = `${this.prefix}-${this.count++}`;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, {resolve, reject});
      signal?.addEventListener('abort', () => {
        if (!this.waiting.delete(id)) return;
        this.model.send({id, kind: 'abort'});
        reject(signal.reason);
      });
      this.model.send({id, kind, ...asked});
    });
  }

  /** @param {string} file @param {number} series */
  async info(file, series) {
    return (await this.ask('info', {series})).content;
  }

  /** @param {string} file @param {number} series @param {number[]} channels @param {number} [z] @param {number} [t] */
  async histogram(file, series, channels, z, t) {
    return (await this.ask('histogram', {series, channels, z: z ?? null, t: t ?? null})).content.channels;
  }

  /** @param {string} file @param {string} version @param {TileRequest} tile @param {AbortSignal} signal */
  async raw(file, version, tile, signal) {
    const {content, buffers} = await this.ask('raw', tile, signal);
    const view = buffers[0];
    // Copied: typed arrays begin at multiples of their item size.
    const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    return decode(bytes, content.dtype, tile.channels.length);
  }

  /** @param {'ome'|'metadata'} route */
  async text(route) {
    return (await this.ask(route, {})).content;
  }
}

/** Notebooks have themes of their own: JupyterLab, VS Code, marimo. */
function themeOfNotebook() {
  const {body, documentElement} = document;
  const theme = body.dataset.jpThemeLight;
  if (theme) return theme === 'true' ? 'light' : 'dark';
  const dark = body.matches('.vscode-dark, .vscode-high-contrast') || documentElement.classList.contains('dark') || body.classList.contains('dark');
  return dark ? 'dark' : 'light';
}

/** @param {{model: Model, el: HTMLElement}} cell */
function render({model, el}) {
  const root = document.createElement('div');
  root.style.height = `${model.get('height')}px`;
  el.append(root);
  root.dataset.theme = themeOfNotebook();
  const source = new KernelSource(model);
  const app = new App(root, source, model.get('_palettes'), {compact: true});
  const {viewer} = app;
  let hushed = false;
  let timer = 0;
  const tell = () => {
    const {state, goal, info} = viewer;
    if (!info) return;
    model.set('series', info.image.index);
    model.set('z', state.z);
    model.set('t', state.t);
    model.set('center', [goal.x, goal.y]);
    model.set('zoom', goal.zoom);
    model.set('channels', state.channels);
    model.set('shapes', viewer.shapes.filter((s) => !s.fixed).map(({kind, points, closed, text}) => ({kind, points, closed, text: text ?? ''})));
    model.save_changes();
  };
  const later = () => {
    if (hushed) return;
    clearTimeout(timer);
    timer = window.setTimeout(tell, 200);
  };
  for (const name of ['change', 'view', 'open']) viewer.addEventListener(name, later);
  const same = (/** @type {unknown} */ a, /** @type {unknown} */ b) => JSON.stringify(a) === JSON.stringify(b);
  const obey = () => {
    if (!viewer.info) return;
    hushed = true;
    const {state, goal} = viewer;
    if (model.get('series') !== viewer.info.image.index) app.open(model.get('_name'), model.get('series'));
    const z = model.get('z') ?? state.z, t = model.get('t') ?? state.t, channels = model.get('channels');
    if (z !== state.z || t !== state.t) viewer.set({z, t});
    if (channels.length === state.channels.length && !same(channels, state.channels)) viewer.set({channels});
    const [x, y] = model.get('center'), zoom = model.get('zoom');
    if (zoom > 0 && !same([x, y, zoom], [goal.x, goal.y, goal.zoom])) viewer.lookAt({...goal, x, y, zoom});
    hushed = false;
  };
  const names = ['series', 'z', 't', 'channels', 'center', 'zoom'];
  for (const name of names) model.on(`change:${name}`, obey);
  const [x, y] = model.get('center'), zoom = model.get('zoom');
  const state = {z: model.get('z') ?? undefined, t: model.get('t') ?? undefined, channels: model.get('channels')};
  Object.assign(el, {bfbridge: app});
  app.open(model.get('_name'), model.get('series'), {state, view: zoom > 0 ? {x, y, zoom} : {}}).then(obey); // traits may have been set while it was opened
  return () => {
    for (const name of names) model.off(`change:${name}`, obey);
    clearTimeout(timer);
    viewer.close();
    source.close();
  };
}

export default {render};
