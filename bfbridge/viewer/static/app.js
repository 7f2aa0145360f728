/** The viewer with everything around it: tools, sliders, panels. The page and the notebook both use it. */

import {seenBox} from './camera.js';
import {fileList, metadataDialog, seriesList} from './browse.js';
import {button, h, icon, pen, small} from './dom.js';
import {channelPanel} from './panel.js';
import {Measure, shapesOf} from './shapes.js';
import {SourceError} from './source.js';
import {inWords, metres, scaleBar, short} from './units.js';
import {Viewer} from './viewer.js';

/** @import {View} from './camera.js' */
/** @import {FileInfo, ImageInfo, Source} from './source.js' */
/** @import {Loader} from './tiles.js' */
/** @import {Palettes, State} from './viewer.js' */

const KEYS = [
  ['drag, arrows', 'move'], ['wheel, pinch, + and \u2212', 'zoom'], ['0', 'whole image'], ['1', 'one pixel for one of the screen'], ['Page up, Page down', 'next and previous slice'],
  ['. and ,', 'next and previous time point'], ['space', 'play'], ['a', 'contrast of this plane'], ['c', 'channels'], ['r, R', 'rotate'], ['f, v', 'mirror left-right, up-down'],
  ['n', 'smooth or sharp pixels'], ['m, p', 'measure a length, an area'], ['Enter, Escape', 'end measuring'], ['s', 'save a picture'], ['i', 'metadata'], ['?', 'this list'],
];

/** One viewer with its overview, scale bar, status and sliders. */
export class Pane {
  /** @param {Source} source @param {Palettes} palettes @param {Loader} [loader] */
  constructor(source, palettes, loader) {
    this.stage = h('div', {className: 'stage', tabIndex: 0, role: 'application', 'aria-label': 'Image. Arrow keys move, plus and minus zoom, question mark lists all keys.'});
    this.status = h('output', {className: 'status', 'aria-live': 'off'});
    this.bar = h('div', {className: 'scalebar', hidden: true}, h('span'), h('i'));
    this.message = h('div', {className: 'message', role: 'alert', hidden: true});
    this.overview = h('canvas', {className: 'overview', width: 1, height: 1, 'aria-label': 'Overview; click to move', role: 'img', hidden: true});
    this.sliders = h('div', {className: 'sliders'});
    this.level = h('span', {className: 'level'});
    this.foot = h('div', {className: 'foot'}, this.status, this.level);
    this.element = h('div', {className: 'pane'}, this.stage, this.overview, this.bar, this.message, h('div', {className: 'bottom'}, this.sliders, this.foot));
    this.viewer = new Viewer(this.stage, source, palettes, loader);
    const {viewer} = this;
    viewer.addEventListener('drawn', () => this.drawn());
    viewer.addEventListener('point', () => this.pointed());
    viewer.addEventListener('open', () => this.opened());
    viewer.addEventListener('change', () => this.placeSliders());
    viewer.addEventListener('error', (event) => this.failed(/** @type {CustomEvent} */ (event).detail));
    const jump = (/** @type {PointerEvent} */ e) => {
      const size = viewer.info?.image.levels[0], box = this.overview.getBoundingClientRect();
      if (size && e.buttons) viewer.lookAt({...viewer.view, x: ((e.clientX - box.left) / box.width) * size.width, y: ((e.clientY - box.top) / box.height) * size.height}, {moving: true});
    };
    this.overview.addEventListener('pointerdown', (e) => {
      this.overview.setPointerCapture(e.pointerId);
      viewer.stop();
      jump(e);
    });
    this.overview.addEventListener('pointermove', jump);
    /** @type {number} */ this.timer = 0;
    /** @type {unknown} */ this.pictured = null;
    this.overviewed = '';
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
      h('span', {}, lost && error instanceof TypeError ? 'It was stopped, or the connection is lost. Start it again; this page goes on by itself.' : text),
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
    viewer.background = getComputedStyle(this.stage).backgroundColor.match(/\d+/g)?.slice(0, 3).map(Number) ?? [0, 0, 0];
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
      /** @type {HTMLElement} */ (this.bar.firstElementChild).textContent = bar.text;
    }
    const level = tiles.levelFor(viewer.view.zoom * viewer.ratio);
    const percent = viewer.view.zoom * viewer.ratio * 100;
    const text = `${short(percent, 3)} %${image.levels.length > 1 ? ` \u00b7 level ${level}` : ''}${viewer.sharp ? '' : ' \u00b7 loading'}`;
    if (this.level.textContent !== text) this.level.textContent = text;
    this.element.classList.toggle('busy', !viewer.sharp);
    this.drawOverview();
    this.pointed();
  }

  drawOverview() {
    const {viewer, overview} = this;
    const size = viewer.info?.image.levels[0];
    if (!size) return;
    const box = seenBox(viewer.view, viewer);
    const whole = box.left <= 0 && box.top <= 0 && box.right >= size.width && box.bottom >= size.height;
    overview.hidden = whole || !viewer.source.thumbnail;
    if (overview.hidden || !viewer.source.thumbnail) return;
    const url = viewer.source.thumbnail(viewer.file ?? '', viewer.info?.image.index ?? 0, 192) + `&z=${viewer.state.z}&t=${viewer.state.t}`;
    if (!this.picture || this.pictured !== size) {
      this.pictured = size;
      this.picture = new Image();
      this.overviewed = '';
      this.picture.onload = () => this.drawOverview();
      this.picture.src = url;
    }
    if (!this.picture.complete || !this.picture.naturalWidth) return;
    const scale = Math.min(160 / size.width, 120 / size.height), ratio = devicePixelRatio || 1;
    const w = Math.max(8, Math.round(size.width * scale)), hh = Math.max(8, Math.round(size.height * scale));
    if (overview.width !== w * ratio) Object.assign(overview, {width: w * ratio, height: hh * ratio});
    Object.assign(overview.style, {width: `${w}px`, height: `${hh}px`});
    const key = [url, w, ratio, viewer.background, ...Object.values(box)].join();
    if (key === this.overviewed) return;
    this.overviewed = key;
    const g = pen(overview);
    g.drawImage(this.picture, 0, 0, overview.width, overview.height);
    g.strokeStyle = getComputedStyle(overview).color;
    g.lineWidth = 2 * ratio;
    const sx = overview.width / size.width, sy = overview.height / size.height;
    const left = Math.max(1, box.left * sx), top = Math.max(1, box.top * sy);
    g.strokeRect(left, top, Math.max(3, Math.min(overview.width - 1, box.right * sx) - left), Math.max(3, Math.min(overview.height - 1, box.bottom * sy) - top));
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
    const id = viewer.mask && viewer.state.overlay ? viewer.mask.valuesAt(x, y, viewer.maskPlane(), [0], viewer.mask.levelFor(viewer.view.zoom * viewer.ratio))?.values[0] : undefined;
    this.status.value = `${where}${what && `   ${what}`}${found && found.level ? ` (mean at 1:${2 ** found.level})` : ''}${id === undefined ? '' : `   label ${id}`}`;
  }
}

/** Look at the same part of another image, by its share of the width. @param {Viewer} viewer @param {Viewer} leader */
function follow(viewer, leader) {
  const mine = viewer.info?.image.levels[0].width, its = leader.info?.image.levels[0].width;
  if (!mine || !its || following) return;
  following = true;
  const {view} = leader, scale = mine / its;
  viewer.lookAt({...view, x: view.x * scale, y: view.y * scale, zoom: view.zoom / scale}, {quiet: true});
  following = false;
}
let following = false;

/** The whole: one or two panes, tools, panels. */
export class App {
  /**
   * @param {HTMLElement} root @param {Source} source @param {Palettes} palettes
   * @param {{compact?: boolean, opened?: (file: string) => void}} [options]
   */
  constructor(root, source, palettes, options = {}) {
    this.root = root;
    this.source = source;
    this.palettes = palettes;
    this.options = options;
    this.main = new Pane(source, palettes);
    /** @type {Pane|null} */ this.second = null;
    this.viewer = this.main.viewer;
    this.title = h('h1');
    this.panes = h('main', {className: 'panes'}, this.main.element);
    this.channels = h('aside', {className: 'side right', 'aria-label': 'Display'}, channelPanel(this.viewer), this.layers());
    this.series = seriesList(this.viewer, (series) => this.open(this.viewer.file ?? '', series));
    this.files = fileList(source, (file) => this.open(file, 0), () => this.viewer.file);
    this.browser = h('aside', {className: 'side left', 'aria-label': 'Choose an image', hidden: true}, this.series, source.list ? this.files.element : null);
    this.metadata = metadataDialog(this.viewer);
    this.help = h('dialog', {className: 'help', 'aria-label': 'Keys'}, h('header', {}, h('h2', {}, 'Keys'), small('close', () => this.help.close())),
      h('table', {}, h('tbody', {}, ...KEYS.map(([k, v]) => h('tr', {}, h('th', {scope: 'row'}, k), h('td', {}, v))))));
    this.note = h('div', {className: 'toast', role: 'status'});
    root.classList.add('bfbridge');
    root.classList.toggle('compact', Boolean(options.compact));
    root.append(this.toolbar(), h('div', {className: 'body'}, this.browser, this.panes, this.channels), this.metadata.dialog, this.help, this.note);
    this.viewer.addEventListener('key', (event) => this.key(/** @type {CustomEvent} */ (event).detail));
    this.viewer.addEventListener('view', () => this.second && follow(this.second.viewer, this.viewer));
    this.viewer.addEventListener('open', () => this.opened());
    this.viewer.addEventListener('change', () => this.changed());
    if (root.clientWidth < 760) this.channels.hidden = true;
  }

  toolbar() {
    const {viewer} = this;
    const toggle = (/** @type {string} */ name, /** @type {string} */ label, /** @type {() => void} */ done) => button(name, label, done, {'aria-pressed': 'false'});
    this.smooth = toggle('smooth', 'Smooth pixels (N)', () => viewer.set({smooth: !viewer.state.smooth}));
    this.length = toggle('ruler', 'Measure a length (M)', () => this.measure('length'));
    this.area = toggle('area', 'Measure an area (P)', () => this.measure('area'));
    this.beside = toggle('compare', 'Second image beside this one', () => this.compare(this.second ? null : viewer.file ?? null));
    const browse = button('menu', 'Files and images', () => {
      this.browser.hidden = !this.browser.hidden;
    });
    const {compact} = this.options;
    return h('div', {className: 'tools', role: 'toolbar', 'aria-label': 'Tools'}, browse, this.title,
      h('span', {className: 'group'}, button('minus', 'Zoom out (-)', () => viewer.zoomBy(1 / 1.5, viewer.width / 2, viewer.height / 2, 160)), button('plus', 'Zoom in (+)', () => viewer.zoomBy(1.5, viewer.width / 2, viewer.height / 2, 160)),
        button('fit', 'Whole image (0)', () => viewer.fit()), h('button', {className: 'icon', title: 'One to one (1)', onclick: () => viewer.actualSize()}, '1:1')),
      h('span', {className: 'group'}, button('turn', 'Rotate (R)', () => viewer.turn(90)), button('flip', 'Mirror (F)', () => viewer.mirror()), this.smooth),
      h('span', {className: 'group'}, this.length, this.area, !compact && this.beside),
      h('span', {className: 'group'}, button('info', 'Metadata (I)', () => this.metadata.open()), button('camera', 'Save a picture (S)', () => this.save()), !compact && button('link', 'Copy a link to this view', () => this.copyLink()),
        button('theme', 'Light or dark', () => this.theme()), button('full', 'Full screen', () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen())), button('help', 'Keys (?)', () => this.help.showModal())),
      button('sliders', 'Channels (C)', () => this.toggleChannels(), {className: 'icon last'}));
  }

  /** Labels and regions of interest. */
  layers() {
    const {viewer} = this;
    const select = h('select', {'aria-label': 'Labels', onchange: () => this.guard(viewer.setOverlay(select.value ? {series: Number(select.value), opacity: Number(opacity.value), picked: 0} : null))});
    const opacity = h('input', {type: 'range', min: '0', max: '1', step: '0.05', value: '0.5', 'aria-label': 'Opacity of labels', oninput: () => viewer.state.overlay && viewer.set({overlay: {...viewer.state.overlay, opacity: Number(opacity.value)}})});
    const picked = h('output');
    const labels = h('div', {className: 'layer'}, h('label', {}, 'Labels', select), h('label', {className: 'wide'}, 'opacity', opacity), picked);
    const rois = h('input', {type: 'checkbox', onchange: () => viewer.set({shapes: rois.checked})});
    const count = h('span');
    const regions = h('label', {className: 'layer'}, rois, 'Regions ', count);
    const element = h('section', {className: 'panel', 'aria-label': 'Layers'}, h('header', {}, h('h2', {}, 'Layers')), labels, regions);
    const show = () => {
      const drawn = viewer.shapes.filter((s) => s.fixed).length;
      rois.checked = viewer.state.shapes;
      count.textContent = `(${drawn})`;
      regions.hidden = !drawn;
      select.value = String(viewer.state.overlay?.series ?? '');
      picked.value = viewer.state.overlay?.picked ? `picked: ${viewer.state.overlay.picked}` : '';
      element.hidden = labels.hidden && regions.hidden;
    };
    viewer.addEventListener('open', () => {
      const info = viewer.info;
      if (!info) return;
      const {width, height} = info.image.levels[0];
      const masks = info.series.filter((s) => s.mask && s.index !== info.image.index && Math.abs(s.sizes.X / width - s.sizes.Y / height) < 0.02);
      select.replaceChildren(h('option', {value: ''}, 'none'), ...masks.map((s) => h('option', {value: String(s.index)}, s.name || `Image ${s.index + 1}`)));
      labels.hidden = !masks.length;
      show();
    });
    viewer.addEventListener('change', show);
    return element;
  }

  /** @param {Promise<unknown>} work */
  guard(work) {
    work.catch((error) => this.main.failed(error));
  }

  /** @param {string} file @param {number} series @param {{state?: Partial<State>, view?: Partial<View>}} [wanted] */
  async open(file, series, wanted) {
    this.title.textContent = file.split('/').pop() ?? file;
    this.title.title = file;
    await this.main.open(file, series, wanted).catch(() => undefined);
  }

  opened() {
    const {viewer} = this, info = /** @type {FileInfo} */ (viewer.info);
    const name = info.image.name && info.image.name !== info.name ? info.image.name : '';
    this.files.element.hidden = !this.files.several();
    this.title.replaceChildren(viewer.file?.split('/').pop() ?? '', h('small', {}, info.series.length > 1 ? name || `image ${info.image.index + 1}` : ''));
    this.options.opened?.(viewer.file ?? '');
    this.files.show();
    if (this.tool) this.measure(this.tool);
    const {image} = info, file = viewer.file ?? '';
    viewer.source.text('ome', file).then((xml) => {
      if (viewer.info?.image !== image || !xml.includes('ROIRef')) return;
      viewer.shapes.push(...shapesOf(xml, image.index));
      viewer.set({});
    }, () => undefined);
  }

  changed() {
    this.smooth?.setAttribute('aria-pressed', String(this.viewer.state.smooth));
    const other = this.second?.viewer;
    if (!other?.info) return;
    const {z, t, smooth} = this.viewer.state, {sizes} = other.info.image;
    other.set({z: Math.min(z, sizes.Z - 1), t: Math.min(t, sizes.T - 1), smooth});
  }

  /** @param {'length'|'area'} kind */
  measure(kind) {
    this.viewer.tool?.end();
    this.tool = this.tool === kind ? undefined : kind;
    this.viewer.tool = this.tool ? new Measure(this.viewer, this.tool) : null;
    this.length?.setAttribute('aria-pressed', String(this.tool === 'length'));
    this.area?.setAttribute('aria-pressed', String(this.tool === 'area'));
    this.main.stage.classList.toggle('measuring', Boolean(this.tool));
    if (this.tool) this.say(this.tool === 'area' ? 'Draw around an area; click for corners, Enter ends.' : 'Drag a line; click for corners, Enter ends.');
  }

  /** Show a second file beside the first, moving together. @param {string|null} file */
  compare(file) {
    this.second?.viewer.close();
    this.second?.element.remove();
    this.second = null;
    this.beside?.setAttribute('aria-pressed', String(Boolean(file)));
    this.panes.classList.toggle('two', Boolean(file));
    if (!file) return;
    const pane = new Pane(this.source, this.palettes, this.viewer.loader);
    this.second = pane;
    const chosen = h('input', {className: 'chosen', value: file, 'aria-label': 'File of the second pane', list: 'bfbridge-files', onchange: () => show(chosen.value)});
    const names = h('datalist', {id: 'bfbridge-files'});
    const folder = file.split('/').slice(0, -1).join('/');
    this.source.list?.(folder).then((found) => names.append(...found.images.map((name) => h('option', {value: folder ? `${folder}/${name}` : name}))), () => undefined);
    pane.element.append(chosen, names);
    this.panes.append(pane.element);
    const show = (/** @type {string} */ name) => pane.open(name, name === this.viewer.file ? this.viewer.info?.image.index ?? 0 : 0, undefined).then(() => follow(pane.viewer, this.viewer), () => undefined);
    pane.viewer.addEventListener('view', () => follow(this.viewer, pane.viewer));
    show(file);
  }

  toggleChannels() {
    this.channels.hidden = !this.channels.hidden;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    /** @type {Record<string, () => void>} */
    const keys = {
      '?': () => this.help.showModal(), i: () => this.metadata.open(), s: () => this.save(), c: () => this.toggleChannels(), m: () => this.measure('length'), p: () => this.measure('area'),
      ' ': () => this.main.play(this.main.playing ? null : this.main.axes[this.main.axes.length - 1]?.axis ?? null),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  save() {
    this.viewer.picture().toBlob((blob) => {
      if (!blob) return;
      const link = h('a', {href: URL.createObjectURL(blob), download: `${(this.viewer.file ?? 'image').split('/').pop()}.png`});
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }

  copyLink() {
    navigator.clipboard?.writeText(location.href).then(() => this.say('Link copied.'), () => this.say('The link is in the address bar.'));
  }

  /** @param {string} text */
  say(text) {
    this.note.textContent = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      this.note.textContent = '';
    }, 4000);
  }

  theme() {
    const dark = getComputedStyle(this.root).colorScheme === 'dark' || (getComputedStyle(this.root).colorScheme !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
    this.root.dataset.theme = dark ? 'light' : 'dark';
    for (const pane of [this.main, this.second]) if (pane?.viewer.info) pane.viewer.background = getComputedStyle(pane.stage).backgroundColor.match(/\d+/g)?.slice(0, 3).map(Number) ?? [0, 0, 0];
    this.viewer.set({});
    this.second?.viewer.set({});
  }
}

/** The view in a link: what a page shows, without the file. @param {Viewer} viewer @returns {string} */
export function toLink(viewer) {
  const {state, goal, info} = viewer;
  const round = (/** @type {number} */ v) => String(Number(v.toPrecision(7)));
  const initial = viewer.defaults();
  const parts = new URLSearchParams({s: String(info?.image.index ?? 0), z: String(state.z), t: String(state.t)});
  if (!viewer.fitting) {
    parts.set('x', round(goal.x));
    parts.set('y', round(goal.y));
    parts.set('zoom', round(goal.zoom));
  }
  if (goal.angle) parts.set('angle', round(goal.angle));
  if (goal.flip) parts.set('flip', '1');
  if (!state.smooth) parts.set('sharp', '1');
  if (state.overlay) parts.set('labels', `${state.overlay.series},${round(state.overlay.opacity)},${state.overlay.picked}`);
  if (JSON.stringify(initial) !== JSON.stringify(state.channels)) {
    parts.set('c', state.channels.map((c) => [c.active ? 1 : 0, c.color.slice(1), round(c.low), round(c.high), round(c.gamma), c.invert ? 1 : 0, round(c.opacity), c.palette ?? ''].join(',')).join(';'));
  }
  return parts.toString();
}

/** @param {string} link @returns {{series: number, wanted: {state: Partial<State>, view: Partial<View>}}} */
export function fromLink(link) {
  const parts = new URLSearchParams(link);
  const number = (/** @type {string} */ name) => {
    const text = parts.get(name), value = Number(text);
    return text === null || !Number.isFinite(value) ? undefined : value;
  };
  /** @type {any} */
  const view = {}, /** @type {any} */ state = {z: number('z'), t: number('t'), smooth: !parts.has('sharp')};
  for (const name of ['x', 'y', 'zoom', 'angle']) if (number(name) !== undefined) view[name] = number(name);
  if (!(view.zoom > 0)) delete view.zoom;
  if (parts.has('flip')) view.flip = true;
  const [series, opacity, picked] = (parts.get('labels') ?? '').split(',').map(Number);
  if (parts.has('labels') && Number.isInteger(series)) state.overlay = {series, opacity: opacity || 0, picked: picked || 0};
  const channels = (parts.get('c') ?? '').split(';').filter(Boolean).map((text) => {
    const [active, color, low, high, gamma, inverted, shown, palette] = text.split(',');
    return {active: active === '1', color: `#${color}`, palette: palette || null, low: Number(low), high: Number(high), gamma: Number(gamma), invert: inverted === '1', opacity: Number(shown)};
  });
  if (channels.length && channels.every((c) => /^#[0-9a-f]{6}$/.test(c.color) && [c.low, c.high, c.opacity].every(Number.isFinite) && c.gamma > 0)) state.channels = channels;
  return {series: number('s') ?? 0, wanted: {state, view}};
}
