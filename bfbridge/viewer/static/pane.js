/** One viewer with its scale bar, status line, messages and sliders. */

import {button, h, icon} from './dom.js';
import {SourceError} from './source.js';
import {inWords, metres, scaleBar, short} from './units.js';
import {Viewer} from './viewer.js';

/** @import {Loader} from './tiles.js' */
/** @import {ImageInfo, Palettes, Source, State, View} from './types.js' */

export class Pane {
  /** @param {Source} source @param {Palettes} palettes @param {Loader} [loader] */
  constructor(source, palettes, loader) {
    this.stage = h('div', {className: 'stage', tabIndex: 0, role: 'application', 'aria-label': 'Image. Arrow keys move, plus and minus zoom, question mark lists all keys.'});
    this.status = h('output', {className: 'status', 'aria-live': 'off'});
    this.bar = h('div', {className: 'scalebar', hidden: true}, h('span'), h('i'));
    this.message = h('div', {className: 'message', role: 'alert', hidden: true});
    this.sliders = h('div', {className: 'sliders'});
    this.level = h('span', {className: 'level'});
    this.foot = h('div', {className: 'foot'}, this.status, this.level);
    this.element = h('div', {className: 'pane'}, this.stage, this.bar, this.message, h('div', {className: 'bottom'}, this.sliders, this.foot));
    this.viewer = new Viewer(this.stage, source, palettes, loader);
    const {viewer} = this;
    viewer.addEventListener('drawn', () => this.drawn());
    viewer.addEventListener('point', () => this.pointed());
    viewer.addEventListener('open', () => this.opened());
    viewer.addEventListener('change', () => this.placeSliders());
    viewer.addEventListener('error', (event) => this.failed(/** @type {CustomEvent} */ (event).detail));
    this.overview = false;
    /** @type {number} */ this.timer = 0;
    /** @type {{range: HTMLInputElement, text: HTMLOutputElement, axis: 'z'|'t'}[]} */ this.axes = [];
  }

  /** @param {string} file @param {number} series @param {{state?: Partial<State>, view?: Partial<View>}} [wanted] */
  async open(file, series, wanted) {
    this.element.classList.add('loading');
    this.message.hidden = true;
    this.play(null);
    try {
      await this.viewer.open(file, series, wanted);
    } catch (error) {
      this.failed(error, file);
      throw error;
    } finally {
      this.element.classList.remove('loading');
    }
  }

  /** @param {unknown} error @param {string} [file] */
  failed(error, file) {
    const lost = !(error instanceof SourceError);
    const text = error instanceof Error ? error.message : String(error);
    this.message.replaceChildren(
      h('strong', {}, lost && error instanceof TypeError ? 'The server does not answer.' : file ? `${file} cannot be shown.` : 'Part of the image cannot be read.'),
      h('span', {}, lost && error instanceof TypeError ? 'It was stopped, or the connection is lost. Start it again; this page reconnects.' : text),
      button('close', 'Dismiss', () => {
        this.message.hidden = true;
      }));
    this.message.hidden = false;
    if (lost && error instanceof TypeError) this.wait();
  }

  /** Look for the server until it answers again. */
  wait() {
    const {source} = this.viewer;
    if (this.waiting || !source.alive) return;
    this.waiting = setInterval(async () => {
      if (!(await source.alive?.())) return;
      clearInterval(this.waiting);
      this.waiting = undefined;
      this.message.hidden = true;
      this.viewer.tiles?.failures.clear();
      this.viewer.redraw();
    }, 2000);
  }

  opened() {
    const {viewer} = this;
    const image = /** @type {ImageInfo} */ (viewer.info?.image);
    this.recolor();
    this.axes = [];
    this.sliders.replaceChildren(...(/** @type {const} */ (['z', 't'])).filter((axis) => image.sizes[axis === 'z' ? 'Z' : 'T'] > 1).map((axis) => {
      const size = image.sizes[axis === 'z' ? 'Z' : 'T'], name = axis === 'z' ? 'Slice' : 'Time';
      const text = h('output');
      const range = h('input', {type: 'range', min: '0', max: String(size - 1), 'aria-label': name, oninput: () => {
        viewer.ahead = {axis, by: Number(range.value) < viewer.state[axis] ? -1 : 1, until: performance.now() + 4000};
        viewer.set({[axis]: Number(range.value)});
      }});
      const play = button('play', `Play along ${axis}`, () => this.play(this.playing === axis ? null : axis));
      play.dataset.axis = axis;
      this.axes.push({range, text, axis});
      return h('div', {className: 'slider'}, play, h('label', {}, name, range), text);
    }));
    this.placeSliders();
  }

  /** Read the colour around the image, which depends on the theme. */
  recolor() {
    this.viewer.background = getComputedStyle(this.viewer.canvas).color.match(/\d+/g)?.slice(0, 3).map(Number) ?? [0, 0, 0];
  }

  placeSliders() {
    for (const {range, text, axis} of this.axes) {
      const value = this.viewer.state[axis];
      range.value = String(value);
      text.value = `${value + 1} / ${Number(range.max) + 1}`;
      range.setAttribute('aria-valuetext', text.value);
    }
  }

  /** Play along an axis, or stop. @param {'z'|'t'|null} axis */
  play(axis) {
    clearInterval(this.timer);
    this.playing = axis;
    for (const element of this.sliders.querySelectorAll('button')) {
      element.replaceChildren(icon(element.dataset.axis === axis ? 'pause' : 'play'));
      element.setAttribute('aria-pressed', String(element.dataset.axis === axis));
    }
    // The next plane once this one is there.
    if (axis) this.timer = window.setInterval(() => this.viewer.sharp && this.viewer.step(axis, 1, true), 100);
  }

  /** After each frame. */
  drawn() {
    const {viewer} = this, image = viewer.info?.image, tiles = viewer.tiles;
    if (!image || !tiles) return;
    const bar = scaleBar(image.pixelSize.x, viewer.view.zoom);
    this.bar.hidden = !bar;
    if (bar) {
      /** @type {HTMLElement} */ (this.bar.lastElementChild).style.width = `${bar.width}px`;
      const label = /** @type {HTMLElement} */ (this.bar.firstElementChild);
      if (label.textContent !== bar.text) label.textContent = bar.text;
    }
    const level = tiles.levelFor(viewer.view.zoom * viewer.ratio);
    const percent = viewer.view.zoom * viewer.ratio * 100;
    const text = `${short(percent, 3)} %${image.levels.length > 1 ? ` \u00b7 level ${level}` : ''}${viewer.sharp ? '' : ' \u00b7 loading'}`;
    if (this.level.textContent !== text) this.level.textContent = text;
    this.element.classList.toggle('busy', !viewer.sharp);
    if (viewer.source.thumbnail && !this.overview && !viewer.seesAll()) {
      this.overview = true;
      import('./overview.js').then(({addOverview}) => addOverview(this), () => undefined);
    }
    this.pointed();
  }

  /** Say what is under the pointer. */
  pointed() {
    const {viewer} = this;
    if (!viewer.pointer || !viewer.info) return;
    const [x, y] = viewer.imagePlace(viewer.pointer.x, viewer.pointer.y);
    const {image} = viewer.info, px = metres(image.pixelSize.x), py = metres(image.pixelSize.y);
    const found = viewer.valuesAt(x, y);
    const where = `x ${Math.floor(x)}, y ${Math.floor(y)}${px && py ? `  (${inWords(x * px)}, ${inWords(y * py)})` : ''}`;
    const what = found ? found.values.map((v) => (v === undefined ? '\u2013' : short(v, 6))).join(', ') : '';
    const id = viewer.mask?.idAt(x, y);
    this.status.value = `${where}${what && `   ${what}`}${found && found.level ? ` (mean at 1:${2 ** found.level})` : ''}${id === undefined ? '' : `   label ${id}`}`;
  }
}
