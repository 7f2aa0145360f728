/** Channels: on and off, colour, contrast. */

import {h, pen, small} from './dom.js';
import {short} from './units.js';

/** @import {Viewer} from './viewer.js' */
/** @import {ChannelState, Histogram, ImageInfo} from './types.js' */

/** Channels whose histogram is open at first. */
const OPEN = 4;
/** Milliseconds between updates of the panel, without a graphics card. */
const PAUSE = 300;

/** The controls of one channel. */
class Channel {
  /** @param {Viewer} viewer @param {number} index @param {boolean} open @param {() => boolean} logarithmic */
  constructor(viewer, index, open, logarithmic) {
    this.viewer = viewer;
    this.index = index;
    this.logarithmic = logarithmic;
    const info = /** @type {ImageInfo} */ (viewer.info?.image);
    const name = info.channels[index].name?.trim() || (info.kind === 'rgb' ? 'RGB' : `Channel ${index + 1}`);
    this.rgb = viewer.samples(index).length === 3;
    this.whole = !info.rawDtype.startsWith('float');
    const set = (/** @type {Partial<ChannelState>} */ change) => viewer.setChannel(index, change);
    /** @type {Histogram[]} */ this.histograms = [];
    /** @type {ChannelState|null} */ this.drawn = null;
    this.on = h('input', {type: 'checkbox', 'aria-label': `Show ${name}`, onchange: () => set({active: this.on.checked})});
    this.color = h('input', {type: 'color', 'aria-label': `Colour of ${name}`, hidden: this.rgb, oninput: () => set({color: this.color.value, palette: null})});
    this.graph = h('canvas', {className: 'graph', width: 512, height: 128, 'aria-hidden': 'true'});
    /** @type {Record<'low'|'gamma'|'high', HTMLElement>} */
    this.handles = {low: this.handle('low', `Minimum of ${name}`), gamma: this.handle('gamma', `Gamma of ${name}`), high: this.handle('high', `Maximum of ${name}`)};
    this.box = h('div', {className: 'histogram'}, this.graph, ...Object.values(this.handles));
    const number = (/** @type {'low'|'high'|'gamma'} */ key, /** @type {string} */ label) => h('input', {
      type: 'number', step: 'any', 'aria-label': `${label} of ${name}`, title: label,
      onchange: (/** @type {Event} */ e) => {
        const value = Number(/** @type {HTMLInputElement} */ (e.target).value);
        if (Number.isFinite(value) && (key !== 'gamma' || value > 0)) set({[key]: value});
      },
    });
    this.low = number('low', 'Minimum');
    this.high = number('high', 'Maximum');
    this.gamma = number('gamma', 'Gamma');
    this.inverted = h('input', {type: 'checkbox', onchange: () => set({invert: this.inverted.checked})});
    this.opacity = h('input', {type: 'range', min: '0', max: '1', step: '0.01', 'aria-label': `Opacity of ${name}`, oninput: () => set({opacity: Number(this.opacity.value)})});
    this.palette = h('select', {'aria-label': `Palette of ${name}`, hidden: this.rgb, onchange: () => set({palette: this.palette.value || null})},
      h('option', {value: ''}, 'Colour'), ...viewer.palettes.names.map((p) => h('option', {value: p}, p)));
    this.solo = h('button', {className: 'small', title: 'Only this channel (again: all)', 'aria-label': `Only ${name}`, onclick: () => viewer.solo(index)}, 'solo');
    const initial = viewer.defaults()[index];
    this.open = open;
    this.name = h('button', {className: 'name', 'aria-expanded': String(open), title: name, onclick: () => this.toggle()}, name);
    this.details = h('div', {className: 'details', hidden: !open},
      this.box,
      h('div', {className: 'numbers'}, this.low, this.gamma, this.high),
      h('div', {className: 'options'},
        small('auto', () => viewer.autoContrast(index)),
        small('reset', () => set({low: initial.low, high: initial.high, gamma: 1, invert: false, opacity: 1})),
        h('label', {}, this.inverted, 'invert'), this.palette),
      h('label', {className: 'wide'}, 'opacity', this.opacity));
    this.element = h('li', {className: 'channel'}, h('div', {className: 'title'}, this.on, this.color, this.name, info.channels.length > 1 && this.solo), this.details);
    if (open) this.load();
  }

  toggle() {
    this.open = !this.open;
    this.details.hidden = !this.open;
    this.name.setAttribute('aria-expanded', String(this.open));
    if (this.open) this.load();
    this.update();
  }

  /** @param {'low'|'gamma'|'high'} key @param {string} label */
  handle(key, label) {
    const element = h('div', {className: `handle ${key}`, role: 'slider', tabIndex: 0, 'aria-label': label});
    const state = () => this.viewer.state.channels[this.index];
    const move = (/** @type {PointerEvent} */ e) => {
      const box = this.graph.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (e.clientX - box.left) / box.width));
      const [start, end] = this.span();
      this.change(key, start + share * (end - start));
    };
    element.addEventListener('pointerdown', (e) => {
      element.setPointerCapture(e.pointerId);
      e.preventDefault();
      element.focus();
    });
    element.addEventListener('pointermove', (e) => element.hasPointerCapture(e.pointerId) && move(e));
    element.addEventListener('keydown', (e) => {
      const by = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10}[e.key];
      if (!by) return;
      e.preventDefault();
      if (key === 'gamma') return this.viewer.setChannel(this.index, {gamma: Math.min(10, Math.max(0.1, state().gamma * 1.05 ** by))});
      const [start, end] = this.span();
      this.change(key, state()[key] + (by * (end - start)) / 200);
    });
    return element;
  }

  /** Set an end of the window, or the place of the middle brightness. @param {'low'|'gamma'|'high'} key @param {number} value */
  change(key, value) {
    const {low, high} = this.viewer.state.channels[this.index];
    const v = this.whole ? Math.round(value) : value;
    const least = this.whole ? 1 : (this.span()[1] - this.span()[0]) / 1000;
    if (key === 'low') this.viewer.setChannel(this.index, {low: Math.min(v, high - least)});
    else if (key === 'high') this.viewer.setChannel(this.index, {high: Math.max(v, low + least)});
    else {
      const share = Math.min(0.98, Math.max(0.02, (value - low) / (high - low)));
      this.viewer.setChannel(this.index, {gamma: Number((Math.log(0.5) / Math.log(share)).toFixed(3))});
    }
  }

  /** What the graph reaches from and to. @returns {[number, number]} */
  span() {
    const {low, high} = this.viewer.state.channels[this.index];
    const starts = this.histograms.map((x) => x.binStart), ends = this.histograms.map((x) => x.max);
    return [Math.min(low, ...starts), Math.max(high, ...ends)];
  }

  async load() {
    const {info, file} = this.viewer;
    if (!info || !file || this.histograms.length || this.loading) return;
    this.loading = true;
    this.histograms = await this.viewer.source.histogram(file, info.image.index, this.viewer.samples(this.index)).catch(() => []);
    this.loading = false;
    this.update();
  }

  /** @param {boolean} [forced] also if the channel's state and the theme have not changed */
  update(forced = true) {
    const state = this.viewer.state.channels[this.index];
    if (!state || (state === this.drawn && this.ground === this.viewer.background && !forced)) return;
    this.drawn = state;
    this.ground = this.viewer.background;
    this.on.checked = state.active;
    this.color.value = state.color;
    this.inverted.checked = state.invert;
    this.opacity.value = String(state.opacity);
    this.palette.value = state.palette ?? '';
    this.element.classList.toggle('off', !state.active);
    for (const key of /** @type {const} */ (['low', 'high', 'gamma'])) if (document.activeElement !== this[key]) this[key].value = short(state[key], 6);
    if (this.open) this.drawGraph(state);
  }

  /** @param {ChannelState} state */
  drawGraph(state) {
    const [start, end] = this.span();
    const width = end - start || 1;
    const share = (/** @type {number} */ v) => Math.min(1, Math.max(0, (v - start) / width));
    const middle = state.low + 0.5 ** (1 / state.gamma) * (state.high - state.low);
    const places = {low: state.low, gamma: middle, high: state.high};
    for (const key of /** @type {const} */ (['low', 'gamma', 'high'])) {
      const handle = this.handles[key];
      handle.style.left = `${share(places[key]) * 100}%`;
      handle.setAttribute('aria-valuenow', short(state[key]));
      handle.setAttribute('aria-valuemin', key === 'gamma' ? '0.1' : short(start));
      handle.setAttribute('aria-valuemax', key === 'gamma' ? '10' : short(end));
    }
    const g = pen(this.graph);
    const {width: w, height} = this.graph;
    g.clearRect(0, 0, w, height);
    const style = getComputedStyle(this.graph);
    this.histograms.forEach((found, i) => {
      const log = this.logarithmic();
      const height0 = (/** @type {number} */ n) => (log ? Math.log1p(n) : n);
      // A background of one value would flatten the rest.
      const sorted = [...found.counts].sort((a, b) => b - a);
      const most = height0(log ? sorted[0] : Math.min(sorted[0], sorted[2] * 1.5 || sorted[0])) || 1;
      const step = (found.binEnd - found.binStart) / found.counts.length;
      g.fillStyle = this.rgb ? ['#f44a', '#4c4a', '#48fa'][i] : style.color;
      g.beginPath();
      g.moveTo(0, height);
      found.counts.forEach((n, bin) => {
        const x0 = ((found.binStart + bin * step - start) / width) * w, y = height - Math.min(1, height0(n) / most) * (height - 6);
        g.lineTo(x0, y);
        g.lineTo(x0 + Math.max(1, (step / width) * w), y);
      });
      g.lineTo(w, height);
      g.fill();
    });
    g.strokeStyle = getComputedStyle(this.box).color;
    g.lineWidth = 3;
    g.beginPath();
    for (let i = 0; i <= 64; i++) {
      const s = i / 64, x = share(state.low + s * (state.high - state.low)) * w;
      const y = state.invert ? 1 - s ** state.gamma : s ** state.gamma;
      g.lineTo(x, height - 2 - y * (height - 6));
    }
    g.stroke();
  }
}

/** The list of channels. @param {Viewer} viewer */
export function channelPanel(viewer) {
  let logarithmic = false;
  /** @type {Channel[]} */
  let channels = [];
  const list = h('ul', {className: 'channels'});
  const log = h('input', {type: 'checkbox', onchange: () => {
    logarithmic = log.checked;
    channels.forEach((c) => c.update());
  }});
  const all = (/** @type {boolean} */ active) => viewer.set({channels: viewer.state.channels.map((c) => ({...c, active}))});
  const many = h('span', {}, small('all', () => all(true)), small('none', () => all(false)));
  const element = h('section', {className: 'panel', 'aria-label': 'Channels'},
    h('header', {}, h('h2', {}, 'Channels'), many,
      h('button', {className: 'small', title: 'Contrast of this plane (A)', onclick: () => viewer.autoContrast()}, 'auto'),
      h('label', {}, log, 'log')), list);
  viewer.addEventListener('open', () => {
    const image = viewer.info?.image;
    element.hidden = !image || image.kind === 'labels' || image.kind === 'indexed';
    many.hidden = (image?.channels.length ?? 0) < 3;
    let opened = 0;
    channels = element.hidden ? [] : viewer.state.channels.map((state, i) => new Channel(viewer, i, state.active && opened++ < OPEN, () => logarithmic));
    list.replaceChildren(...channels.map((c) => c.element));
    show(); // the graph's colours are those of an element in the page
  });
  /** Without a graphics card the panel takes as long to draw as the image. */
  const pause = viewer.painter.software ? PAUSE : 0;
  let timer = 0, shown = -Infinity;
  const show = () => {
    timer = 0;
    shown = performance.now();
    channels.forEach((c) => c.update(false));
  };
  viewer.addEventListener('change', () => {
    if (performance.now() - shown >= pause) show();
    else timer ||= window.setTimeout(show, pause);
  });
  return element;
}

