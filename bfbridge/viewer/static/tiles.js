/** Which tiles are needed, in which order they are requested, and which are kept. */

import {PAD} from './gl.js';
import {SIDE} from './source.js';
import {seenBox} from './camera.js';

/** @import {Painter} from './gl.js' */
/** @import {FileInfo, Frame, Job, Kept, Look, Place, Plane, Quad, Source, Values, View} from './types.js' */

/** Requests that are under way at once, of all images of a page. */
const MOST_REQUESTS = 6;
/** Of values in memory; the textures take as much again. */
const MOST_BYTES = 192 * 2 ** 20;
/** Values that are sent to the graphics processor in one frame. */
const FRAME_BYTES = 32 * 2 ** 20;
const MOST_FAILURES = 3;
const AROUND = [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]];

/** Runs jobs, of each owner those it wants most; the others are aborted. */
export class Loader {
  constructor() {
    /** @type {Map<object, Job[]>} */
    this.wanted = new Map();
    /** @type {Map<string, {owner: object, control: AbortController}>} */
    this.running = new Map();
    /** Requests since the page was opened. */
    this.counts = {sent: 0, aborted: 0, failed: 0};
  }

  /** @param {object} owner @param {Job[]} jobs most urgent first */
  want(owner, jobs) {
    this.wanted.set(owner, jobs);
    const keys = new Set(jobs.map((job) => job.key));
    for (const [key, {owner: of, control}] of this.running) {
      if (of === owner && !keys.has(key)) {
        this.counts.aborted++;
        this.running.delete(key);
        control.abort();
      }
    }
    this.start();
  }

  start() {
    const lists = [...this.wanted.values()];
    for (let i = 0; this.running.size < MOST_REQUESTS && lists.some((list) => i < list.length); i++) {
      for (const [owner, list] of this.wanted) {
        const job = list[i];
        if (!job || this.running.has(job.key) || this.running.size >= MOST_REQUESTS) continue;
        const control = new AbortController();
        this.running.set(job.key, {owner, control});
        this.counts.sent++;
        job.run(control.signal).finally(() => {
          if (this.running.get(job.key)?.control === control) this.running.delete(job.key);
          // Finished jobs are not requested again before the owner changes its list.
          this.wanted.set(owner, (this.wanted.get(owner) ?? []).filter((other) => other.key !== job.key));
          this.start();
        });
      }
    }
  }
}

/** Values of tiles, the least recently drawn dropped first. */
export class Store {
  /** @param {Painter} painter */
  constructor(painter) {
    this.painter = painter;
    /** @type {Map<string, Kept>} */
    this.kept = new Map();
    this.bytes = 0;
    this.frame = 0;
    this.budget = 0;
  }

  nextFrame() {
    this.frame++;
    this.budget = FRAME_BYTES;
  }

  /** @param {string} key @param {Values} values @param {number} width @param {number} height */
  put(key, values, width, height) {
    const w = width + 2 * PAD;
    const padded = /** @type {Values} */ (new (/** @type {any} */ (values.constructor))(w * (height + 2 * PAD)));
    for (let y = -PAD; y < height + PAD; y++) {
      const from = Math.min(height - 1, Math.max(0, y)) * width;
      const to = (y + PAD) * w;
      padded.set(values.subarray(from, from + width), to + PAD);
      padded[to] = values[from];
      padded[to + w - 1] = values[from + width - 1];
    }
    const known = this.kept.get(key);
    if (known) this.drop(known);
    this.kept.set(key, {values: padded, width, height, tile: null, used: this.frame, key});
    this.bytes += padded.byteLength;
    if (this.bytes > MOST_BYTES) this.shrink();
  }

  shrink() {
    for (const kept of [...this.kept.values()].sort((a, b) => a.used - b.used)) {
      if (this.bytes <= MOST_BYTES * 0.8 || kept.used >= this.frame - 1) break;
      this.drop(kept);
    }
  }

  /** @param {Kept} kept */
  drop(kept) {
    this.bytes -= kept.values.byteLength;
    this.kept.delete(kept.key);
    if (kept.tile) this.painter.drop(kept.tile);
  }

  /** The texture of a tile; null if it has to wait for the next frame. @param {Kept} kept @param {number} offset */
  textureOf(kept, offset) {
    kept.used = this.frame;
    if (!kept.tile) {
      if (this.budget <= 0) return null;
      this.budget -= kept.values.byteLength;
      kept.tile = this.painter.upload(kept.values, kept.width, kept.height, offset);
    }
    return kept.tile;
  }

  /** Textures are lost with the context. */
  forgetTextures() {
    for (const kept of this.kept.values()) kept.tile = null;
  }

  /** Fill the border of a tile from its neighbour in a direction. @param {Kept} to @param {Kept} from @param {number} dr @param {number} dc */
  join(to, from, dr, dc) {
    const wt = to.width + 2 * PAD, wf = from.width + 2 * PAD;
    const x = dc < 0 ? 0 : dc ? to.width + PAD : PAD, y = dr < 0 ? 0 : dr ? to.height + PAD : PAD;
    const fx = dc < 0 ? from.width : PAD, fy = dr < 0 ? from.height : PAD;
    const w = dc ? 1 : Math.min(to.width, from.width), h = dr ? 1 : Math.min(to.height, from.height);
    for (let i = 0; i < h; i++) {
      const start = (fy + i) * wf + fx;
      to.values.set(from.values.subarray(start, start + w), (y + i) * wt + x);
    }
    if (to.tile) this.painter.replace(to.tile, to.values, x, y, w, h);
  }
}

/** The tiles of one image. */
export class Tiles {
  /**
   * @param {Source} source @param {Loader} loader @param {Store} store
   * @param {FileInfo} info @param {string} file
   * @param {{changed: () => void, failed: (error: unknown) => void}} observer
   */
  constructor(source, loader, store, info, file, observer) {
    this.source = source;
    this.loader = loader;
    this.store = store;
    this.info = info;
    this.image = info.image;
    this.file = file;
    this.observer = observer;
    /** @type {Map<string, number>} */
    this.failures = new Map();
    this.base = `${file}|${info.version}|${this.image.index}`;
    /** Offsets of float64 channels, see Painter.replace. @type {Map<number, number>} */
    this.offsets = new Map();
    for (const channel of this.image.channels) for (const c of channel.c) this.offsets.set(c, /64/.test(this.image.rawDtype) && this.image.kind !== 'labels' ? channel.window[0] : 0);
  }

  get last() {
    return this.image.levels.length - 1;
  }

  /** @param {Place} at @param {Plane} plane @param {number} c */
  key(at, plane, c) {
    return `${this.base}|${at.level}|${at.row}|${at.column}|${plane.z}|${plane.t}|${c}`;
  }

  /** @param {Place} at @param {Plane} plane @param {number} c */
  get(at, plane, c) {
    return this.store.kept.get(this.key(at, plane, c));
  }

  /** @param {Place} at @param {Plane} plane @param {number[]} channels */
  has(at, plane, channels) {
    return channels.every((c) => this.get(at, plane, c) || (this.failures.get(this.key(at, plane, c)) ?? 0) >= MOST_FAILURES);
  }

  /** The level that has at least one pixel for each pixel of the screen. @param {number} scale device pixels for one image pixel */
  levelFor(scale) {
    return Math.min(this.last, Math.max(0, Math.floor(Math.log2(1 / scale) + 1e-6)));
  }

  /** @param {number} level @param {{left: number, top: number, right: number, bottom: number}} box @returns {Place[]} from the centre outwards */
  places(level, box) {
    const {width, height, scale} = this.image.levels[level];
    const span = SIDE * scale;
    const first = (/** @type {number} */ v) => Math.max(0, Math.floor(v / span));
    const end = (/** @type {number} */ v, /** @type {number} */ size) => Math.min(Math.ceil(size / SIDE), Math.ceil(v / span));
    const cx = (box.left + box.right) / 2 / span - 0.5, cy = (box.top + box.bottom) / 2 / span - 0.5;
    const found = [];
    for (let row = first(box.top); row < end(box.bottom, height); row++) {
      for (let column = first(box.left); column < end(box.right, width); column++) found.push({level, row, column});
    }
    const distance = (/** @type {Place} */ p) => (p.column - cx) ** 2 + (p.row - cy) ** 2;
    return found.sort((a, b) => distance(a) - distance(b));
  }

  /**
   * Request what a view needs.
   * @param {View} view @param {Frame} frame
   * @param {Plane} plane @param {number[]} channels @param {{calm: boolean, next: Plane[]}} options
   * @returns {boolean} whether all of it is there
   */
  request(view, frame, plane, channels, {calm, next}) {
    const box = seenBox(view, frame);
    const level = this.levelFor(view.zoom * frame.ratio);
    const jobs = (/** @type {Place[]} */ places, /** @type {Plane} */ p) => places.filter((at) => !this.has(at, p, channels)).map((at) => this.job(at, p, channels));
    // What is under way and may still be of use is not aborted.
    const running = (/** @type {Job} */ job) => this.loader.running.has(job.key);
    const places = this.places(level, box), sharp = jobs(places, plane), later = next.flatMap((p) => jobs(places, p));
    const done = !sharp.length;
    // While planes are played, one whose tiles are there or under way needs no coarse ones: the next plane would abort them.
    const wanted = jobs(this.places(this.last, box), plane).filter((job) => !next.length || !sharp.every(running) || running(job));
    if (level < this.last) {
      const coarse = Math.min(this.last, level + 2);
      // A step between, where much is missing.
      if (calm && coarse < this.last && sharp.length > 4 && sharp.length > places.length / 2) wanted.push(...jobs(this.places(coarse, box), plane));
      wanted.push(...(calm ? sharp : sharp.filter(running)));
    }
    wanted.push(...(done ? later : later.filter(running)));
    this.loader.want(this, wanted.slice(0, 64));
    return done;
  }

  /** @param {Place} at @param {Plane} plane @param {number[]} channels @returns {Job} */
  job(at, plane, channels) {
    const lacking = channels.filter((c) => !this.has(at, plane, [c]));
    const run = async (/** @type {AbortSignal} */ signal) => {
      const tile = {...at, ...plane, series: this.image.index, channels: lacking};
      try {
        const parts = await this.source.raw(this.file, this.info.version, tile, signal);
        if (signal.aborted) return;
        const {width, height} = this.image.levels[at.level];
        const w = Math.min(SIDE, width - at.column * SIDE), h = Math.min(SIDE, height - at.row * SIDE);
        lacking.forEach((c, i) => this.put(at, plane, c, parts[i], w, h));
        this.observer.changed();
      } catch (error) {
        if (signal.aborted) return;
        this.loader.counts.failed++;
        for (const c of lacking) {
          const key = this.key(at, plane, c);
          this.failures.set(key, (this.failures.get(key) ?? 0) + 1);
        }
        this.observer.failed(error);
      }
    };
    return {key: `${this.key(at, plane, -1)}|${lacking}`, run};
  }

  /** @param {Place} at @param {Plane} plane @param {number} c @param {Values} values @param {number} w @param {number} h */
  put(at, plane, c, values, w, h) {
    this.store.put(this.key(at, plane, c), values, w, h);
    const here = this.get(at, plane, c);
    for (const [dr, dc] of AROUND) {
      const other = this.get({...at, row: at.row + dr, column: at.column + dc}, plane, c);
      if (!here || !other) continue;
      this.store.join(here, other, dr, dc);
      this.store.join(other, here, -dr, -dc);
    }
  }

  /**
   * What is drawn: for each part of the screen the best tile that there is.
   * @param {View} view @param {Frame} frame
   * @param {Plane} plane @param {{c: number, look: Look}[]} planes
   * @returns {{quads: Quad[], covered: boolean, sharp: boolean, waits: boolean}}
   */
  quads(view, frame, plane, planes) {
    const level = this.levelFor(view.zoom * frame.ratio);
    /** @type {Quad[]} */
    const quads = [];
    let covered = true, sharp = true, waits = false;
    for (const at of this.places(level, seenBox(view, frame))) {
      let found = false;
      for (let up = 0; level + up <= this.last && !found; up++) {
        const above = {level: level + up, row: at.row >> up, column: at.column >> up};
        const present = planes.filter(({c}) => this.get(above, plane, c));
        if (!present.length) continue;
        const quad = this.quad(at, above, plane, present);
        if (!quad) waits = true;
        else {
          quads.push(quad);
          found = true;
          if (up || present.length < planes.length) sharp = false;
        }
      }
      if (!found) covered = sharp = false;
      if (!found || !sharp) this.finer(at, plane, planes, quads);
    }
    return {quads, covered, sharp: sharp && !waits, waits};
  }

  /** Add tiles of the next finer level, which are there after zooming out. @param {Place} at @param {Plane} plane @param {{c: number, look: Look}[]} planes @param {Quad[]} quads */
  finer(at, plane, planes, quads) {
    if (!at.level || planes.every(({c}) => this.get(at, plane, c))) return;
    for (const [dr, dc] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const below = {level: at.level - 1, row: at.row * 2 + dr, column: at.column * 2 + dc};
      if (!planes.every(({c}) => this.get(below, plane, c))) continue;
      const quad = this.quad(below, below, plane, planes);
      if (quad) quads.push(quad);
    }
  }

  /** The area of one tile drawn with another, which holds it. @param {Place} at @param {Place} from @param {Plane} plane @param {{c: number, look: Look}[]} planes @returns {Quad|null} */
  quad(at, from, plane, planes) {
    const textures = [];
    for (const {c} of planes) {
      const texture = this.store.textureOf(/** @type {Kept} */ (this.get(from, plane, c)), this.offsets.get(c) ?? 0);
      if (!texture) return null;
      textures.push(texture);
    }
    const full = this.image.levels[0], scale = this.image.levels[at.level].scale, own = this.image.levels[from.level].scale;
    const left = at.column * SIDE * scale, top = at.row * SIDE * scale;
    const right = Math.min(full.width, left + SIDE * scale), bottom = Math.min(full.height, top + SIDE * scale);
    return {
      textures, looks: planes.map(({look}) => look), left, top, right, bottom,
      texels: [left / own - from.column * SIDE, top / own - from.row * SIDE, (right - left) / own, (bottom - top) / own],
    };
  }

  /** The values at a place, of the finest level that is there. @param {number} x @param {number} y @param {Plane} plane @param {number[]} channels @param {number} from level */
  valuesAt(x, y, plane, channels, from) {
    const {width, height} = this.image.levels[0];
    if (x < 0 || y < 0 || x >= width || y >= height) return null;
    for (let level = from; level <= this.last; level++) {
      const scale = this.image.levels[level].scale;
      const px = Math.floor(x / scale), py = Math.floor(y / scale);
      const at = {level, row: Math.floor(py / SIDE), column: Math.floor(px / SIDE)};
      const kept = channels.map((c) => this.get(at, plane, c));
      if (kept.every((k) => !k)) continue;
      return {level, values: kept.map((k) => k && k.values[(py % SIDE + PAD) * (k.width + 2 * PAD) + px % SIDE + PAD])};
    }
    return null;
  }
}
