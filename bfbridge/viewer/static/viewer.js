/** The viewer: an image on a canvas, its state, and what is drawn above it. */

import {apply, between, fitted, invert, seenBox, toScreen, zoomed} from './camera.js';
import {pen} from './dom.js';
import {Painter} from './gl.js';
import {listen} from './input.js';
import {Loader, Store, Tiles} from './tiles.js';
import {SourceError} from './source.js';

/** @import {Mask} from './mask.js' */
/** @import {ChannelState, FileInfo, Look, OverlayState, Palettes, Shape, Source, State, Tool, View} from './types.js' */

/** Milliseconds after a movement in which no sharp tiles are requested, with and without a graphics card. */
const CALM = 90, CALM_SLOW = 150;
/** Share of the window that a glide has still to go while no sharp tiles are requested: it may be stopped. */
const NEAR = 0.25;
/** Milliseconds for which the plane before is shown while a new one is loaded. */
const PATIENCE = 500;

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
    this.above.hidden = true;
    stage.append(this.canvas, this.above);
    this.painter = new Painter(this.canvas);
    this.painter.setPalettes(palettes.palettes, palettes.labels);
    this.loader = loader;
    this.store = new Store(this.painter);
    /** @type {Tiles|null} */ this.tiles = null;
    /** @type {Mask|null} */ this.mask = null;
    /** @type {Tool|null} */ this.tool = null;
    /** @type {Shape[]} */ this.shapes = [];
    /** @type {View} */ this.view = {x: 0, y: 0, zoom: 1, angle: 0, flip: false};
    /** @type {View} */ this.goal = this.view;
    /** @type {State} */ this.state = {z: 0, t: 0, smooth: true, channels: [], overlay: null, shapes: true};
    this.shown = {z: 0, t: 0};
    this.since = 0;
    this.width = this.height = this.ratio = 1;
    this.background = [0, 0, 0];
    this.stirred = -Infinity;
    this.sharp = false;
    /** @type {typeof import('./shapes.js').drawShapes|undefined} */ this.drawShapes = undefined;
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

  /** Abort what is requested. @param {...(Tiles|null|undefined)} all */
  forget(...all) {
    for (const tiles of all) if (tiles) this.loader.want(tiles, []);
  }

  /** Free what the viewer holds. */
  close() {
    this.resizing.disconnect();
    cancelAnimationFrame(this.asked);
    this.forget(this.tiles, this.mask?.tiles);
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
    this.forget(this.tiles, this.mask?.tiles);
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
    // Tiles are requested before controls are made.
    this.draw();
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
    const {autoContrast} = await import('./auto.js');
    await autoContrast(this, only);
  }

  /** Draw labels of another image of the file above this one, or none. @param {OverlayState|null} overlay */
  async setOverlay(overlay) {
    const {info, file} = this;
    if (overlay && file && this.mask?.series !== overlay.series) {
      const [{Mask}, found] = await Promise.all([import('./mask.js'), this.source.info(file, overlay.series)]);
      if (this.info !== info) return;
      this.forget(this.mask?.tiles);
      this.mask = new Mask(this, found);
    }
    if (!overlay) {
      this.forget(this.mask?.tiles);
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

  /** Whether the whole image is in sight. */
  seesAll() {
    const size = this.info?.image.levels[0], box = seenBox(this.view, this);
    return !size || (box.left <= 0 && box.top <= 0 && box.right >= size.width && box.bottom >= size.height);
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
    const picked = this.mask.idAt(x, y) ?? 0;
    this.set({overlay: {...overlay, picked: overlay.picked === picked ? 0 : picked}});
  }

  // ---- drawing

  redraw() {
    if (!this.asked) this.asked = requestAnimationFrame(() => this.draw());
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
    const {tiles} = this;
    this.store.nextFrame();
    this.painter.clear(this.background);
    if (tiles) {
      const planes = this.planes();
      const target = {z: this.state.z, t: this.state.t};
      // Movements that follow each other would abandon requests.
      const rest = (this.painter.software ? CALM_SLOW : CALM) - (now - this.stirred), calm = rest <= 0 && this.isNear();
      const channels = planes.map(({c}) => c);
      const complete = tiles.request(this.goal, this, target, channels, {calm, next: this.next(now)});
      if (rest > 0) setTimeout(() => this.redraw(), rest + 5);
      this.paint(tiles, planes, target, now);
      this.mask?.paint(calm);
      this.complete = complete && calm;
      this.emit('drawn');
    }
    this.ink();
  }

  /** Whether a glide has almost reached its goal. */
  isNear() {
    const {motion, goal, view} = this;
    const distance = Math.hypot(goal.x - view.x, goal.y - view.y) * Math.min(goal.zoom, view.zoom);
    return !motion || distance < NEAR * Math.min(this.width, this.height);
  }

  /** Draw regions and measurements. Their module is loaded with the first of them. */
  ink() {
    const shapes = this.state.shapes && this.shapes.length > 0;
    // A canvas above the image costs time even if it is empty.
    if (!shapes && this.above.hidden) return;
    this.above.hidden = !shapes;
    if (shapes && !this.drawShapes) {
      import('./shapes.js').then(({drawShapes}) => {
        this.drawShapes = drawShapes;
        this.redraw();
      }, () => undefined);
      return;
    }
    const context = pen(this.above);
    context.clearRect(0, 0, this.above.width, this.above.height);
    if (shapes) this.drawShapes?.(context, this.shapes, toScreen(this.view, this, this.ratio), this.ratio);
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
    const {scale} = tiles.image.levels[tiles.levelFor(view.zoom * ratio)];
    const exact = Math.abs(view.zoom * ratio * scale - 1) < 1e-9 && view.angle % 90 === 0;
    // Interpolation triples the time of a processor: only what stays on the screen gets it.
    const passing = this.painter.software && (this.motion || !found.sharp);
    const smooth = this.state.smooth && !exact && mode === 'intensity' && !passing;
    this.painter.draw(found.quads, matrix, {mode, smooth});
  }

  /** Planes that are likely to be shown next. @param {number} now */
  next(now) {
    const {axis, by, until} = this.ahead;
    const size = this.info?.image.sizes[axis === 'z' ? 'Z' : 'T'] ?? 1;
    if (now > until || size < 2) return [];
    return [1, 2].map((n) => ({z: this.state.z, t: this.state.t, [axis]: (this.state[axis] + n * by + size) % size}));
  }

  /** A copy of the image as it is on the screen, without anything above it. */
  picture() {
    this.draw();
    const copy = document.createElement('canvas');
    copy.width = this.canvas.width;
    copy.height = this.canvas.height;
    pen(copy).drawImage(this.canvas, 0, 0);
    return copy;
  }

  /** Where a place of the image is on the stage. @param {number} x @param {number} y */
  onStage(x, y) {
    return apply(toScreen(this.view, this), x, y);
  }
}
