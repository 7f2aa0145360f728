/** The viewer: an image on a canvas, its state, and what is drawn above it. */

import {between, fitted, invert, toScreen, zoomed, apply} from './camera.js';
import {pen} from './dom.js';
import {Painter} from './gl.js';
import {listen} from './input.js';
import {Loader, Store, Tiles} from './tiles.js';
import {SourceError} from './source.js';
import {drawShapes} from './shapes.js';
import {scaleBar} from './units.js';

/** @import {View} from './camera.js' */
/** @import {Look} from './gl.js' */
/** @import {FileInfo, Source} from './source.js' */
/** @typedef {{active: boolean, color: string, palette: string|null, low: number, high: number,
 *   gamma: number, invert: boolean, opacity: number}} ChannelState */
/** @typedef {{series: number, opacity: number, picked: number}} OverlayState */
/** @typedef {{z: number, t: number, smooth: boolean, channels: ChannelState[],
 *   overlay: OverlayState|null, shapes: boolean}} State */
/** @typedef {{labels: number[][], names: string[], palettes: number[][][]}} Palettes */
/** @typedef {{points: [number, number][], closed: boolean, kind: string, text?: string, color?: string, fixed?: boolean}} Shape */
/** @typedef {{down(x: number, y: number): boolean, hover(x: number, y: number): void, drag(x: number, y: number): void,
 *   up(x: number, y: number, tap: boolean): boolean, end(): void, back(): void}} Tool */

/** Milliseconds after a movement in which no sharp tiles are requested. */
const CALM = 90;
/** Milliseconds for which the plane before is shown while a new one is loaded. */
const PATIENCE = 500;
/** Milliseconds of a frame above which pictures are drawn without interpolation while they move. */
const SLOW = 45;

/** @param {string} color `#rrggbb` @returns {[number, number, number]} */
const parsed = (color) => {
  const rgb = parseInt(color.slice(1), 16) || 0;
  return [rgb >> 16, (rgb >> 8) & 255, rgb & 255];
};

/** Shows images of a source in an element. Emits `change`, `view`, `point`, `open`, `drawn`, `error`. */
export class Viewer extends EventTarget {
  /** @param {HTMLElement} stage @param {Source} source @param {Palettes} palettes @param {Loader} [loader] shared by the viewers of a page */
  constructor(stage, source, palettes, loader = new Loader()) {
    super();
    this.stage = stage;
    this.source = source;
    this.palettes = palettes;
    this.canvas = document.createElement('canvas');
    this.above = document.createElement('canvas');
    this.above.setAttribute('aria-hidden', 'true');
    stage.append(this.canvas, this.above);
    this.painter = new Painter(this.canvas);
    this.painter.setPalettes(palettes.palettes, palettes.labels);
    this.loader = loader;
    this.store = new Store(this.painter);
    /** @type {Tiles|null} */ this.tiles = null;
    /** @type {Tiles|null} */ this.mask = null;
    /** @type {Tool|null} */ this.tool = null;
    /** @type {Shape[]} */ this.shapes = [];
    /** @type {View} */ this.view = {x: 0, y: 0, zoom: 1, angle: 0, flip: false};
    /** @type {View} */ this.goal = this.view;
    /** @type {State} */ this.state = {z: 0, t: 0, smooth: true, channels: [], overlay: null, shapes: true};
    this.shown = {z: 0, t: 0};
    this.since = 0;
    this.width = this.height = this.ratio = 1;
    this.background = [0, 0, 0];
    this.frames = 0;
    this.cost = 0;
    this.stirred = -Infinity;
    this.sharp = false;
    this.inked = false;
    this.ahead = {axis: /** @type {'z'|'t'} */ ('z'), by: 1, until: 0};
    /** @type {{from: View, begun: number, time: number, ease: (share: number) => number}|null} */ this.motion = null;
    /** @type {{x: number, y: number}|null} */ this.pointer = null;
    this.asked = 0;
    this.opening = 0;
    this.canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
    this.canvas.addEventListener('webglcontextrestored', () => {
      this.store.forgetTextures();
      this.painter.start();
      this.painter.setPalettes(palettes.palettes, palettes.labels);
      if (this.info?.image.colorTable) this.painter.setColorTable(this.info.image.colorTable);
      this.redraw();
    });
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(stage);
    listen(this, stage);
  }

  /** @param {string} type @param {unknown} [detail] */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, {detail}));
  }

  /** Free what the viewer holds. */
  close() {
    this.resizing.disconnect();
    cancelAnimationFrame(this.asked);
    for (const tiles of [this.tiles, this.mask]) if (tiles) this.loader.want(tiles, []);
    this.painter.gl.getExtension('WEBGL_lose_context')?.loseContext();
    this.canvas.remove();
    this.above.remove();
  }

  // ---- what is shown

  /** Show an image. @param {string} file @param {number} series @param {{state?: Partial<State>, view?: Partial<View>}} [wanted] */
  async open(file, series, wanted = {}) {
    const ticket = ++this.opening;
    const info = await this.source.info(file, series);
    if (ticket !== this.opening) return;
    for (const tiles of [this.tiles, this.mask]) if (tiles) this.loader.want(tiles, []);
    const {image} = info;
    /** @type {FileInfo|undefined} */
    this.info = info;
    this.file = file;
    this.mask = null;
    this.shapes = [];
    this.tiles = this.tilesOf(info, file);
    if (image.colorTable) this.painter.setColorTable(image.colorTable);
    const clamp = (/** @type {number|undefined} */ v, /** @type {number} */ size, /** @type {number} */ other) => Math.min(size - 1, Math.max(0, v ?? other));
    const {state = {}, view} = wanted;
    this.state = {
      ...this.state, overlay: null, ...state, channels: this.defaults(),
      z: clamp(state.z, image.sizes.Z, image.defaultZ), t: clamp(state.t, image.sizes.T, image.defaultT),
    };
    if (state.channels?.length === this.state.channels.length) this.state.channels = state.channels;
    this.shown = {z: this.state.z, t: this.state.t};
    this.since = performance.now();
    this.resize();
    this.motion = null;
    this.view = this.goal = {...fitted(image.levels[0], this, {...this.view, angle: 0, flip: false}), ...view};
    if (view?.angle && !view.zoom) this.view = this.goal = fitted(image.levels[0], this, this.view);
    this.fitting = !view?.zoom;
    if (state.overlay) await this.setOverlay(state.overlay);
    this.stirred = -Infinity;
    this.redraw();
    this.emit('open');
    this.emit('change');
    this.emit('view');
  }

  /** @param {FileInfo} info @param {string} file */
  tilesOf(info, file) {
    return new Tiles(this.source, this.loader, this.store, info, file, {
      changed: () => this.redraw(),
      failed: (error) => {
        this.emit('error', error);
        if (!(error instanceof SourceError)) setTimeout(() => this.redraw(), 1500);
        else this.redraw();
      },
    });
  }

  /** The state of channels that the file asks for. @returns {ChannelState[]} */
  defaults() {
    return (this.info?.image.channels ?? []).map((channel) => ({
      active: channel.active, color: channel.color ?? '#ffffff', palette: null,
      low: channel.window[0], high: channel.window[1], gamma: 1, invert: false, opacity: 1,
    }));
  }

  /** Change the state. @param {Partial<State>} change */
  set(change) {
    const before = this.state;
    this.state = {...before, ...change};
    if (this.state.z !== before.z || this.state.t !== before.t) {
      this.since = performance.now();
      this.sharp = false; // also before the next frame: playing waits for it
    }
    this.redraw();
    this.emit('change');
  }

  /** @param {number} index @param {Partial<ChannelState>} change */
  setChannel(index, change) {
    this.set({channels: this.state.channels.map((c, i) => (i === index ? {...c, ...change} : c))});
  }

  /** Show one channel only, or again those shown before. @param {number} index */
  solo(index) {
    const active = this.state.channels.map((c) => c.active);
    const alone = active.every((on, i) => on === (i === index));
    const next = alone ? this.beforeSolo ?? active.map(() => true) : active.map((_, i) => i === index);
    this.beforeSolo = alone ? undefined : active;
    this.set({channels: this.state.channels.map((c, i) => ({...c, active: next[i]}))});
  }

  /** Go to the next or previous plane. @param {'z'|'t'} axis @param {number} by @param {boolean} [around] */
  step(axis, by, around = false) {
    const size = this.info?.image.sizes[axis === 'z' ? 'Z' : 'T'] ?? 1;
    const next = this.state[axis] + by;
    this.ahead = {axis, by: Math.sign(by), until: performance.now() + 4000};
    this.set({[axis]: around ? (next + size) % size : Math.min(size - 1, Math.max(0, next))});
  }

  /** Set the windows of the channels that are shown from the pixels of this plane. @param {number} [only] */
  async autoContrast(only) {
    const image = this.info?.image, file = this.file;
    if (!image || !file || image.kind === 'labels' || image.kind === 'indexed') return;
    const {z, t} = this.state;
    const numbers = image.channels.map((c) => c.index).filter((i) => (only === undefined ? this.state.channels[i].active : i === only));
    for (const i of numbers) {
      const found = await this.source.histogram(file, image.index, this.samples(i), z, t);
      if (this.info?.image !== image) return;
      this.setChannel(i, {low: Math.min(...found.map((h) => h.window[0])), high: Math.max(...found.map((h) => h.window[1]))});
    }
  }

  /** Draw labels of another image of the file above this one, or none. @param {OverlayState|null} overlay */
  async setOverlay(overlay) {
    if (overlay && this.file && this.mask?.image.index !== overlay.series) {
      const info = await this.source.info(this.file, overlay.series);
      this.mask = this.tilesOf(info, this.file);
    }
    if (!overlay && this.mask) {
      this.loader.want(this.mask, []);
      this.mask = null;
    }
    this.set({overlay});
  }

  /** Positions along C that are drawn of a channel. @param {number} index */
  samples(index) {
    const c = this.info?.image.channels[index]?.c ?? [];
    return c.length >= 3 ? c.slice(0, 3) : c.slice(0, 1);
  }

  /** @returns {{c: number, look: Look}[]} */
  planes() {
    const image = this.info?.image;
    if (!image) return [];
    /** @type {{c: number, look: Look}[]} */
    const found = [];
    this.state.channels.forEach((state, i) => {
      if (!state.active) return;
      const samples = this.samples(i);
      samples.forEach((c, s) => {
        /** @type {[number, number, number]} */
        const color = samples.length === 3 ? [s === 0 ? 255 : 0, s === 1 ? 255 : 0, s === 2 ? 255 : 0] : parsed(state.color);
        const palette = state.palette && samples.length < 3 ? this.palettes.names.indexOf(state.palette) : -1;
        found.push({c, look: {low: state.low, high: state.high, gamma: state.gamma, invert: state.invert, opacity: state.opacity, color, palette}});
      });
    });
    // Values that stand for colours are drawn of one channel.
    return image.kind === 'labels' || image.kind === 'indexed' ? found.slice(0, 1) : found;
  }

  /** What the values under a place of the image are. @param {number} x @param {number} y */
  valuesAt(x, y) {
    if (!this.tiles) return null;
    return this.tiles.valuesAt(x, y, this.shown, this.planes().map(({c}) => c), this.tiles.levelFor(this.view.zoom * this.ratio));
  }

  // ---- where it is seen from

  resize() {
    const {clientWidth, clientHeight} = this.stage;
    const ratio = Math.min(2, devicePixelRatio || 1);
    if (!clientWidth || !clientHeight) return;
    if (clientWidth === this.width && clientHeight === this.height && ratio === this.ratio) return;
    Object.assign(this, {width: clientWidth, height: clientHeight, ratio});
    for (const canvas of [this.canvas, this.above]) {
      canvas.width = Math.round(clientWidth * ratio);
      canvas.height = Math.round(clientHeight * ratio);
    }
    if (this.fitting && this.info) this.fit(0);
    this.draw();
  }

  /** @param {number} px @param {number} py place on the stage @returns {[number, number]} */
  imagePlace(px, py) {
    return invert(toScreen(this.view, this), px, py);
  }

  /** Keep part of the image in sight. @param {View} view @returns {View} */
  bounded(view) {
    const size = this.info?.image.levels[0];
    if (!size) return view;
    const zoom = Math.min(64, Math.max(Math.min(this.width / size.width, this.height / size.height) / 8, view.zoom));
    return {...view, zoom, x: Math.min(size.width, Math.max(0, view.x)), y: Math.min(size.height, Math.max(0, view.y))};
  }

  /** @param {View} view @param {{moving?: boolean, quiet?: boolean}} [how] */
  lookAt(view, how = {}) {
    this.view = view;
    if (!this.motion) this.goal = view;
    this.fitting = false;
    if (how.moving) this.stirred = performance.now();
    this.redraw();
    if (!how.quiet) this.emit('view');
  }

  stop() {
    this.motion = null;
    this.goal = this.view;
  }

  /** @param {View} goal @param {number} time in ms @param {(share: number) => number} [ease] */
  glideTo(goal, time, ease = (share) => 1 - (1 - share) ** 3) {
    this.goal = goal;
    this.motion = null;
    this.fitting = false;
    if (!time || matchMedia('(prefers-reduced-motion: reduce)').matches) return this.lookAt(goal);
    this.motion = {from: this.view, begun: performance.now(), time, ease};
    this.redraw();
  }

  /** @param {number} factor @param {number} px @param {number} py @param {number} time */
  zoomBy(factor, px, py, time) {
    const goal = this.bounded({...this.goal, zoom: this.goal.zoom * factor});
    this.stirred = performance.now();
    this.glideTo(this.bounded(zoomed(this.goal, goal.zoom / this.goal.zoom, px, py, this)), time);
  }

  /** Show the whole image. @param {number} [time] */
  fit(time = 220) {
    const size = this.info?.image.levels[0];
    if (!size) return;
    this.glideTo(fitted(size, this, this.goal), time);
    this.fitting = true;
  }

  /** One pixel of the image for one of the screen. */
  actualSize() {
    const goal = {...this.goal, zoom: 1 / this.ratio};
    // Centred on whole pixels, so that each is exactly one of the screen.
    const half = (/** @type {number} */ v, /** @type {number} */ size) => (Math.round(size * this.ratio) % 2 ? Math.floor(v) + 0.5 : Math.round(v));
    this.glideTo({...goal, x: half(goal.x, this.width), y: half(goal.y, this.height)}, 220);
  }

  /** @param {number} degrees clockwise */
  turn(degrees) {
    const fitting = this.fitting;
    this.glideTo({...this.goal, angle: (((this.goal.angle + degrees) % 360) + 360) % 360}, 0);
    if (fitting) this.fit(0);
  }

  /** @param {boolean} [upsideDown] */
  mirror(upsideDown = false) {
    this.glideTo({...this.goal, flip: !this.goal.flip, angle: (360 - this.goal.angle + (upsideDown ? 180 : 0)) % 360}, 0);
  }

  /** @param {{x: number, y: number}|null} place on the stage */
  point(place) {
    this.pointer = place;
    this.emit('point');
  }

  /** A place was clicked. @param {number} x @param {number} y */
  tapped(x, y) {
    const overlay = this.state.overlay;
    if (!this.mask || !overlay) return;
    const found = this.mask.valuesAt(x, y, this.maskPlane(), [0], this.mask.levelFor(this.view.zoom * this.ratio));
    const picked = found?.values[0] ?? 0;
    this.set({overlay: {...overlay, picked: overlay.picked === picked ? 0 : picked}});
  }

  // ---- drawing

  redraw() {
    if (!this.asked) this.asked = requestAnimationFrame(() => this.draw());
  }

  maskPlane() {
    const sizes = this.mask?.image.sizes;
    return {z: Math.min(this.shown.z, (sizes?.Z ?? 1) - 1), t: Math.min(this.shown.t, (sizes?.T ?? 1) - 1)};
  }

  /** Draw now. */
  draw() {
    cancelAnimationFrame(this.asked);
    this.asked = 0;
    const now = performance.now();
    if (this.motion) {
      const {from, begun, time, ease} = this.motion;
      const share = Math.min(1, (now - begun) / time);
      this.view = share >= 1 ? this.goal : between(from, this.goal, ease(share));
      if (share >= 1) this.motion = null;
      this.redraw();
      this.emit('view');
    }
    const {tiles, view, ratio} = this;
    this.store.nextFrame();
    this.painter.clear(this.background);
    if (tiles) {
      const planes = this.planes();
      const target = {z: this.state.z, t: this.state.t};
      const calm = now - this.stirred > CALM;
      const channels = planes.map(({c}) => c);
      const complete = tiles.request(this.goal, this, target, channels, {calm, next: this.next(now)});
      if (!calm) setTimeout(() => this.redraw(), CALM - (now - this.stirred) + 5);
      this.paint(tiles, planes, target, now);
      if (this.mask) this.paintMask(this.mask, calm);
      this.complete = complete && calm;
      this.emit('drawn');
    }
    // Clearing a canvas makes the browser compose it anew.
    const shapes = this.state.shapes && this.shapes.length > 0;
    if (shapes || this.inked) {
      const context = pen(this.above);
      context.clearRect(0, 0, this.above.width, this.above.height);
      if (shapes) drawShapes(context, this.shapes, toScreen(view, this, ratio), ratio);
      this.inked = shapes;
    }
    this.frames++;
    const cost = performance.now() - now;
    this.cost = this.cost * 0.7 + cost * 0.3;
  }

  /** @param {Tiles} tiles @param {{c: number, look: Look}[]} planes @param {{z: number, t: number}} target @param {number} now */
  paint(tiles, planes, target, now) {
    const {view, ratio} = this;
    let found = tiles.quads(view, this, target, planes);
    const other = target.z !== this.shown.z || target.t !== this.shown.t;
    // The plane before stays until the new one is there: no flicker.
    if (other && !found.sharp && (!found.covered || now - this.since < PATIENCE)) {
      const before = tiles.quads(view, this, this.shown, planes);
      if (before.covered) found = before;
      else this.shown = target;
      setTimeout(() => this.redraw(), PATIENCE);
    } else this.shown = target;
    this.sharp = found.sharp && this.shown.z === target.z && this.shown.t === target.t;
    if (found.waits) this.redraw();
    const mode = tiles.image.kind === 'labels' || tiles.image.kind === 'indexed' ? tiles.image.kind : 'intensity';
    const matrix = toScreen(view, this, ratio);
    const exact = Math.abs(view.zoom * ratio - 1) < 1e-9 && view.angle % 90 === 0;
    const smooth = this.state.smooth && !exact && mode === 'intensity' && !(this.motion && this.cost > SLOW);
    this.painter.draw(found.quads, matrix, {mode, smooth});
  }

  /** @param {Tiles} mask @param {boolean} calm */
  paintMask(mask, calm) {
    // Labels may be stored at a lower resolution than the image.
    const scale = mask.image.levels[0].width / (this.info?.image.levels[0].width ?? 1);
    const shrunk = (/** @type {View} */ view) => ({...view, x: view.x * scale, y: view.y * scale, zoom: view.zoom / scale});
    const plane = this.maskPlane();
    mask.request(shrunk(this.goal), this, plane, [0], {calm, next: []});
    const look = {low: 0, high: 1, gamma: 1, invert: false, opacity: 1, color: /** @type {[number, number, number]} */ ([255, 255, 255]), palette: -1};
    const view = shrunk(this.view);
    const {quads, waits} = mask.quads(view, this, plane, [{c: 0, look}]);
    if (waits) this.redraw();
    const overlay = this.state.overlay;
    this.painter.draw(quads, toScreen(view, this, this.ratio), {mode: 'labels', smooth: false, opacity: overlay?.opacity ?? 0.5, picked: overlay?.picked ?? 0, over: true});
  }

  /** Planes that are likely to be shown next. @param {number} now */
  next(now) {
    const {axis, by, until} = this.ahead;
    const size = this.info?.image.sizes[axis === 'z' ? 'Z' : 'T'] ?? 1;
    if (now > until || size < 2) return [];
    return [1, 2].map((n) => ({z: this.state.z, t: this.state.t, [axis]: (this.state[axis] + n * by + size) % size}));
  }

  /** The picture as it is on the screen, with the scale bar. @param {boolean} [bare] without anything above the image @returns {HTMLCanvasElement} */
  picture(bare = false) {
    this.draw();
    const copy = document.createElement('canvas');
    copy.width = this.canvas.width;
    copy.height = this.canvas.height;
    const context = pen(copy);
    context.drawImage(this.canvas, 0, 0);
    if (bare) return copy;
    context.drawImage(this.above, 0, 0);
    const bar = this.info && scaleBar(this.info.image.pixelSize.x, this.view.zoom);
    if (bar) {
      const r = this.ratio, right = copy.width - 16 * r, bottom = copy.height - 18 * r;
      context.font = `600 ${13 * r}px system-ui, sans-serif`;
      context.textAlign = 'center';
      context.lineWidth = 3 * r;
      context.strokeStyle = '#000a';
      context.fillStyle = '#fff';
      context.strokeText(bar.text, right - (bar.width * r) / 2, bottom - 9 * r);
      context.fillText(bar.text, right - (bar.width * r) / 2, bottom - 9 * r);
      context.strokeRect(right - bar.width * r, bottom, bar.width * r, 4 * r);
      context.fillRect(right - bar.width * r, bottom, bar.width * r, 4 * r);
    }
    return copy;
  }

  /** Where a place of the image is on the stage. @param {number} x @param {number} y */
  onStage(x, y) {
    return apply(toScreen(this.view, this), x, y);
  }
}
